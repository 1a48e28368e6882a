"""The one form of record tables: an Arrow table, in memory or in a file that all processes read in place."""

import json
import mmap
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

EXTRA = b"extra"
"""The key of plain data in the metadata of an Arrow schema."""


class RecordTable:
    """An immutable table with one row per photograph.

    A table that `open_table` returned is not copied into another process, however it is started: it maps the same file.

    Args:
        columns: the Arrow table. Its column `path` holds the bytes of file names, as some names are not valid UTF-8.
        file: the file that the table is mapped from; None for a table in memory.
    """

    def __init__(self, columns: pa.Table, file: Path | None = None) -> None:
        self.columns, self.file = columns, file
        self._paths = columns.column("path")

    @property
    def extra(self) -> dict[str, Any]:
        """Plain data that is not about single rows.

        Raises:
            ValueError: it is damaged.
        """
        extra: dict[str, Any] = json.loads((self.columns.schema.metadata or {}).get(EXTRA, b"null"))
        return extra

    def __len__(self) -> int:
        return int(self.columns.num_rows)

    def path(self, row: int) -> str:
        """Return the path of a row; a negative number counts from the end.

        Raises:
            IndexError: there is no such row.
        """
        name: bytes = self._paths[row].as_py()
        return name.decode("utf-8", "surrogateescape")

    def numbers(self, column: str) -> npt.NDArray[Any]:
        """Return a column of numbers, (N,); it is not copied where it lies in one piece."""
        # as in _array: pyarrow's own ways from and to numpy import pandas where that is installed (0.2 s, 30 MB)
        pieces = self.columns.column(column).chunks
        arrays = [np.frombuffer(x.buffers()[1], x.type.to_pandas_dtype())[x.offset :][: len(x)] for x in pieces]
        return arrays[0] if len(arrays) == 1 else np.concatenate([*arrays, np.zeros(0, dtype=np.int32)])

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> "RecordTable":
        """Return a copy of some rows, in this order."""
        return RecordTable(self.columns.take(_array(rows)))

    def save(self, file: Any) -> None:
        """Write the table to a file that was opened for writing bytes, in the format of Arrow IPC files."""
        with pa.ipc.new_file(file, self.columns.schema) as writer:
            writer.write_table(self.columns)

    def __reduce__(self) -> Any:
        return (RecordTable, (self.columns,)) if self.file is None else (_mapped, (self.file,))


class PathPacker:
    """Collects millions of paths without keeping an object for each."""

    def __init__(self) -> None:
        self._blob, self._ends = bytearray(), array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def extend(self, paths: Iterable[str]) -> None:
        """Add paths at the end."""
        blob, ends = self._blob, self._ends
        for path in paths:
            blob += path.encode("utf-8", "surrogateescape")
            ends.append(len(blob))

    def table(self, extra: dict[str, Any] | None = None, **columns: npt.NDArray[Any]) -> RecordTable:
        """Return the table of the paths, of columns of the same length and of plain data that JSON can hold.

        No path can be added any more.
        """
        buffers = [None, pa.py_buffer(self._ends), pa.py_buffer(self._blob)]
        arrays = {"path": pa.Array.from_buffers(pa.large_binary(), len(self), buffers)}
        arrays |= {name: _array(numbers) for name, numbers in columns.items()}
        metadata = {EXTRA: json.dumps(extra or {})}
        return RecordTable(pa.Table.from_arrays(list(arrays.values()), list(arrays), metadata=metadata))


def table_of(paths: Iterable[str]) -> RecordTable:
    """Return the table of paths and no other column."""
    packer = PathPacker()
    packer.extend(paths)
    return packer.table()


def open_table(file: Path, kinds: Mapping[str, type[np.generic]]) -> RecordTable:
    """Return the table of an Arrow IPC file, which is read when its rows are looked at.

    Args:
        file: written by `RecordTable.save`.
        kinds: the columns of numbers that must be there.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not a whole Arrow file, or not a table with these columns.
    """
    columns = [pa.field(name, pa.from_numpy_dtype(kind)) for name, kind in kinds.items()]
    expected = pa.schema([pa.field("path", pa.large_binary()), *columns])
    try:
        table = _mapped(file.resolve())
        table.columns.validate(full=True)
        if table.columns.schema != expected or not isinstance(table.extra, dict):
            raise ValueError(f"columns {table.columns.schema.names}, not {expected.names}")
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from None
    return table


def _mapped(file: Path) -> RecordTable:
    with file.open("rb") as opened:
        pages = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    return RecordTable(pa.ipc.open_file(pa.BufferReader(pa.py_buffer(pages))).read_all(), file)


def _array(numbers: npt.NDArray[Any]) -> pa.Array:
    memory = pa.py_buffer(np.ascontiguousarray(numbers))
    return pa.Array.from_buffers(pa.from_numpy_dtype(numbers.dtype), len(numbers), [None, memory])
