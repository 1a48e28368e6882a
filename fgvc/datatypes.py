"""The three things that travel: Record (a file and its label), Sample (pixels), Prediction (scores).

Shape letters: N images, S side of the source image, K boxes per image, D width of the embedding.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fgvc.data.packed_paths import PackedPaths


class Record(NamedTuple):
    """A file and its label: a node id of the taxonomy, usually a leaf."""

    path: str
    label: int


class Sample(NamedTuple):
    """One decoded photograph, or a batch of them when collated.

    image: (3, S, S) or (N, 3, S, S) uint8 RGB.
    label: () or (N,) int64 node id; -1 where nothing is known.
    index: () or (N,) int64 position in the split's records.
    view: (4,) or (N, 4) float32 xyxy: the part of the upright photograph that is shown, as fractions of it.
    """

    image: Tensor
    label: Tensor
    index: Tensor  # type: ignore[assignment]
    view: Tensor


@dataclass
class Prediction:
    """What a recognizer answers for N images.

    logits: level name -> (N, classes of that level); only levels the head scores, the leaf level always.
    embedding: (N, D).
    boxes: (N, K, 4) xyxy as fractions of the source image, or None.
    views: name -> Prediction of a part of the method (scale1, crop, fused ...), each logged by its name.
    """

    logits: dict[str, Tensor]
    embedding: Tensor
    boxes: Tensor | None = None
    views: "dict[str, Prediction]" = field(default_factory=dict)


class Records(Sequence[Record]):
    """An immutable sequence of Record held in arrays, so that worker processes share it instead of copying it.

    Args:
        paths: one path per record, relative to `root` or absolute.
        labels: one node id per record; -1 where nothing is known.
        root: the folder that relative paths are joined to.
    """

    def __init__(
        self, paths: Iterable[str], labels: Iterable[int] | npt.NDArray[np.int32], root: str | Path = ""
    ) -> None:
        self._paths = paths if isinstance(paths, PackedPaths) else PackedPaths.of(paths)
        self._rows: npt.NDArray[np.int32] | None = None
        self.labels: npt.NDArray[np.int32] = np.asarray(
            labels if isinstance(labels, np.ndarray) else list(labels), dtype=np.int32
        )
        self.root = str(root)
        if len(self.labels) != len(self._paths):
            raise ValueError(f"{len(self._paths)} paths but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "Records": ...
    def __getitem__(self, index: int | slice) -> "Record | Records":
        if isinstance(index, slice):
            return self.subset(np.arange(len(self))[index])
        return Record(str(Path(self.root, self.relative_path(index))), int(self.labels[index]))

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))

    def relative_path(self, index: int) -> str:
        """Return the path of a record as it was given."""
        return self._paths[index if self._rows is None else int(self._rows[index])]

    def subset(self, indices: Iterable[int] | npt.NDArray[np.integer]) -> "Records":
        """Return the records at these positions, in this order; its paths are those of the whole, not a copy."""
        chosen = indices if isinstance(indices, np.ndarray) else np.fromiter(indices, dtype=np.int64)
        rows = np.arange(len(self), dtype=np.int32) if self._rows is None else self._rows
        part = copy.copy(self)
        part._rows, part.labels = rows[chosen], self.labels[chosen]
        if not self._paths.mapped and 2 * len(part) < len(self._paths):  # so few that a copy is smaller than the whole
            part._paths, part._rows = PackedPaths.of(map(part.relative_path, range(len(part)))), None
        return part
