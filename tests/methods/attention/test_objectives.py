import math

import pytest
import torch

from fgvc.methods.attention.objectives import evidence, ranking_loss


def test_the_ranking_loss_is_the_published_one_and_its_gradient_is_that_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    coarse, fine = (torch.randn(5, 4, generator=generator, dtype=torch.float64) * 2 for _ in range(2))
    targets = torch.tensor([0, 3, -1, 2, 1])

    def slowly(fine, on):
        total, count = 0.0, 0
        for c, f, t in zip(coarse, fine, targets, strict=True):
            if t >= 0:
                p, q = (math.exp(x[t]) / sum(math.exp(v) for v in x) for x in (c, f))
                if on == "log_probability":
                    p, q = math.log(p), math.log(q)
                total += max(0.0, p - q + 0.05)
                count += 1
        return total / count

    for on in ("probability", "log_probability"):
        leaf = fine.clone().requires_grad_()
        held = coarse.clone().requires_grad_()
        loss = ranking_loss(held, leaf, targets, 0.05, on)
        assert loss.item() == pytest.approx(slowly(fine, on), rel=1e-5)
        loss.backward()
        assert held.grad is None  # the coarse scale cannot be made worse
        for i, j in ((0, 0), (1, 3), (3, 1), (2, 0)):
            step = torch.zeros_like(fine)
            step[i, j] = 1e-5
            slope = (slowly(fine + step, on) - slowly(fine - step, on)) / 2e-5
            assert leaf.grad[i, j].item() == pytest.approx(slope, abs=1e-4)
    assert ranking_loss(coarse, fine, torch.full((5,), -1), 0.05) == 0


def test_evidence_is_the_mean_log_probability_of_known_classes():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = torch.tensor([2, -1, 0, 1])
    rows = [(row, t) for row, t in zip(logits.tolist(), targets.tolist(), strict=True) if t >= 0]
    expected = sum(row[t] - math.log(sum(math.exp(v) for v in row)) for row, t in rows) / 3
    assert evidence(logits, targets).item() == pytest.approx(expected, rel=1e-6)
    assert evidence(logits, torch.full((4,), -1)) == 0
