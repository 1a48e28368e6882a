"""The order of the images: a function of (seed, epoch, rank), yielded as (epoch, index)."""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, Protocol

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


class Draw(NamedTuple):
    """What the images of an epoch are drawn from.

    balance: see `image_weights`.
    rows: (M,) positions of the images that are drawn, or None for all.
    """

    balance: Balance = "uniform"
    rows: npt.NDArray[np.int64] | None = None


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
    """A new order each epoch, the same number of images on every rank and in every epoch.

    An epoch has as many images as there are, also where it is drawn from fewer: these then come several times, each as
    often as another or once more. So the number of steps, and with it the learning rate, is known before the training.

    Args:
        labels: (N,) node ids of the training images.
        balance: see `image_weights`; anything but `uniform` draws with replacement.
        seed, rank, world_size: with the epoch, all that the order depends on.
        draw: epoch -> what it is drawn from, in place of `balance` and all images.
        beta: of the effective number, see `image_weights`.
    """

    def __init__(
        self,
        labels: npt.NDArray[np.int32],
        balance: Balance = "uniform",
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        draw: Callable[[int], Draw] | None = None,
        beta: float = BETA,
    ) -> None:
        self._labels = labels
        self._always = Draw(balance)
        self._draw = draw
        self._beta = beta
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self.epoch = 0
        self.skip = 0
        """How many images the next pass leaves out at its beginning: a resumed run has seen them."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._labels) // self._world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = self._order(self._draw(self.epoch) if self._draw else self._always)
        mine = order[self._rank :: self._world_size][self.skip : len(self)]
        self.skip = 0
        epoch = self.epoch  # of this pass, whatever set_epoch says while it lasts
        return ((epoch, int(index)) for index in mine)

    def _order(self, draw: Draw) -> npt.NDArray[np.int64]:
        """Return (N,) positions, the same on every rank."""
        generator, size = np.random.default_rng([self._seed, self.epoch]), len(self._labels)
        labels = self._labels if draw.rows is None else self._labels[draw.rows]
        weights = image_weights(labels, draw.balance, beta=self._beta)
        if weights is None:
            passes = [generator.permutation(len(labels)) for _ in range(-(-size // max(1, len(labels))))]
            order = np.concatenate([*passes, np.zeros(0, dtype=np.int64)])[:size]
        else:
            order = generator.choice(len(labels), size, p=weights)
        return order if draw.rows is None else draw.rows[order]


class EvalSampler(Sampler[tuple[int, int]]):
    """Every image once, over any number of ranks: nothing is padded, so ranks may differ by one image."""

    def __init__(self, size: int, rank: int = 0, world_size: int = 1) -> None:
        self._indices = range(rank, size, world_size)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((0, index) for index in self._indices)
