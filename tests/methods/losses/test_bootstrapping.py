import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from fgvc.errors import UsageError
from fgvc.methods.losses.bootstrapping import Bootstrapping

LOGITS = 2 * torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 4, 2, 2, 1, 3])


@pytest.mark.parametrize(("hard", "beta", "share"), [(False, None, 0.95), (True, None, 0.8), (False, 0.3, 0.3)])
def test_it_is_the_cross_entropy_to_label_and_answer(hard, beta, share):
    wanted = 0.0
    for row, target in zip(LOGITS.tolist(), TARGETS.tolist(), strict=True):
        p = [math.exp(x) / sum(map(math.exp, row)) for x in row]
        answer = [float(k == p.index(max(p))) for k in range(5)] if hard else p
        aim = [share * (k == target) + (1 - share) * answer[k] for k in range(5)]
        wanted -= sum(t * math.log(q) for t, q in zip(aim, p, strict=True)) / len(TARGETS)
    assert Bootstrapping(5, hard, beta).of_targets(LOGITS, TARGETS).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("hard", [False, True])
def test_with_the_label_alone_it_is_the_cross_entropy(hard):
    found = Bootstrapping(5, hard, 1.0).of_targets(LOGITS, TARGETS).item()
    assert found == pytest.approx(cross_entropy(LOGITS, TARGETS).item(), rel=1e-12)


def test_soft_the_slope_goes_through_the_answer_too():
    logits = LOGITS.clone().requires_grad_()
    p = logits.softmax(dim=1)
    entropy = -(p * p.log()).sum(dim=1).mean()
    wanted = torch.autograd.grad(0.7 * cross_entropy(logits, TARGETS) + 0.3 * entropy, logits)[0]
    found = torch.autograd.grad(Bootstrapping(5, beta=0.7).of_targets(logits, TARGETS), logits)[0]
    assert torch.allclose(found, wanted, rtol=1e-10)


@pytest.mark.parametrize("beta", [0, 1.01, -0.5])
def test_a_beta_out_of_range_is_refused(beta):
    with pytest.raises(UsageError, match="Bootstrapping: beta"):
        Bootstrapping(5, beta=beta)
