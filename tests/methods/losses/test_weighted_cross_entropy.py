import math

import pytest
import torch
from fakes.tiny_model import TAXONOMY

from fgvc.errors import UsageError
from fgvc.methods.losses.weighted_cross_entropy import WeightedCrossEntropy

COUNTS = torch.tensor([30, 8, 3, 0, 1])


def slow_weights(beta):
    """1 over (1 + beta + ... + beta^(n - 1)), with a mean of 1 over the training images."""
    raw = [1 / sum(beta**j for j in range(n)) if n else 0.0 for n in COUNTS.tolist()]
    mean = sum(n * w for n, w in zip(COUNTS.tolist(), raw, strict=True)) / sum(COUNTS.tolist())
    return [w / mean for w in raw]


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 1.0])
def test_costs_are_those_of_torch_with_the_weights_of_a_slow_loop(beta):
    loss = WeightedCrossEntropy(5, beta)
    loss.set_class_counts(COUNTS)
    labels = torch.tensor([0, 1, 2, 4, 0])
    logits = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor(slow_weights(beta), dtype=torch.float64)
    each = torch.nn.functional.cross_entropy(logits, labels, weights, reduction="none")
    assert loss.of_targets(logits, labels).item() == pytest.approx(each.mean().item(), rel=1e-6)
    smoothed = loss.of_targets(logits, labels, 0.1).item()
    assert smoothed == pytest.approx(0.9 * each.mean().item() - 0.1 * logits.log_softmax(1).mean().item(), rel=1e-6)


def test_a_genus_weighs_what_its_species_weigh_on_average():
    owls = TAXONOMY.find("Owls")
    below = [leaf for leaf in range(5) if "Owls" in TAXONOMY.path(leaf)]
    loss = WeightedCrossEntropy(5, 0.9)
    loss.set_class_counts(COUNTS)
    weights = slow_weights(0.9)
    images = sum(COUNTS[leaf].item() for leaf in below)
    weight = sum(COUNTS[leaf].item() * weights[leaf] for leaf in below) / images
    logits = torch.randn(1, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    named = logits.softmax(dim=1)[0, below].sum().item()
    cost = loss.of_nodes(logits, torch.tensor([owls]), TAXONOMY).item()
    assert cost == pytest.approx(-weight * math.log(named), rel=1e-6)


def test_weights_wait_for_their_phase_and_for_training():
    logits, labels = torch.randn(4, 5, generator=torch.Generator().manual_seed(2)), torch.tensor([0, 1, 2, 4])
    plain = torch.nn.functional.cross_entropy(logits, labels).item()
    loss = WeightedCrossEntropy(5, 0.9, deferred=True)
    loss.set_class_counts(COUNTS)
    assert loss.of_targets(logits, labels).item() == pytest.approx(plain, rel=1e-6)
    loss.weights.waits = False
    assert loss.of_targets(logits, labels).item() != pytest.approx(plain, rel=1e-2)
    assert loss.eval().of_targets(logits, labels).item() == pytest.approx(plain, rel=1e-6)


def test_without_counts_all_classes_weigh_alike():
    loss = WeightedCrossEntropy(5, 0.9)
    loss.set_class_counts(torch.zeros(5, dtype=torch.int64))
    assert loss.weights.weights.tolist() == [1] * 5


def test_a_beta_outside_its_range_is_refused():
    with pytest.raises(UsageError, match=r"WeightedCrossEntropy: beta: 2; it must be from 0"):
        WeightedCrossEntropy(3, 2)
