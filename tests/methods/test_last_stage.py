import pytest
import timm
import torch

from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features, Layout, from_network, layout_of, to_network
from fgvc.methods.last_stage import LastStage, cut

FAMILIES = {
    "test_resnet": 64,
    "test_vit": 64,
    "mobilenetv2_100": 64,
    "convnext_atto": 64,
    "swin_tiny_patch4_window7_224": 224,
    "regnety_002": 64,
    "densenet121": 64,
    "inception_v3": 96,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_copy_of_the_last_stage_continues_the_trunk_to_the_same_map(name):
    side = FAMILIES[name]
    backbone = Backbone(side, name, "none").eval()
    stage = backbone.new_last_stage().eval()
    with torch.no_grad():
        features = backbone(torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8))
        again = stage(features.trunk)
        assert torch.equal(again.map, features.map)
        assert (again.prefix is None) == (features.prefix is None)


def test_the_copy_has_weights_of_its_own():
    backbone = Backbone(64, "test_resnet", "none")
    first, second = backbone.new_last_stage(), backbone.new_last_stage()
    own = dict(backbone.net.layer4.named_parameters())
    copied = dict(first.steps[0].named_parameters())
    assert own.keys() == copied.keys()
    for name, value in own.items():
        assert torch.equal(copied[name], value) and copied[name] is not value
        assert copied[name] is not dict(second.steps[0].named_parameters())[name]


def test_there_is_no_trunk_unless_a_copy_was_asked_for():
    backbone = Backbone(64, "test_resnet", "none").eval()
    image = torch.zeros(1, 3, 64, 64)
    assert backbone(image).trunk is None
    backbone.new_last_stage()
    assert backbone(image).trunk.shape == (1, 192, 4, 4)


def test_gradients_reach_the_trunk_through_the_copy():
    backbone = Backbone(64, "test_resnet", "none")
    stage = backbone.new_last_stage()
    stage(backbone(torch.rand(2, 3, 64, 64) * 255).trunk).map.sum().backward()
    assert all(p.grad is not None for p in backbone.net.layer3.parameters())
    assert all(p.grad is not None for p in stage.parameters())
    assert all(p.grad is None for p in backbone.net.layer4.parameters())


def test_cutting_leaves_the_network_as_it_was():
    net = timm.create_model("test_resnet", num_classes=0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert cut(net, 64) == ("layer3", ["layer4"])
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_what_comes_before_the_last_stage_is_everything_else():
    backbone = Backbone(64, "test_resnet", "none")
    backbone.new_last_stage()
    before = {id(p) for module in backbone.before_last_stage() for p in module.parameters()}
    own = {id(p) for p in backbone.net.layer4.parameters()}
    assert before and not before & own
    assert before | own == {id(p) for p in backbone.net.parameters()}


@pytest.mark.parametrize(
    "name, reason", [("hrnet_w18_small", "copied"), ("eva02_tiny_patch14_224", "more"), ("vgg11", "can learn")]
)
def test_a_network_that_cannot_be_cut_is_refused_in_one_line(name, reason):
    side = 224 if "eva" in name else 64
    with pytest.raises(UsageError, match=f"its last stage cannot be copied.*share it.*{reason}|{reason}") as caught:
        Backbone(side, name, "none").new_last_stage()
    assert "\n" not in str(caught.value)


def test_tokens_lose_their_prefix_and_form_the_grid():
    tokens = torch.arange(1 + 2 * 4).view(1, -1, 1).float()
    layout = layout_of(timm.create_model("test_vit", num_classes=0, img_size=(32, 64)), tokens)
    features = from_network(tokens, layout)
    assert features.map.tolist() == [[[[1, 2, 3, 4], [5, 6, 7, 8]]]]
    assert features.prefix.tolist() == [[[0]]]
    assert torch.equal(to_network(features, layout), tokens)
    assert to_network(Features(features.map), layout)[0, 0] == 4.5  # the mean stands for a token that is not there


def test_a_stage_is_its_modules_in_turn():
    layers = [torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU()]
    stage = LastStage({"a": layers[0], "b": layers[1]}, Layout("nchw"))
    image = torch.randn(1, 3, 2, 2)
    assert torch.equal(stage(image).map, layers[1](layers[0](image)))


def test_a_copy_spares_from_decay_what_the_network_spares():
    backbone = Backbone(224, "swin_tiny_patch4_window7_224", "none")
    spared = set(backbone.net.no_weight_decay())
    copied = backbone.new_last_stage()
    wanted = {name.replace("layers.3.", "steps.0.", 1) for name in spared if name.startswith("layers.3.")}
    assert wanted and copied.no_weight_decay() == wanted <= {name for name, _ in copied.named_parameters()}
