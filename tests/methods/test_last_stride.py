import pytest
import timm
import torch
from fakes.tiny_model import TAXONOMY
from torch import nn

from fgvc.errors import UsageError
from fgvc.images.resizing import EvalResize
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.hse import HSEHead
from fgvc.methods.recognizers.whole_image import WholeImage
from fgvc.model_file.architecture import build
from fgvc.model_file.model import Model, load, save

# a family by one of its networks, and the strides of its last stage as they read in timm's code
RESNET_D = {"layer4.0.conv1": (1, 1), "layer4.0.downsample.0": nn.Identity}
BY_HAND = {
    "test_resnet": RESNET_D,
    "resnet18": {"layer4.0.conv1": (1, 1), "layer4.0.downsample.0": (1, 1)},
    "resnet50": {"layer4.0.conv2": (1, 1), "layer4.0.downsample.0": (1, 1)},
    "mobilenetv2_100": {"blocks.5.0.conv_dw": (1, 1)},
    "tf_efficientnet_lite0": {"blocks.5.0.conv_dw": (1, 1)},
    "regnety_002": {"s4.b1.conv2.conv": (1, 1), "s4.b1.downsample.conv": (1, 1)},
    "vgg11": {"features.20": nn.Identity},
}


def pictures(size: int) -> torch.Tensor:
    return torch.randint(256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def refusal(name: str, size: int = 64, last_stride: int = 1) -> str:
    with pytest.raises(UsageError) as caught:
        Backbone(size, name, "none", last_stride=last_stride)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", BY_HAND)
def test_the_map_is_that_of_timms_network_with_strides_set_by_hand(name):
    torch.manual_seed(0)
    backbone = Backbone(96, name, "none", last_stride=1).eval()
    net = timm.create_model(name, num_classes=0).eval()
    own = backbone.net.state_dict()
    net.load_state_dict({key: own.get(key, value) for key, value in net.state_dict().items()})  # but for the head
    for place, change in BY_HAND[name].items():
        layer = net.get_submodule(place)
        if isinstance(change, tuple):
            assert layer.stride == (2, 2) and layer.dilation == (1, 1)
            layer.stride = change
        else:
            parent, _, key = place.rpartition(".")
            setattr(net.get_submodule(parent), key, change())
    normalised = (pictures(96) - backbone.mean) / backbone.std
    with torch.no_grad():
        expected = nn.Sequential(net.features)(normalised) if name == "vgg11" else net.forward_features(normalised)
        torch.testing.assert_close(backbone(pictures(96)).map, expected)
    assert expected.shape[1:] == (backbone.channels, *backbone.grid) == (backbone.channels, 6, 6)
    assert backbone.stride == 16
    assert {module.dilation for module in backbone.modules() if isinstance(module, nn.Conv2d)} == {(1, 1)}


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv2_100", "test_convnext"])
@pytest.mark.parametrize("size", [65, 96, 100, 160])
def test_grid_and_stride_follow_and_the_weights_of_the_plain_network_fit(name, size):
    plain, finer = Backbone(size, name, "none"), Backbone(size, name, "none", last_stride=1)
    finer.load_state_dict(plain.state_dict())
    assert (plain.stride, finer.stride) == (32, 16)
    assert all(abs(b - 2 * a) <= 1 for a, b in zip(plain.grid, finer.grid, strict=True))
    with torch.no_grad():
        assert finer(pictures(size)).map.shape == (2, plain.channels, *finer.grid)


def test_a_convolution_without_border_sees_at_every_place_what_it_saw_before():
    """ConvNeXt's 2 x 2 kernel at even places reads the same four numbers as with its stride."""
    plain = timm.create_model("test_convnext", num_classes=0).eval()
    finer = Backbone(96, "test_convnext", "none", last_stride=1).eval().net
    layers = [net.stages[-1].downsample for net in (plain, finer)]
    layers[1].load_state_dict(layers[0].state_dict())
    features = torch.randn(2, plain.stages[-1].downsample[1].in_channels, 6, 6)
    with torch.no_grad():
        coarse, fine = (layer(features) for layer in layers)
    assert fine.shape[2:] == (6, 6)
    torch.testing.assert_close(fine[:, :, ::2, ::2], coarse)


def test_heads_still_get_copies_of_the_same_last_stage():
    model = WholeImage(TAXONOMY, 64, lambda size: Backbone(size, "test_resnet", "none", last_stride=1), HSEHead)
    names = {name for stage in model.last_stages() for name in stage.names}
    assert names == {"layer4"}
    sum(model.loss(model(pictures(64)), torch.tensor([0, 2])).values()).backward()
    assert model.backbone(pictures(64)).map.shape[2:] == (4, 4)


def test_the_model_file_keeps_it(tmp_path):
    plain = {
        "class_path": "WholeImage",
        "init_args": {
            "backbone": {
                "class_path": "Backbone",
                "init_args": {"name": "test_resnet", "weights": "none", "last_stride": 1},
            }
        },
    }
    recognizer = build(plain, TAXONOMY, 64).eval()
    save(Model(recognizer, plain, EvalResize(64), {}), tmp_path)
    again = load(tmp_path).recognizer.eval()
    assert again.backbone.grid == [4, 4]
    with torch.no_grad():
        expected, found = (one(pictures(64)).logits["species"] for one in (recognizer, again))
    torch.testing.assert_close(found, expected)


def test_networks_without_such_a_stride_are_refused():
    for name in ("test_vit", "swin_tiny_patch4_window7_224"):
        message = refusal(name, 160 if name == "test_vit" else 224)
        assert f"{name}: last_stride 1: its last stage has no strided convolution; leave last_stride out" in message
    assert "inception_v3: last_stride 1: it does not run so (" in refusal("inception_v3", 128)
    assert "last_stride 2; give 1, or leave it out" in refusal("test_resnet", last_stride=2)
    assert "its map would be [1, 1], not twice as fine as [1, 1]" in refusal("test_resnet", 16)
