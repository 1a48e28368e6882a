"""The list of photographs of a split: paths and labels in tables that worker processes share."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from fgvc.data.record_table import RecordTable, table_of


class Record(NamedTuple):
    """A file and its label: a node id of the taxonomy, usually a leaf."""

    path: str
    label: int


class Records(Sequence[Record]):
    """An immutable sequence of Record without an object per record: worker processes share it instead of copying it.

    Args:
        paths: one path per record, relative to `root` or absolute; or a table that has them.
        labels: one node id per record; -1 without a label.
        root: the folder that relative paths are joined to.
    """

    def __init__(
        self, paths: Iterable[str] | RecordTable, labels: Iterable[int] | npt.NDArray[np.int32], root: str | Path = ""
    ) -> None:
        self._table = paths if isinstance(paths, RecordTable) else table_of(paths)
        self._rows: npt.NDArray[np.int32] | None = None
        self.labels: npt.NDArray[np.int32] = np.asarray(
            labels if isinstance(labels, np.ndarray) else list(labels), dtype=np.int32
        )
        self.root = str(root)
        if len(self.labels) != len(self._table):
            raise ValueError(f"{len(self._table)} paths but {len(self.labels)} labels")

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
        return self._table.path(index if self._rows is None else int(self._rows[index]))

    def subset(self, indices: Iterable[int] | npt.NDArray[np.integer]) -> "Records":
        """Return the records at these positions, in this order; they share the paths of the whole and copy none.

        Only a part that is smaller than half of a table in memory gets paths of its own.
        """
        chosen = indices if isinstance(indices, np.ndarray) else np.fromiter(indices, dtype=np.int64)
        rows = np.arange(len(self), dtype=np.int32) if self._rows is None else self._rows
        part = copy.copy(self)
        part._rows, part.labels = rows[chosen], self.labels[chosen]
        if self._table.file is None and 2 * len(part) < len(self._table):  # a copy is smaller than the whole
            part._table, part._rows = self._table.take(part._rows), None
        return part

    def with_labels(self, labels: npt.NDArray[np.int32]) -> "Records":
        """Return the same files with other labels, (N,) node ids."""
        if len(labels) != len(self):
            raise ValueError(f"{len(self)} records but {len(labels)} labels")
        other = copy.copy(self)
        other.labels = labels
        return other
