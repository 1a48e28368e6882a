import pytest
import timm
import torch
from torch import nn

from fgvc.methods.backbone import Backbone
from fgvc.methods.cells import EVEN

NAME, SMALL = "mobilenetv2_035", {"pad_type": "same"}


def px(backbone: Backbone, side: int | None = None) -> float:
    return backbone.cells(side).displacement * (side or backbone.image_size)


def by_arithmetic(net: nn.Module, side: int, same: bool) -> float:
    """The place of the middle cell by the sums of kernels, strides and borders; a chain of convolutions only."""
    start, step, length = 0.0, 1, side  # of cell 0, between cells, cells
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            kernel, stride = layer.kernel_size[0], layer.stride[0]
            after = -(-length // stride)
            before = max(0, (after - 1) * stride + kernel - length) // 2 if same else layer.padding[0]
            start += step * ((kernel - 1) / 2 - before)
            step, length = step * stride, after
    return start + step * (length - 1) / 2 + 0.5 - side / 2


@pytest.mark.parametrize("side", [64, 96, 65, 72])
@pytest.mark.parametrize("same", [True, False])
def test_of_mobilenet_it_is_the_sum_over_its_layers(side, same):
    arguments = {**SMALL, "pad_type": "same" if same else ""}
    net = timm.create_model(NAME, num_classes=0, **arguments)
    backbone = Backbone(side, NAME, "none", arguments)
    away = 15.5 if same else -15.5
    assert side % 32 or by_arithmetic(net, side, same) == away
    assert px(backbone) == pytest.approx(by_arithmetic(net, side, same), abs=0.05)


@pytest.mark.parametrize(("same", "sign"), [(True, 1), (False, -1)])
def test_pixels_that_are_changed_one_by_one_move_the_middle_cells_as_told(same, sign):
    """The centroid of the stripes that reach the middle cells, over networks of random weights."""
    side, found = 352, []
    for seed in range(6):
        torch.manual_seed(seed)
        backbone = Backbone(side, NAME, "none", {**SMALL, "pad_type": "same" if same else ""}).eval()
        plain = 255 * torch.rand(1, 3, 64, side)
        with torch.no_grad():
            before = backbone(plain).map[..., 5]
            stripes = [plain.clone() for _ in range(side // 8)]
            for i, one in enumerate(stripes):
                one[..., 8 * i : 8 * i + 8] += 10
            reach = (backbone(torch.cat(stripes)).map[..., 5] - before).abs().sum(dim=(1, 2)).double()
        places = 8 * torch.arange(side // 8, dtype=torch.float64) + 4 - side / 2
        found.append(float((reach * places).sum() / reach.sum()))
    assert sign * sum(found) / len(found) == pytest.approx(15.5, abs=5)
    assert px(backbone, 64) == pytest.approx(sign * 15.5, abs=0.05)


@pytest.mark.parametrize("name", ["test_convnext", "edgenext_xx_small"])
def test_layers_that_take_each_pixel_once_leave_their_cells_in_place(name):
    assert Backbone(64, name, "none").cells() == EVEN


@pytest.mark.parametrize("name", ["test_vit", "mobilevit_xxs"])
def test_where_all_places_are_mixed_a_cell_has_none_of_its_own(name):
    assert Backbone(64, name, "none").cells().displacement == 0


@pytest.mark.parametrize("name", ["test_nfnet", "test_resnet", "test_byobnet", "resnetv2_50"])
def test_borders_on_one_side_of_strided_kernels_move_the_cells_up_and_to_the_left(name):
    arguments = {"channels": [8, 8, 8, 8]} if name == "test_resnet" else {}
    arguments = {"layers": (1, 1, 1, 1), "channels": (32, 32, 32, 32)} if name == "resnetv2_50" else arguments
    assert -16 < px(Backbone(64, name, "none", arguments)) < -0.4


def test_it_is_a_matter_of_the_network_and_not_of_its_weights():
    state = torch.get_rng_state()
    first = Backbone(96, NAME, "none", SMALL)
    drawn = torch.get_rng_state()
    where = first.cells()
    assert torch.equal(torch.get_rng_state(), drawn) and not torch.equal(state, drawn)
    nn.init.normal_(first.net.conv_stem.weight)
    assert Backbone(96, NAME, "none", SMALL).cells() == where
    with torch.inference_mode():
        assert px(Backbone(96, NAME, "none", {**SMALL, "pad_type": ""})) == pytest.approx(-15.5, abs=0.05)


def test_a_finer_last_map_is_displaced_by_half_of_its_own_cells():
    finer = Backbone(64, NAME, "none", SMALL, last_stride=1)
    assert px(finer) == pytest.approx(7.5, abs=0.05)
