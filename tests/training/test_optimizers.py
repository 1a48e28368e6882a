import math
from itertools import pairwise

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from fgvc.errors import UsageError
from fgvc.training.optimizers import Rates, build_optimizer, check_settings, parameter_groups, warmup_cosine

NETS = ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "mobilenetv2_100"]


class Wrapped(nn.Module):
    """As ours: the timm net one attribute down, a head with a matrix, a bias, a vector and a scalar beside it."""

    def __init__(self, *names):
        super().__init__()
        self.trunks = nn.ModuleList(nn.Sequential(timm.create_model(name, num_classes=0)) for name in names)
        self.head = nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.vector = nn.Parameter(torch.ones(5))

    @property
    def nets(self):
        return [trunk[0] for trunk in self.trunks]


def by_parameter(groups):
    return {id(parameter): group for group in groups for parameter in group["params"]}


@pytest.mark.parametrize("name", NETS)
def test_rates_are_those_of_timm_for_the_net_with_its_own_classifier(name):
    model = Wrapped(name)
    whole = timm.create_model(name, num_classes=7)
    expected = {}
    exempt = getattr(whole, "no_weight_decay", set)()
    groups = param_groups_layer_decay(whole, weight_decay=0.05, layer_decay=0.7, no_weight_decay_list=exempt)
    placed = by_parameter(groups)
    for key, parameter in whole.named_parameters():
        group = placed[id(parameter)]
        expected[key] = (0.01 * group["lr_scale"], group["weight_decay"])
    # What counts is what the optimizer holds.
    optimizer = build_optimizer(model, model.nets, "adamw", lr=0.01, weight_decay=0.05, layer_decay=0.7)
    found = by_parameter(optimizer.param_groups)
    rates = set()
    for key, parameter in model.nets[0].named_parameters():
        group = found[id(parameter)]
        assert (group["lr"], group["weight_decay"]) == pytest.approx(expected[key]), key
        rates.add(group["lr"])
    assert len(rates) > 5
    assert max(rates) <= 0.01 and min(rates) < 0.002
    assert found[id(model.head.weight)]["lr"] == 0.01


def test_timm_alone_loses_the_decay_in_a_wrapped_net(caplog):
    with caplog.at_level("WARNING", logger="timm"):  # fgvc's commands silence it in the process they run in
        groups = param_groups_layer_decay(Wrapped("resnet18"), layer_decay=0.7)
    assert {group["lr_scale"] for group in groups} == {1.0}
    assert "no effect" in caplog.text


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("layer_decay", [None, 0.8])
def test_every_parameter_is_in_one_group_and_only_once_frozen_ones_too(name, layer_decay):
    model = Wrapped(name)
    model.nets[0].requires_grad_(False)
    groups = parameter_groups(model.nets, model, 0.1, 0.05, layer_decay=layer_decay)
    placed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(placed) == sorted(id(parameter) for parameter in model.parameters())
    names = [group["name"] for group in groups]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", NETS)
def test_weight_decay_spares_what_timm_spares(name):
    model = Wrapped(name)
    net = model.nets[0]
    placed = by_parameter(parameter_groups([net], model, 0.1, 0.05))
    expected = by_parameter(
        param_groups_weight_decay(net, 0.05, no_weight_decay_list=getattr(net, "no_weight_decay", set)())
    )
    for key, parameter in net.named_parameters():
        assert placed[id(parameter)]["weight_decay"] == expected[id(parameter)]["weight_decay"], key
    spared = {id(p) for p in (model.head.bias, model.scale, model.vector)}
    assert all(placed[one]["weight_decay"] == 0 for one in spared)
    assert placed[id(model.head.weight)]["weight_decay"] == 0.05


def test_a_position_embedding_is_spared_by_its_name():
    model = Wrapped("vit_tiny_patch16_224")
    placed = by_parameter(parameter_groups(model.nets, model, 0.1, 0.05))
    assert model.nets[0].pos_embed.ndim == 3
    assert placed[id(model.nets[0].pos_embed)]["name"] == "backbone.no_decay"


def test_the_head_learns_at_its_own_ratio_and_groups_tell_their_names():
    model = Wrapped("resnet18")
    groups = {group["name"]: group for group in parameter_groups(model.nets, model, 0.1, 0.05, head_lr_ratio=10)}
    assert set(groups) == {"backbone.decay", "backbone.no_decay", "head.decay", "head.no_decay"}
    assert groups["backbone.decay"]["lr"] == 0.1
    assert groups["head.decay"]["lr"] == groups["head.no_decay"]["lr"] == pytest.approx(1.0)
    for group in groups.values():
        assert (group["initial_lr"], group["initial_weight_decay"]) == (group["lr"], group["weight_decay"])


def test_several_nets_keep_their_layers_apart_and_a_shared_one_is_counted_once():
    model = Wrapped("resnet18", "mobilenetv2_100")
    first, second = model.nets
    groups = parameter_groups([first, second, first], model, 0.1, 0.05, layer_decay=0.5)
    placed = by_parameter(groups)
    assert placed[id(first.conv1.weight)]["name"] == "backbone0.layer00.decay"
    assert placed[id(first.conv1.weight)]["lr"] == pytest.approx(0.1 * 0.5**9)  # stem, then 8 blocks, then the head
    assert placed[id(second.conv_stem.weight)]["name"] == "backbone1.layer00.decay"
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_a_part_without_known_layers_lies_one_below_the_head():
    model = Wrapped("resnet18")
    model.branch = nn.Conv2d(2, 2, 1)
    placed = by_parameter(parameter_groups([*model.nets, model.branch], model, 0.1, 0.05, layer_decay=0.5))
    assert placed[id(model.branch.weight)]["lr"] == pytest.approx(0.05)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb", "lion", "lookahead_adamw"])
