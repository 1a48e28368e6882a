import math

import pytest
import torch
from fakes.tiny_model import TAXONOMY

from fgvc.errors import UsageError
from fgvc.methods.heads.cosine import CosineHead
from fgvc.methods.losses.ldam import LDAM, margins
from tests.fakes.plain_trunk import Channels

COUNTS = torch.tensor([81, 16, 1, 0, 256])


def slow_cost(logits, wanted, scale, max_margin):
    """One image, in Python floats: a margin off the logits of the named classes, then the softmax."""
    largest = max(1 / n**0.25 for n in COUNTS.tolist() if n)
    margin = [max_margin * (1 / n**0.25) / largest if n else 0.0 for n in COUNTS.tolist()]
    moved = [z - scale * margin[j] if j in wanted else z for j, z in enumerate(logits)]
    total = sum(math.exp(z) for z in moved)
    return -math.log(sum(math.exp(moved[j]) for j in wanted) / total)


def test_margins_fall_with_the_fourth_root_and_the_rarest_class_has_the_largest():
    assert margins(COUNTS, 0.5).tolist() == pytest.approx([0.5 / 3, 0.25, 0.5, 0, 0.125], abs=1e-12)
    assert margins(torch.zeros(3), 0.5).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("scale", "max_margin"), [(1.0, 0.5), (3.0, 0.8)])
def test_costs_are_those_of_a_slow_loop_for_labels_of_any_rank(scale, max_margin):
    loss = LDAM(5, max_margin, scale)
    loss.set_class_counts(COUNTS)
    owls = TAXONOMY.find("Owls")
    below = [leaf for leaf in range(5) if "Owls" in TAXONOMY.path(leaf)]
    labels = torch.tensor([0, 1, 2, 4, owls, -1])
    logits = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    named = [[0], [1], [2], [4], below]
    wanted = [
        slow_cost(row, mine, scale, max_margin)
        for row, mine in zip(logits[:5].tolist(), named, strict=True)
    ]  # fmt: skip
    assert len(below) > 1
    assert loss.of_nodes(logits, labels, TAXONOMY).item() == pytest.approx(sum(wanted) / 5, rel=1e-6)
    leaves = labels.clamp_max(4)[:4]
    assert loss.of_targets(logits[:4], leaves).item() == pytest.approx(sum(wanted[:4]) / 4, rel=1e-6)


def test_an_evaluation_knows_no_margin_and_no_weight():
    loss = LDAM(5, deferred=False)
    loss.set_class_counts(COUNTS)
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2, 4, 4, 1, 0])
    plain = torch.nn.functional.cross_entropy(logits, labels).item()
    assert loss.of_targets(logits, labels).item() > plain + 1
    assert loss.eval().of_targets(logits, labels).item() == pytest.approx(plain, rel=1e-6)


def test_on_a_cosine_head_the_margin_is_taken_off_the_cosine():
    head = CosineHead(TAXONOMY, Channels, scale=30.0, learn_scale=False, loss=lambda size: LDAM(size, 0.5, 30.0))
    head.set_class_counts(COUNTS)
    cosines = torch.tensor([[0.9, 0.2, 0.8, -0.5, 0.1]], dtype=torch.float64)
    cost = head.leaf_loss(30 * cosines, torch.tensor([2]))
    moved = cosines.clone()
    moved[0, 2] -= 0.5
    assert cost.item() == pytest.approx(-(30 * moved).log_softmax(dim=1)[0, 2].item(), rel=1e-5)


@pytest.mark.parametrize("arguments", [{"max_margin": -0.1}, {"scale": 0.0}, {"scale": math.nan}, {"beta": 1.5}])
def test_numbers_that_make_no_sense_are_refused(arguments):
    with pytest.raises(UsageError, match="LDAM: "):
        LDAM(3, **arguments)
