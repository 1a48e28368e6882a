import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from fgvc.errors import UsageError
from fgvc.methods.losses.symmetric_cross_entropy import SymmetricCrossEntropy

LOGITS = 2 * torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 4, 2, 2, 1, 3])


@pytest.mark.parametrize(("alpha", "beta", "log_zero"), [(0.1, 1.0, -4.0), (6.0, 0.1, -4.0), (1.0, 0.5, -9.2)])
def test_it_is_the_papers_sum_over_the_classes(alpha, beta, log_zero):
    wanted = 0.0
    for row, target in zip(LOGITS.tolist(), TARGETS.tolist(), strict=True):
        p = [math.exp(x) / sum(map(math.exp, row)) for x in row]
        reverse = -sum(p[k] * (0.0 if k == target else log_zero) for k in range(5))
        wanted += (alpha * -math.log(p[target]) + beta * reverse) / len(TARGETS)
    found = SymmetricCrossEntropy(5, alpha, beta, log_zero).of_targets(LOGITS, TARGETS)
    assert found.item() == pytest.approx(wanted, rel=1e-12)


def test_without_its_second_term_it_is_the_cross_entropy():
    loss = SymmetricCrossEntropy(5, alpha=1.0, beta=0.0).of_targets(LOGITS, TARGETS)
    assert loss.item() == pytest.approx(cross_entropy(LOGITS, TARGETS).item(), rel=1e-12)


@pytest.mark.parametrize("arguments", [{"alpha": -1}, {"alpha": 0, "beta": 0}, {"log_zero": 0}, {"beta": math.nan}])
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError, match="SymmetricCrossEntropy: alpha"):
        SymmetricCrossEntropy(5, **arguments)
