"""The accuracy of few-shot episodes, with the interval that papers give.

Shape letters: E episodes, Q queries of one.
"""

import math

import torch
from torch import Tensor
from torchmetrics import Metric

NORMAL = 1.96
"""Of the normal distribution, 95 % lie within so many standard deviations of its mean."""


class EpisodeAccuracy(Metric):
    """The mean accuracy over episodes and the half width of its 95 % interval.

    The interval is that of the drawing of episodes; it says nothing of another training.
    """

    full_state_update = False

    count: Tensor
    asked: Tensor
    right: Tensor
    squares: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "asked", "right", "squares"):  # whole numbers, so that no sum is rounded
            self.add_state(name, torch.tensor(0, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, right: Tensor) -> None:
        """Take an episode: which of its queries were answered right, (Q,) bool; every episode has as many queries."""
        self.count = self.count + 1
        self.asked = self.asked + len(right)
        self.right = self.right + right.sum()
        self.squares = self.squares + right.sum().square()

    def compute(self) -> dict[str, Tensor]:
        """Return `top1` and, of two episodes or more, `interval`, each () float32.

        They are the mean, and 1.96 s / sqrt(E) of the sample deviation s.
        """
        count, asked, right, squares = (int(x) for x in (self.count, self.asked, self.right, self.squares))
        found = {"top1": right / asked}
        if count > 1:
            each = asked / count
            variance = (count * squares - right**2) / (count * (count - 1) * each**2)
            found["interval"] = NORMAL * math.sqrt(variance / count)
        return {name: torch.tensor(value, device=self.right.device) for name, value in found.items()}
