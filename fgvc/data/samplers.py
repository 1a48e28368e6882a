"""The order of the images: a function of (seed, epoch, rank), yielded as (epoch, index)."""

from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from fgvc.confidence.effective_number import effective_number

Balance = Literal["uniform", "sqrt", "class_balanced", "repeat_factor", "effective_number"]
BETA = 0.999
"""Of the effective number, where nobody gives another."""


def image_weights(
    labels: npt.NDArray[np.int32], balance: Balance, threshold: float = 1e-3, beta: float = BETA
) -> npt.NDArray[np.float64] | None:
    """Return how often each image should be drawn, (N,) summing to 1, or None when all are drawn once.

    Args:
        labels: (N,) node ids.
        balance: a class of n images is drawn in proportion to sqrt(n) (`sqrt`) or 1 (`class_balanced`); `repeat_factor`
            repeats classes rarer than `threshold` (Gupta, Dollar, Girshick, "LVIS", CVPR 2019); `effective_number`
            draws in proportion to n / (its effective number), between `uniform` (beta 0) and `class_balanced` (beta 1).
        threshold: share of the images below which a class counts as rare.
        beta: see `fgvc.confidence.effective_number`.
    """
    if balance == "uniform":
        return None
    nodes = labels - labels.min()  # counted, not sorted: there may be millions
    counts = np.bincount(nodes).clip(min=1)
    share = counts / len(labels)
    per_class = {
        "sqrt": share**-0.5,
        "class_balanced": 1 / share,
        "repeat_factor": np.maximum(1, np.sqrt(threshold / share)),
        "effective_number": 1 / effective_number(counts, beta),
    }[balance]
    weights: npt.NDArray[np.float64] = per_class[nodes]
    weights /= weights.sum()
    return weights


class EpochSampler(Protocol):
    """What a `TrainLoader` asks of its sampler.

    epoch: of the next pass.
    skip: how many images the next pass leaves out at its beginning: a resumed run has seen them.
    """

    epoch: int
    skip: int

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; Lightning calls this."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Iterate over (epoch, index)."""

    def __len__(self) -> int:
        """Return how many images a pass has."""


class TrainSampler(Sampler[tuple[int, int]]):
    """A new order each epoch, the same number of images on every rank.

    Args:
        labels: (N,) node ids of the training images.
        balance: see `image_weights`; anything but `uniform` draws with replacement.
        seed, rank, world_size: with the epoch, all that the order depends on.
        beta: of the effective number, see `image_weights`.
    """

    def __init__(
        self,
        labels: npt.NDArray[np.int32],
        balance: Balance = "uniform",
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        beta: float = BETA,
    ) -> None:
        self._size = len(labels)
        self._weights = image_weights(labels, balance, beta=beta)
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self.epoch = 0
        self.skip = 0
        """How many images the next pass leaves out at its beginning: a resumed run has seen them."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._size // self._world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = np.random.default_rng([self._seed, self.epoch])
        if self._weights is None:
            order = generator.permutation(self._size)
        else:
            order = generator.choice(self._size, self._size, p=self._weights)
        mine = order[self._rank :: self._world_size][self.skip : len(self)]
        self.skip = 0
        epoch = self.epoch  # of this pass, whatever set_epoch says while it lasts
        return ((epoch, int(index)) for index in mine)


class EvalSampler(Sampler[tuple[int, int]]):
    """Every image once, over any number of ranks: nothing is padded, so ranks may differ by one image."""

    def __init__(self, size: int, rank: int = 0, world_size: int = 1) -> None:
        self._indices = range(rank, size, world_size)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((0, index) for index in self._indices)
