import inspect
import math

import pytest
import torch
from fakes.tiny_model import TAXONOMY

from fgvc.errors import UsageError
from fgvc.images.resizing import EvalResize
from fgvc.methods.heads.base import Head
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.heads.per_level import PerLevelHead
from fgvc.methods.losses.base import ClassLoss, named
from fgvc.methods.losses.cross_entropy import CrossEntropy
from fgvc.methods.slots import known_classes
from fgvc.model_file.architecture import build
from fgvc.model_file.model import Model, load, save
from tests.fakes.plain_trunk import Channels

LOSSES = {name: kind for name, kind in known_classes().items() if issubclass(kind, ClassLoss)}


class Counted(CrossEntropy):
    """Keeps what it is told."""

    def set_class_counts(self, counts):
        self.counts = counts.tolist()


def test_the_named_probability_is_the_sum_over_the_named_classes():
    log_p = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).double().log_softmax(dim=1)
    inside = torch.tensor([[1, 0, 0, 0, 0], [0, 1, 1, 0, 1], [1, 1, 1, 1, 1]]).bool()
    p = log_p.exp().tolist()
    wanted = [math.log(p[0][0]), math.log(p[1][1] + p[1][2] + p[1][4]), 0]
    assert named(log_p, inside).tolist() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_an_inner_node_costs_what_a_leaf_in_its_place_would(name):
    """Merge the leaves of `Owls` by hand: one class, whose probability is their sum."""
    node = TAXONOMY.find("Owls")
    own = [leaf for leaf in range(5) if TAXONOMY.path(leaf)[: len(TAXONOMY.path(node))] == TAXONOMY.path(node)]
    others = [leaf for leaf in range(5) if leaf not in own]
    logits = 2 * torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    merged = torch.cat([logits[:, own].logsumexp(dim=1, keepdim=True), logits[:, others]], dim=1)
    found = LOSSES[name](5).of_nodes(logits, torch.full((4,), node), TAXONOMY)
    wanted = LOSSES[name](merged.shape[1]).of_targets(merged, torch.zeros(4, dtype=torch.int64))
    assert 1 < len(own) < 5
    assert found.item() == pytest.approx(wanted.item(), rel=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_the_slopes_are_those_of_finite_differences(name):
    labels = torch.tensor([0, 3, -1, TAXONOMY.find("Owls"), 4])
    logits = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    loss = LOSSES[name](5)
    assert torch.autograd.gradcheck(lambda x: loss.of_nodes(x, labels, TAXONOMY), logits)
    assert torch.autograd.gradcheck(lambda x: loss.of_targets(x, labels.clamp_max(4)), logits)


@pytest.mark.parametrize("name", LOSSES)
def test_images_without_a_label_cost_nothing_and_move_nothing(name):
    logits = torch.randn(3, 5, requires_grad=True)
    labels = torch.tensor([-1, 2, -1])
    for cost in (LOSSES[name](5).of_targets, lambda x, y: LOSSES[name](5).of_nodes(x, y, TAXONOMY)):
        slope = torch.autograd.grad(cost(logits, labels), logits)[0]
        assert not slope[[0, 2]].any() and slope[1].any()
        assert cost(logits, labels).item() == pytest.approx(cost(logits[1:2], labels[1:2]).item(), rel=1e-6)
        alone = cost(logits, torch.full((3,), -1))
        assert alone.item() == 0 and not torch.autograd.grad(alone, logits)[0].any()


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_finite_where_the_network_is_sure_and_wrong(name):
    logits = torch.tensor([[200.0, -200.0, 0.0, 0.0, 0.0]], requires_grad=True)
    for label in (1, 0, TAXONOMY.find("Owls")):
        cost = LOSSES[name](5).of_nodes(logits, torch.tensor([label]), TAXONOMY)
        assert cost.isfinite() and torch.autograd.grad(cost, logits)[0].isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_keeps_nothing_in_the_weights(name):
    assert not LOSSES[name](5).state_dict()


def test_a_head_tells_the_loss_of_each_level_its_own_counts():
    head = PerLevelHead(TAXONOMY, Channels, loss=Counted)
    counts = torch.tensor([100, 10, 1, 50, 3])
    head.set_class_counts(counts)
    for level, loss in zip(TAXONOMY.levels, head.losses, strict=True):
        wanted = [0] * TAXONOMY.size(level)
        for leaf in range(5):
            wanted[int(TAXONOMY.targets(torch.tensor([leaf]), level))] += int(counts[leaf])
        assert loss.counts == wanted


@pytest.mark.parametrize("name", [name for name, kind in LOSSES.items() if not kind.smooths])
def test_label_smoothing_beside_a_loss_without_a_smoothed_target_is_refused(name):
    with pytest.raises(UsageError, match=f"LinearHead: label_smoothing 0.1 with {name}.*give label_smoothing 0"):
        LinearHead(TAXONOMY, Channels, label_smoothing=0.1, loss=LOSSES[name])


HEADS = {name: kind for name, kind in known_classes().items() if issubclass(kind, Head)}
OWN = {"SoftLabelHead", "HXEHead"}
LABELS = [0, 3, -1, TAXONOMY.find("Owls"), 4, 1]


def part(kind, /, **arguments):
    return {"class_path": kind, "init_args": arguments}


def built(kind, loss, head=None):
    torch.manual_seed(0)
    arguments = {"backbone": part("Backbone", name="test_resnet", weights="none")}
    arguments |= {"loss": loss} if head is None else {"head": part(head, loss=loss)}
    return build(part(kind, **arguments), TAXONOMY, 64).train()


def answered(recognizer):
    torch.manual_seed(1)
    images = torch.randint(0, 256, (6, 3, 64, 64)).float()
    return recognizer(images)


def merged_probability(logits, label, level):
    """p of the label in float64, over the classes of a level, leaf by leaf; None where the label is coarser."""
    wanted = int(TAXONOMY.targets(torch.tensor([label]), level))
    p = logits.detach().double().softmax(dim=0)
    if wanted >= 0:
        return p[wanted].item()
    if level != TAXONOMY.leaf_level or label < 0:
        return None
    path = TAXONOMY.path(label)
    return sum(p[leaf].item() for leaf in range(5) if TAXONOMY.path(leaf)[: len(path)] == path)


def by_hand(logits, level, inner, q=0.7):
    """Mean of (1 - p^q) / q over the labels; an inner node counts where the head uses it."""
    known = [label for label in LABELS if inner or TAXONOMY.targets(torch.tensor([label]), level) >= 0]
    found = [merged_probability(logits[LABELS.index(label)], label, level) for label in known]
    costs = [(1 - p**q) / q for p in found if p is not None]
    return sum(costs) / len(costs)


@pytest.mark.parametrize("head", sorted(set(HEADS) - OWN))
def test_every_head_takes_a_loss_for_its_classes(head):
    recognizer = built("WholeImage", part("GeneralisedCrossEntropy", q=0.7), head)
    prediction = answered(recognizer)
    terms = recognizer.loss(prediction, torch.tensor(LABELS))
    scores = {level: [logits] for level, logits in prediction.logits.items()}
    scores |= getattr(prediction, "classifiers", {})  # HSE: each classifier has its term, and their mean has one
    checked = 0
    for level, answers in scores.items():
        name = "classes" if "classes" in terms and level == TAXONOMY.leaf_level else level
        if name not in terms:
            continue
        answers = [*answers, prediction.logits[level]] if len(answers) > 1 else answers
        wanted = sum(by_hand(logits, level, head in ("LinearHead", "CosineHead", "HAFHead")) for logits in answers)
        assert terms[name].item() == pytest.approx(wanted, rel=1e-4), name
        checked += 1
    assert checked == (1 if "classes" in terms else len(TAXONOMY.levels))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("head", sorted(set(HEADS) - OWN))
def test_every_loss_moves_the_classifiers_of_every_head(head, name):
    recognizer = built("WholeImage", part(name), head)
    sum(recognizer.loss(answered(recognizer), torch.tensor(LABELS)).values()).backward()
    slopes = [p.grad for p in recognizer.head.parameters() if p.grad is not None]
    assert slopes and all(slope.isfinite().all() for slope in slopes) and any(slope.any() for slope in slopes)
    assert set(recognizer.head.state_dict()) == set(HEADS[head](TAXONOMY, recognizer.backbone).state_dict())


@pytest.mark.parametrize("kind", ["SpatialTransformer", "WSDAN"])
def test_recognizers_with_a_classifier_of_their_own_take_a_loss(kind):
    recognizer = built(kind, part("GeneralisedCrossEntropy", q=0.7))
    prediction = answered(recognizer)
    terms = recognizer.loss(prediction, torch.tensor(LABELS))
    views = prediction.views or {"classes": prediction}
    for name, view in views.items():
        wanted = by_hand(view.logits["species"], "species", inner=True) / len(views)
        assert terms[name].item() == pytest.approx(wanted, rel=1e-4)


def test_heads_whose_loss_is_their_own_take_no_other():
    assert {name for name, kind in HEADS.items() if "loss" not in inspect.signature(kind).parameters} == OWN
    for name in OWN:
        with pytest.raises(UsageError, match=f"{name} has no argument 'loss'"):
            built("WholeImage", part("CrossEntropy"), name)


def test_the_epoch_reaches_every_loss():
    recognizer = built("WholeImage", part("GeneralisedCrossEntropy"), "PerLevelHead")
    recognizer.begin_epoch(7)
    assert [loss.epoch for loss in recognizer.losses()] == [7] * len(TAXONOMY.levels)


def test_a_part_with_a_loss_lives_in_a_model_file(tmp_path):
    plain = part(
        "WholeImage",
        backbone=part("Backbone", name="test_resnet", weights="none"),
        head=part("LinearHead", loss=part("GeneralisedCrossEntropy", q=0.4)),
    )
    recognizer = build(plain, TAXONOMY, 32).eval()
    save(Model(recognizer, plain, EvalResize(32)), tmp_path / "model")
    found = load(tmp_path / "model")
    assert found.recognizer.head.losses[-1].q == 0.4
    images = torch.randint(0, 256, (2, 3, 32, 32)).float()
    assert torch.equal(found.recognizer.eval()(images).logits["species"], recognizer(images).logits["species"])


def test_a_pooling_is_no_loss():
    with pytest.raises(UsageError, match="it takes the name and arguments of a ClassLoss"):
        built("WholeImage", part("GeMPooling"), "LinearHead")