def test_a_step_of_timms_optimizers_moves_each_group_by_its_rate(name):
    torch.manual_seed(0)
    model = Wrapped("resnet18")
    optimizer = build_optimizer(model, model.nets, name, lr=1e-3, weight_decay=0.05, head_lr_ratio=10)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert not any(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    if name == "sgd":
        assert (optimizer.defaults["nesterov"], optimizer.defaults["momentum"]) == (True, 0.9)
        # Nesterov's first step with gradient 1: lr * (1 + 0.9); no decay on the bias.
        moved = (before[-1] - model.head.bias).mean().item()
        assert moved == pytest.approx(10 * 1e-3 * 1.9, rel=1e-4)


def test_the_optimizers_state_is_plain_data(tmp_path):
    model = Wrapped("resnet18")
    optimizer = build_optimizer(model, model.nets, layer_decay=0.7)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    stored = torch.load(tmp_path / "state.pt", weights_only=True)
    assert stored["param_groups"][0]["name"] == "backbone.layer00.decay"


def test_an_unknown_optimizer_and_unknown_arguments_are_one_line():
    model = Wrapped("resnet18")
    with pytest.raises(UsageError, match="no 'adam_w'; did you mean 'adamw'"):
        build_optimizer(model, model.nets, "adam_w")
    with pytest.raises(UsageError, match="no 'foo_adamw'"):  # timm itself would take adamw and say nothing
        build_optimizer(model, model.nets, "foo_adamw")
    with pytest.raises(UsageError, match=r"'adamw'.*momentun") as caught:
        build_optimizer(model, model.nets, "adamw", momentun=0.9)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layer_decay", [0.0, 1.5])
def test_a_layer_decay_out_of_range_is_refused(layer_decay):
    model = Wrapped("resnet18")
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        parameter_groups(model.nets, model, 0.1, 0.05, layer_decay=layer_decay)


def test_a_layer_decay_that_would_be_lost_is_refused():
    model = Wrapped("resnet18")
    with pytest.raises(UsageError, match=r"layers of .'Sequential'.; use null"):
        parameter_groups([model.trunks[0]], model, 0.1, 0.05, layer_decay=0.7)


def test_the_curve_rises_then_falls_by_hand():
    curve = [warmup_cosine(step, 9, 4, 0.2) for step in range(11)]
    assert curve[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert curve[5] == pytest.approx(0.2 + 0.8 * math.cos(math.pi / 10) ** 2)  # (1 + cos 2x) / 2 = cos^2 x
    assert curve[9:] == pytest.approx([0.2, 0.2])
    assert all(late < early for early, late in pairwise(curve[4:10]))


def test_the_curve_without_warm_up_is_torchs_cosine():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for step in range(20):
        assert warmup_cosine(step, 20) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_a_run_that_is_all_warm_up_does_not_divide_by_zero():
    assert [warmup_cosine(step, 2, 2) for step in range(3)] == [0.5, 1.0, 1.0]


def test_groups_keep_their_ratios_under_pytorchs_scheduler():
    model = Wrapped("resnet18")
    optimizer = build_optimizer(model, model.nets, "sgd", lr=0.1, head_lr_ratio=10, layer_decay=0.7)
    peaks = [group["lr"] for group in optimizer.param_groups]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, 10, 2))
    for step in range(10):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([warmup_cosine(step, 10, 2) * peak for peak in peaks])
        optimizer.step()
        scheduler.step()
    assert len(set(peaks)) > 5


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"lr": 0}, "model.lr: 0; it must be a number above 0 (usual: 0.0001 to 0.01)"),
        ({"lr": math.nan}, "model.lr: nan; it must be a number above 0 (usual: 0.0001 to 0.01)"),
        ({"lr": math.inf}, "model.lr: inf; it must be a number above 0 (usual: 0.0001 to 0.01)"),
        ({"weight_decay": -0.1}, "model.weight_decay: -0.1; it must be a number of at least 0"),
        ({"warmup_epochs": math.nan}, "model.warmup_epochs: nan; it must be a number of at least 0"),
        ({"optimizer": "adamv"}, "model.optimizer: timm has no 'adamv'; did you mean 'adam' or 'radam' or 'nadam'?"),
        ({"optimizer": "x" * 300}, f"model.optimizer: timm has no '{'x' * 80}'; usual are adamw, sgd and lamb"),
        ({"layer_decay": 2}, "layer_decay: 2; it must be above 0 and at most 1, or null (usual: 0.65 to 0.9)"),
    ],
)
def test_settings_are_refused_by_their_key(settings, line):
    good = {"optimizer": "adamw", "lr": 1e-3, "layer_decay": None, "weight_decay": 0.0}
    check_settings(**good)
    with pytest.raises(UsageError) as caught:
        check_settings(**{**good, **settings})
    assert str(caught.value) == line


def test_the_rates_of_a_step_are_those_of_the_phase_times_the_factor():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    groups = parameter_groups([net[0]], net, lr=0.1, weight_decay=0.05, head_lr_ratio=5.0)
    rates = Rates(0.1, 0.05)
    rates.initial = [group["initial_lr"] for group in groups]
    rates.lr, rates.weight_decay = 0.02, 0.3  # a phase
    rates.set(groups, 0.5)
    by_name = {group["name"]: (group["lr"], group["weight_decay"]) for group in groups}
    assert by_name == {
        "backbone.decay": (pytest.approx(0.01), 0.3),
        "backbone.no_decay": (pytest.approx(0.01), 0.0),
        "head.decay": (pytest.approx(0.05), 0.3),
        "head.no_decay": (pytest.approx(0.05), 0.0),
    }
