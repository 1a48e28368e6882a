"""Optimal transport with an entropy term.

Marco Cuturi, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport", NeurIPS 2013.

Shape letters: B problems, n places from which mass is carried, m places to which it is carried.
"""

import torch
from torch import Tensor

RENEWED = 20  # after so many steps the scalings go back into logarithms, so that none grows out of range


def log_transport(
    cost: Tensor, sources: Tensor, targets: Tensor, regularisation: float, steps: int, tolerance: float = 0.0
) -> Tensor:
    """Return the logarithm of the plan P >= 0 that minimises sum P cost + regularisation sum P (log P - 1).

    No cost is too large: the first step and every twentieth are in logarithms, those between scale a plan that is
    nearly right. In float32 or better, also under autocast. Each target gets its mass exactly, each source gives its
    mass the more nearly the more steps.

    Args:
        cost: (B, n, m).
        sources: (B, n) or (1, n), above 0: the mass of each place, the sums of P over m.
        targets: (B, m) or (1, m), above 0, of the same sum: the sums of P over n.
        regularisation: in units of the cost; the smaller, the nearer to the cheapest plan and the slower.
        steps: at most so many times the masses of sources, then of targets, are met.
        tolerance: a problem is left as it is as soon as the mass of no source is off by more; 0 takes all steps.

    Returns:
        (B, n, m).
    """
    kind = torch.promote_types(cost.dtype, torch.float32)
    with torch.autocast(cost.device.type, enabled=False):
        log_plan = -cost.to(kind) / regularisation
        sources, targets = sources.to(kind), targets.to(kind)
        log_plan = log_plan - (log_plan.logsumexp(dim=2) - sources.log()).unsqueeze(2)
        log_plan = log_plan - (log_plan.logsumexp(dim=1) - targets.log()).unsqueeze(1)
        for before in range(1, steps, RENEWED):
            left, right, settled = _scalings(log_plan.exp(), sources, targets, min(RENEWED, steps - before), tolerance)
            log_plan = log_plan + left.log().unsqueeze(2) + right.log().unsqueeze(1)
            if settled:
                break
        return log_plan


def _scalings(
    plan: Tensor, sources: Tensor, targets: Tensor, steps: int, tolerance: float
) -> tuple[Tensor, Tensor, bool]:
    """Return factors of the rows (B, n) and columns (B, m) of a plan (B, n, m), and whether all are within tolerance.

    See `log_transport` for the other arguments.
    """
    least = torch.finfo(plan.dtype).tiny
    left, right = plan.new_ones(plan.shape[:2]), plan.new_ones(plan.shape[0], plan.shape[2])
    for _ in range(steps):
        rows = torch.einsum("bnm,bm->bn", plan, right).clamp_min(least)
        new_left = sources / rows
        if tolerance:
            done = (left * rows - sources).abs().amax(dim=1, keepdim=True) <= tolerance
            if bool(done.all()):
                return left, right, True
            new_left = torch.where(done, left, new_left)
        left = new_left
        new_right = targets / torch.einsum("bnm,bn->bm", plan, left).clamp_min(least)
        right = torch.where(done, right, new_right) if tolerance else new_right
    return left, right, False
