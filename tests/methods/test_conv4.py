import pytest
import timm
import torch
from torch.nn.functional import batch_norm, conv2d

from fgvc.methods.backbone import Backbone
from fgvc.methods.pooling.native import NativePooling


def by_hand(net, images):
    """Convolution, the norm of evaluation, ReLU, the largest of each 2 x 2 by slicing."""
    x = images
    for block in net.blocks:
        norm = block.norm
        x = batch_norm(
            conv2d(x, block.conv.weight, padding=1), norm.running_mean, norm.running_var, norm.weight, norm.bias
        )
        h, w = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
        x = x.clamp_min(0)[:, :, :h, :w]
        corners = [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        x = torch.stack(corners).amax(dim=0)
    return x


def test_84_pixels_become_64_x_5_x_5_and_the_numbers_are_those_of_the_layers():
    backbone = Backbone(84, "conv4", "none").eval()
    for block in backbone.net.blocks:
        block.norm.running_mean.normal_(generator=torch.Generator().manual_seed(1))
        block.norm.bias.data.normal_(generator=torch.Generator().manual_seed(2))
    images = torch.randint(256, (2, 3, 84, 84), generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        found = backbone(images).map
        torch.testing.assert_close(found, by_hand(backbone.net, (images / 255 - mean) / std), atol=1e-4, rtol=1e-4)
    assert found.shape == (2, 64, 5, 5)
    assert (backbone.channels, backbone.grid, backbone.stride) == (64, [5, 5], 16)


def test_it_has_the_papers_number_of_numbers():
    weights = 3 * 64 * 9 + 3 * 64 * 64 * 9
    norms = 4 * 2 * 64
    assert sum(p.numel() for p in Backbone(84, "conv4", "none").parameters()) == weights + norms == 112_832


@pytest.mark.parametrize(("name", "width"), [("conv4", 64), ("resnet12", 640)])
def test_timm_makes_it_with_a_classifier_and_gives_it_another(name, width):
    net = timm.create_model(name, num_classes=7).eval()
    with torch.no_grad():
        assert net(torch.zeros(2, 3, 84, 84)).shape == (2, 7)
        net.reset_classifier(3)
        assert net(torch.zeros(2, 3, 84, 84)).shape == (2, 3)
        net.reset_classifier(0)
        assert net(torch.zeros(2, 3, 84, 84)).shape == (2, width)
    assert net.get_classifier() is net.head


@pytest.mark.parametrize(("name", "width"), [("conv4", 64), ("resnet12", 640)])
def test_its_own_pooling_is_the_mean_and_its_last_stage_can_be_copied(name, width):
    backbone = Backbone(84, name, "none").eval()
    pooling = NativePooling(width).attach(backbone)
    stage = backbone.new_last_stage()
    with torch.no_grad():
        features = backbone(torch.rand(2, 3, 84, 84) * 255)
        torch.testing.assert_close(pooling.pool(features), features.map.mean(dim=(2, 3)))
        torch.testing.assert_close(stage(features.trunk).map, features.map)
