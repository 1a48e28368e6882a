"""Optimal transport with an entropy term.

Marco Cuturi, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport", NeurIPS 2013.

Shape letters: B problems, n places from which mass is carried, m places to which it is carried.
"""

import torch
from torch import Tensor


def log_transport(
    cost: Tensor, sources: Tensor, targets: Tensor, regularisation: float, steps: int, tolerance: float = 0.0
) -> Tensor:
    """Return the logarithm of the plan P >= 0 that minimises sum P cost + regularisation sum P (log P - 1).

    In logarithms, so that no cost is too large; in float32 or better, also under autocast. Each target gets its mass
    exactly, each source gives its mass the more nearly the more steps.

    Args:
        cost: (B, n, m).
        sources: (B, n) or (1, n), above 0: the mass of each place, the sums of P over m.
        targets: (B, m) or (1, m), above 0, of the same sum: the sums of P over n.
        regularisation: in units of the cost; the smaller, the nearer to the cheapest plan and the slower.
        steps: at most so many times the masses of sources, then of targets, are met.
        tolerance: a problem is left as it is once the mass of no source is off by more; 0 takes all steps.

    Returns:
        (B, n, m).
    """
    kind = torch.promote_types(cost.dtype, torch.float32)
    with torch.autocast(cost.device.type, enabled=False):
        kernel = -cost.to(kind) / regularisation
        log_sources, log_targets = sources.to(kind).log(), targets.to(kind).log()
        right = kernel.new_zeros(kernel.shape[0], kernel.shape[2])
        left = log_sources - (kernel + right.unsqueeze(1)).logsumexp(dim=2)
        right = log_targets - (kernel + left.unsqueeze(2)).logsumexp(dim=1)
        for _ in range(steps - 1):
            new_left = log_sources - (kernel + right.unsqueeze(1)).logsumexp(dim=2)
            if tolerance:
                # The sum that the plan has now is exp(left - new_left) times the mass that it should have.
                off = (sources * ((left - new_left).exp() - 1)).abs().amax(dim=1, keepdim=True)
                done = off <= tolerance
                if bool(done.all()):
                    break
                new_left = torch.where(done, left, new_left)
                new_right = log_targets - (kernel + new_left.unsqueeze(2)).logsumexp(dim=1)
                left, right = new_left, torch.where(done, right, new_right)
            else:
                left = new_left
                right = log_targets - (kernel + left.unsqueeze(2)).logsumexp(dim=1)
        return kernel + left.unsqueeze(2) + right.unsqueeze(1)
