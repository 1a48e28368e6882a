"""The list of photographs of a split: paths and labels in arrays that worker processes share."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from fgvc.data.packed_paths import PackedPaths


class Record(NamedTuple):
    """A file and its label: a node id of the taxonomy, usually a leaf."""

    path: str
    label: int


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
