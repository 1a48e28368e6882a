import math

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from fgvc.errors import UsageError
from fgvc.methods.losses.generalised_cross_entropy import GeneralisedCrossEntropy

LOGITS = 2 * torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 4, 2, 2, 1, 3])


def slope(cost, logits):
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(cost(logits), logits)[0]


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
def test_it_is_the_papers_formula(q):
    wanted = 0.0
    for row, target in zip(LOGITS.tolist(), TARGETS.tolist(), strict=True):
        p = math.exp(row[target]) / sum(map(math.exp, row))
        wanted += (1 - p**q) / q / len(TARGETS)
    assert GeneralisedCrossEntropy(5, q).of_targets(LOGITS, TARGETS).item() == pytest.approx(wanted, rel=1e-12)


def test_as_q_falls_it_becomes_the_cross_entropy():
    for q, within in ((1e-2, 0.05), (1e-4, 5e-4), (1e-9, 1e-8)):
        loss = GeneralisedCrossEntropy(5, q)
        assert loss.of_targets(LOGITS, TARGETS).item() == pytest.approx(
            cross_entropy(LOGITS, TARGETS).item(), rel=within
        )
    plain = slope(lambda x: cross_entropy(x, TARGETS), LOGITS)
    assert torch.allclose(slope(lambda x: loss.of_targets(x, TARGETS), LOGITS), plain, rtol=1e-7, atol=1e-12)


def test_with_q_1_it_is_half_the_absolute_error():
    error = (LOGITS.softmax(dim=1) - one_hot(TARGETS, 5)).abs().sum(dim=1).mean() / 2
    assert GeneralisedCrossEntropy(5, 1.0).of_targets(LOGITS, TARGETS).item() == pytest.approx(error.item(), rel=1e-12)


def test_its_slope_is_that_of_the_cross_entropy_times_a_power_of_p():
    p = LOGITS.softmax(dim=1).gather(1, TARGETS[:, None])
    wanted = p**0.7 * slope(lambda x: cross_entropy(x, TARGETS), LOGITS)
    found = slope(lambda x: GeneralisedCrossEntropy(5, 0.7).of_targets(x, TARGETS), LOGITS)
    assert torch.allclose(found, wanted, rtol=1e-10)


def test_truncated_an_unlikely_label_costs_the_same_and_pulls_not_at_all():
    loss = GeneralisedCrossEntropy(5, 0.7, truncate=0.3, truncate_after=2)
    p = LOGITS.softmax(dim=1).gather(1, TARGETS[:, None])[:, 0]
    low = p <= 0.3
    assert low.any() and not low.all()
    for epoch, is_training, truncates in ((1, True, False), (2, True, True), (9, True, True), (9, False, False)):
        loss.train(is_training).epoch = epoch
        moves = slope(lambda x: loss.of_targets(x, TARGETS), LOGITS).abs().sum(dim=1) > 0
        assert moves.tolist() == (~low if truncates else torch.ones(6).bool()).tolist()
        kept = p.clamp_min(0.3) if truncates else p
        wanted = ((1 - kept**0.7) / 0.7).mean().item()
        assert loss.of_targets(LOGITS, TARGETS).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    "arguments", [{"q": 0}, {"q": 1.1}, {"truncate": 1}, {"truncate": -0.1}, {"truncate_after": -1}]
)
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError, match="GeneralisedCrossEntropy: "):
        GeneralisedCrossEntropy(5, **arguments)


def test_it_is_the_cross_entropy_while_a_training_warms_up():
    loss = GeneralisedCrossEntropy(5, 0.7, warm_epochs=2)
    plain, own = (
        cross_entropy(LOGITS, TARGETS).item(),
        GeneralisedCrossEntropy(5, 0.7).of_targets(LOGITS, TARGETS).item(),
    )
    for epoch, wanted in enumerate([plain, plain, own, own]):
        loss.epoch = epoch
        assert loss.train().of_targets(LOGITS, TARGETS).item() == pytest.approx(wanted, rel=1e-12)
    loss.epoch = 0
    assert loss.eval().of_targets(LOGITS, TARGETS).item() == pytest.approx(own, rel=1e-12)  # evaluations compare
    with pytest.raises(UsageError, match="warm_epochs -1; give 0"):
        GeneralisedCrossEntropy(5, warm_epochs=-1)
