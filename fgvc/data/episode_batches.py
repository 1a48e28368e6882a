"""Few-shot episodes as batches: which images meet, in which order, and what stands in for one that cannot be read.

Shape letters: N images of an episode, W ways (its classes), K shots, Q queries per class, S side of an image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from fgvc.data.dataset import PATIENCE, PhotoDataset
from fgvc.data.episodes import Ints, check_kind, draw_one, positions_of
from fgvc.data.loaders import collate
from fgvc.data.splitting import random_keys
from fgvc.datatypes import EpisodeSample, Sample
from fgvc.errors import UsageError
from fgvc.taxonomy.tree import Taxonomy

KEY = "data.episodes."


class Kind(NamedTuple):
    """Of which kind episodes are, and how many there are in a pass.

    n_way, n_shot, n_query: W, K, Q.
    episodes: of a pass.
    """

    n_way: int
    n_shot: int
    n_query: int
    episodes: int

    @property
    def images(self) -> int:
        """N: how many images an episode has."""
        return self.n_way * (self.n_shot + self.n_query)

    def __str__(self) -> str:
        """Say their kind in one line."""
        return f"{self.episodes:,} episodes, {self.n_way}-way {self.n_shot}-shot, {self.n_query} queries per class"


@dataclass(frozen=True)
class EpisodePlan:
    """Which episodes a few-shot network learns from and is judged by.

    Attributes:
        n_way: classes of a training episode; more than at the test often help (Snell and others 2017).
        n_shot: images of each class that are shown with their label.
        n_query: images of each class that are asked for.
        per_epoch: training episodes of an epoch; each is one batch.
        val_n_way: classes of an episode of the validation and of the test.
        val_n_shot: images of each class that are shown there; by default as in training.
        val_n_query: images of each class that are asked for there.
        val_episodes: episodes of a validation, the same after every epoch.
        test_episodes: episodes of a test.
    """

    n_way: int = 5
    n_shot: int = 1
    n_query: int = 15
    per_epoch: int = 100
    val_n_way: int = 5
    val_n_shot: int | None = None
    val_n_query: int = 15
    val_episodes: int = 200
    test_episodes: int = 600

    def check(self) -> "EpisodePlan":
        """Return self, or raise UsageError for numbers that make no episode."""
        check_kind(self.n_way, self.n_shot, self.n_query, flag=KEY)
        val = self.kind("val")
        check_kind(val.n_way, val.n_shot, val.n_query, flag=f"{KEY}val_")
        for name in ("per_epoch", "val_episodes", "test_episodes"):
            if getattr(self, name) < 1:
                raise UsageError(f"{KEY}{name}: {getattr(self, name)}; it must be at least 1")
        return self

    def kind(self, split: str) -> Kind:
        """Return the kind of the episodes of a split."""
        if split == "train":
            return Kind(self.n_way, self.n_shot, self.n_query, self.per_epoch)
        shots = self.n_shot if self.val_n_shot is None else self.val_n_shot
        episodes = self.val_episodes if split == "val" else self.test_episodes
        return Kind(self.val_n_way, shots, self.val_n_query, episodes)


class EpisodeSampler(Sampler[tuple[int, int]]):
    """The images of one episode after the other: its support way by way, then its queries way by way.

    Training draws new episodes each epoch, functions of (seed, epoch, number). An evaluation has the same ones each
    time, functions of (seed, number) as those of `fgvc.data.episodes.draw`.

    Args:
        found: for each class the positions of its images.
        kind: of the episodes.
        seed: first of the numbers.
        is_training: whether each epoch has new ones.
    """

    def __init__(self, found: Sequence[Ints], kind: Kind, seed: int, is_training: bool) -> None:
        self._found, self._kind, self._seed, self._is_training = found, kind, seed, is_training
        self.epoch = 0
        self.skip = 0
        """How many images the next pass leaves out at its beginning, of whole episodes: a resumed run has seen them."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; Lightning calls this."""
        self.epoch = epoch if self._is_training else 0

    def __len__(self) -> int:
        return self._kind.episodes * self._kind.images

    def __iter__(self) -> Iterator[tuple[int, int]]:
        numbers = range(self.skip // self._kind.images, self._kind.episodes)
        self.skip = 0
        epoch = self.epoch  # of this pass, whatever set_epoch says while it lasts
        return ((epoch, row) for number in numbers for row in self._episode(epoch, number))

    def _episode(self, epoch: int, number: int) -> list[int]:
        seed = (self._seed, epoch, number) if self._is_training else (self._seed, number)
        support, query = draw_one(self._found, *self._kind[:3], seed)
        rows: list[int] = np.concatenate([support.ravel(), query.ravel()]).tolist()
        return rows


class EpisodePhotos(PhotoDataset):
    """Photographs that are asked for episode by episode, so that an episode never loses its shape.

    With `on_bad_image="replace"` another image of the same class that the episode does not hold yet stands in for one
    that cannot be read.
    """

    _taken: frozenset[int] = frozenset()
    """The images that the episode holds."""

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> list[Sample | None]:
        """Return the Samples of an episode; torch's loader asks for them together."""
        self._taken = frozenset(index for _, index in keys)
        return [self[key] for key in keys]

    def _candidates(self, index: int, drawn: tuple[int, int, int]) -> Iterator[int]:
        yield index
        if self.on_bad_image == "replace":
            same = np.flatnonzero(self.records.labels == self.records.labels[index])
            others = np.random.default_rng([*drawn, 1]).permutation(same)
            for other in [row for row in others.tolist() if row not in self._taken][: PATIENCE - 1]:
                self._taken |= {other}
                yield other


def collate_episode(samples: Sequence[Sample | None], kind: Kind) -> EpisodeSample:
    """Stack the Samples of an episode, all of which are there."""
    batch = collate(samples)
    assert batch is not None and len(batch.label) == kind.images, "an episode lost images"
    return EpisodeSample(batch.image, batch.label, batch.index, batch.view, kind.n_way, kind.n_shot)


def classes_of(labels: npt.NDArray[np.integer], taxonomy: Taxonomy) -> Ints:
    """Return (N,) the leaf of each label (N,); -1 for one that is no leaf, which is in no episode."""
    wide = labels.astype(np.int64)
    return np.where((wide >= 0) & (wide < taxonomy.num_classes), wide, -1)


def positions(labels: npt.NDArray[np.integer], taxonomy: Taxonomy, kind: Kind, split: str) -> list[Ints]:
    """Return for each class of a split the positions of its images.

    Args:
        labels: (N,) node ids.
        taxonomy: the classes.
        kind: of the episodes that are drawn from them.
        split: its name, for messages.

    Raises:
        UsageError: fewer classes than an episode has, or a class with fewer images than it takes.
    """
    names = taxonomy.unique_names(taxonomy.leaf_level)
    flag = KEY if split == "train" else f"{KEY}val_"
    images = kind.n_shot + kind.n_query
    return positions_of(classes_of(labels, taxonomy), kind.n_way, images, names, split, flag=flag)


def check_disjoint(
    train: npt.NDArray[np.integer], other: npt.NDArray[np.integer], taxonomy: Taxonomy, split: str
) -> None:
    """Refuse classes that the network has been trained on: episodes of them say nothing about new classes.

    Args:
        train: (N,) node ids of the training images.
        other: (M,) node ids of another split.
        taxonomy: the classes.
        split: the name of the other one.

    Raises:
        UsageError: both have a class in common; it is named.
    """
    shared = np.intersect1d(classes_of(train, taxonomy), classes_of(other, taxonomy))
    shared = shared[shared >= 0]
    if len(shared):
        name = taxonomy.unique_names(taxonomy.leaf_level)[shared[0]]
        more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
        raise UsageError(
            f"data.episodes: class {name!r}{more} of the {split} split is trained on, too; give splits without a "
            "common class (CUB: protocol few_shot_closer_look), or a source without this split"
        )


def held_out_classes(
    labels: npt.NDArray[np.integer], taxonomy: Taxonomy, fraction: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Choose the classes that are held out for a validation on episodes.

    Args:
        labels: (N,) node ids.
        taxonomy: the classes.
        fraction: share of the classes, above 0; at least one is held out.
        seed: changes which, not how many.

    Returns:
        (N,) bool, True for the images of these classes.
    """
    leaves = classes_of(labels, taxonomy)
    classes = np.unique(leaves[leaves >= 0])
    count = max(1, round(fraction * len(classes)))
    order = np.argsort(random_keys(seed, taxonomy.num_classes)[classes], kind="stable")
    return np.isin(leaves, classes[order[:count]])
