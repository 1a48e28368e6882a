"""What second-order features end in: signed square roots, then length 1. And the product of a map with itself.

Gradients are written by hand, so that large answers are kept once and not at every step.

Shape letters: N images, D numbers, C channels, M positions.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SHORTEST = 1e-12  # length below which a row is left as it is


def signed_root(numbers: Tensor, eps: float) -> Tensor:
    """Return sign(x) sqrt(|x| + eps), each row scaled to length 1.

    Args:
        numbers: (N, D).
        eps: above 0; the slope of the root is at most 1 / (2 sqrt(eps)), and 0 at 0.

    Returns:
        (N, D); a row of zeros stays.
    """
    return _SignedRoot.apply(numbers, eps)  # type: ignore[no-any-return]


def self_product(positions: Tensor) -> Tensor:
    """Return X X', of every channel with every channel, summed over positions: (N, C, M) -> (N, C, C)."""
    return _SelfProduct.apply(positions)  # type: ignore[no-any-return]


class _SignedRoot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, numbers: Tensor, eps: float) -> Tensor:
        """Keep the answer and its length."""
        answer = numbers.abs().add_(eps).sqrt_().mul_(numbers.sign())
        length = answer.norm(dim=1, keepdim=True).clamp_min(SHORTEST)
        answer /= length
        ctx.save_for_backward(answer, length)
        return answer

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None]:
        """The root itself is answer times length, its slope 1 / (2 |root|)."""
        answer, length = ctx.saved_tensors
        found = torch.addcmul(given, answer, (given * answer).sum(dim=1, keepdim=True), value=-1)
        slope = (answer.abs() * (2 * length**2)).reciprocal_()
        return found.mul_(slope).masked_fill_(answer == 0, 0), None


class _SelfProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor) -> Tensor:
        """Keep the map."""
        ctx.save_for_backward(positions)
        return positions @ positions.mT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> Tensor:
        """Both factors are the map: one product does for the two."""
        positions: Tensor = ctx.saved_tensors[0]
        with torch.autocast(given.device.type, enabled=False):
            return (given + given.mT) @ positions
