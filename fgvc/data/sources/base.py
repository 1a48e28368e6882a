"""The contract of a data source: a taxonomy, the records of each split, and annotations where it has them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fgvc.data.records import Records
from fgvc.images.boxes import Box
from fgvc.images.folders import PassedOver
from fgvc.taxonomy.tree import Taxonomy


@dataclass(frozen=True)
class Annotations:
    """What a data set knows about one photograph beyond its label, as fractions of the upright photograph.

    boxes: name -> (x1, y1, x2, y2); `object` is the whole animal, `mark` the patch that decides the species.
    points: name of a body part -> (x, y); only visible parts are listed.
    """

    boxes: dict[str, Box] = field(default_factory=dict)
    points: dict[str, tuple[float, float]] = field(default_factory=dict)


class DataSource(ABC):
    """Files -> Records. A new data set is one subclass in one file of this folder, one YAML and one test.

    A subclass reads its index in `__init__` and raises UsageError, in one line, when a file or folder is missing.
    """

    has_a_name: bool = True
    """Whether a config can name it; not so where it is made of another source."""

    splits: Sequence[str] = ("train", "test")
    """The splits that this data set has of its own, among train, val and test."""

    point_names: tuple[str, ...] = ()
    """The names of the body parts whose points may be annotated."""

    head_parts: tuple[str, ...] = ()
    """Which of the annotated points belong to the head, where most marks of a species sit."""

    passed_over: PassedOver | None = None
    """The files of its folders that are no pictures fgvc reads; None for a source that lists its files."""

    doubts: Mapping[str, str] = {}
    """What is probably read otherwise than it is meant: kind, such as `nested_folders` -> a sentence that says what to
    do."""

    on_purpose: frozenset[str] = frozenset()
    """Kinds of suspicious names, see `fgvc.data.inspection.names`, that its arguments allow."""

    @property
    @abstractmethod
    def taxonomy(self) -> Taxonomy:
        """The tree that the labels point into."""

    @abstractmethod
    def records(self, split: str) -> Records:
        """Return the files and labels of one of `splits`."""

    def groups(self, split: str) -> npt.NDArray[np.int64] | None:
        """Return one group id per record (site, burst, observer) that no further split may cut, or None."""
        return None

    def annotations(self, split: str, index: int) -> Annotations:
        """Return the annotations of record `index` of a split; empty where the data set has none."""
        return Annotations()


def named_sources() -> dict[str, type[DataSource]]:
    """Return the data sources that a config can name, those of the user's own modules too, by their short names."""
    return {source.__name__: source for source in DataSource.__subclasses__() if source.has_a_name}
