"""The base class of few-shot classifiers: the features of an episode -> scores of its queries.

Shape letters: E episodes, W ways (classes of an episode), S support images, Q query images, D numbers of a vector,
C channels, h, w grid.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from fgvc.errors import UsageError, did_you_mean

DISTANCES = ("euclidean", "cosine")


class Episode(NamedTuple):
    """The features of episodes that are answered at once.

    support: (E, S, D) vectors, or (E, S, C, h, w) maps.
    labels: (E, S) int64, the way 0 .. W-1 of each support image; every way occurs, not equally often everywhere.
    query: (E, Q, D) or (E, Q, C, h, w).
    n_way: W.
    """

    support: Tensor
    labels: Tensor
    query: Tensor
    n_way: int


class FewShotClassifier(nn.Module, ABC):
    """Episode -> scores (E, Q, W) of the queries: a pure function of the episode and, where there are any, of weights.

    Args:
        in_channels: D of vectors, C of maps.
    """

    takes: ClassVar[Literal["vector", "map"]] = "vector"
    """What an image is to this method: a vector (D,), or a map (C, h, w)."""
    transductive: ClassVar[bool] = False
    """Whether the answer to one query hangs on the other queries."""
    needs_training: ClassVar[bool] = False
    """Whether it has weights that say nothing before a training on episodes."""
    needs_base: bool = False
    """Whether `prepare` must be called once with features of base classes; an argument may decide."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels

    def prepare(self, features: Tensor, labels: Tensor) -> None:
        """Learn once from images of the base classes what holds for every episode; buffers keep it. Most learn nothing.

        Args:
            features: (N, D) or (N, C, h, w).
            labels: (N,) int64 of their classes.
        """

    @abstractmethod
    def forward(self, episode: Episode) -> Tensor:
        """Return scores (E, Q, W); the larger, the likelier. Training and probabilities take their softmax."""


ClassifierFactory = Callable[[int], FewShotClassifier]
"""Makes a classifier from D of vectors or C of maps."""


def assignments(episode: Episode) -> Tensor:
    """Return (E, S, W) float: 1 at the way of each support image.

    Raises:
        UsageError: a way without a support image.
    """
    ones = one_hot(episode.labels, episode.n_way).to(episode.support.dtype)
    if not bool((ones.sum(dim=1) > 0).all()):
        raise UsageError(f"episode: a class of its {episode.n_way} has no support image; give each at least one")
    return ones


def class_means(episode: Episode) -> Tensor:
    """Return (E, W, D) or (E, W, C, h, w): the mean of the support images of each way, its prototype."""
    ones = assignments(episode)
    flat = episode.support.flatten(2)
    means = torch.bmm(ones.transpose(1, 2), flat) / ones.sum(dim=1).unsqueeze(2)
    return means.reshape(*means.shape[:2], *episode.support.shape[2:])


def nearness(query: Tensor, prototypes: Tensor, distance: str) -> Tensor:
    """Return how near queries lie to prototypes: the negative squared distance (`euclidean`) or the cosine.

    Args:
        query: (E, Q, D).
        prototypes: (E, W, D).
        distance: one of DISTANCES.

    Returns:
        (E, Q, W).
    """
    # Norms and centres go into the products: no second copy of the queries, which are most of an episode.
    lengths: Tensor = torch.linalg.vector_norm(query, dim=2, keepdim=True)
    if distance == "cosine":
        return torch.bmm(query, normalize(prototypes, dim=2).transpose(1, 2)) / lengths.clamp_min(1e-12)
    # From the middle of the prototypes, where a large part that all features share takes no digits of the differences.
    middle = prototypes.mean(dim=1, keepdim=True)
    moved = prototypes - middle
    products = torch.bmm(query, moved.transpose(1, 2)) - torch.bmm(middle, moved.transpose(1, 2))
    to_middle = lengths.square() - 2 * torch.bmm(query, middle.transpose(1, 2)) + middle.square().sum(2, keepdim=True)
    return 2 * products - moved.square().sum(dim=2).unsqueeze(1) - to_middle


def widened(episode: Episode) -> Episode:
    """Return an episode whose features are at least float32, for sums, powers and solvers."""
    if episode.support.dtype in (torch.float32, torch.float64):
        return episode
    return episode._replace(support=episode.support.float(), query=episode.query.float())


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise UsageError unless the value of an argument is one of the choices."""
    if value not in choices:
        raise UsageError(f"{name}: {value!r}; give one of {', '.join(choices)}{did_you_mean(str(value), choices)}")


def check_above_zero(**arguments: float) -> None:
    """Raise UsageError unless every argument is a finite number above 0."""
    for name, value in arguments.items():
        if not 0 < value < float("inf"):
            raise UsageError(f"{name}: {value}; it must be a number above 0")


def descriptors(maps: Tensor) -> Tensor:
    """Return maps (..., C, h, w) as local descriptors (..., h*w, C)."""
    return maps.flatten(-2).transpose(-1, -2)
