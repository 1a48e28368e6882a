"""The features of one split and view on disk: a Parquet table, and for maps a `.npy` beside it.

A table says itself which network made it and which maps belong to it, in the metadata of its schema, so that a stop
between two files is noticed.
Shape letters: N photographs, D width of a vector, C channels, h, w grid.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import parquet

from fgvc.files.whole_files import whole_file

_KEY = b"fgvc"

Features = npt.NDArray[np.float32] | npt.NDArray[np.float16]


class Rows(NamedTuple):
    """Which photographs: all of one length.

    at: (N,) int64, the place among the records of the split. paths: relative to the root of the data. labels: (N,)
    int32 node ids, -1 unknown. names: of the labels, from the coarsest level down. sizes: (N,) int64 bytes of the file.
    mtimes: (N,) int64 nanoseconds, when it was changed last; both are -1 where there is no file.
    """

    at: npt.NDArray[np.int64]
    paths: list[str]
    labels: npt.NDArray[np.int32]
    names: list[str]
    sizes: npt.NDArray[np.int64]
    mtimes: npt.NDArray[np.int64]

    def some(self, places: Sequence[int]) -> "Rows":
        """Return the rows at these places, in this order."""
        chosen = np.array(places, dtype=np.int64)
        paths, names = [self.paths[i] for i in places], [self.names[i] for i in places]
        return Rows(self.at[chosen], paths, self.labels[chosen], names, self.sizes[chosen], self.mtimes[chosen])

    def files(self) -> list[tuple[str, int, int]]:
        """Return path, size and time of each: what a photograph is known again by."""
        return list(zip(self.paths, self.sizes.tolist(), self.mtimes.tolist(), strict=True))

    def sha256(self, more: str = "") -> str:
        """Return the hash of all that is said of them and of a text."""
        digest = hashlib.sha256(more.encode())
        for path, name in zip(self.paths, self.names, strict=True):
            digest.update(f"{path}\0{name}\n".encode("utf-8", "surrogateescape"))
        for numbers in (self.at, self.labels, self.sizes, self.mtimes):
            digest.update(np.ascontiguousarray(numbers).data)
        return digest.hexdigest()


class Stamp(NamedTuple):
    """What a table says of itself.

    terms: the hash of what its numbers depend on beside the photographs. rows: of its rows, see `Rows.sha256`. maps:
    the file of its maps, "" where its vectors are in the table.
    """

    terms: str
    rows: str
    maps: str = ""


def write(table: Path, rows: Rows, stamp: Stamp, pieces: Iterable[Features], shape: Sequence[int], dtype: str) -> None:
    """Write the table of a split and view, and its maps.

    Args:
        table: its path; maps go beside it.
        rows: the photographs.
        stamp: what the table says of itself; where it names maps, they are written there.
        pieces: their features in order, (n, D) or (n, C, h, w) each, N in all.
        shape: of one feature.
        dtype: of the numbers, `float32` or `float16`.

    Raises:
        FgvcError: they cannot be written.
    """
    if stamp.maps:
        with whole_file(table.with_name(stamp.maps)) as draft:
            _fill(np.lib.format.open_memmap(draft, "w+", np.dtype(dtype), (len(rows.paths), *shape)), pieces)
        pieces = ()
    columns = _columns(rows)
    if not stamp.maps:
        columns["vector"] = pa.list_(pa.float32(), shape[0])
    schema = pa.schema([(name, one.type if isinstance(one, pa.Array) else one) for name, one in columns.items()])
    schema = schema.with_metadata({_KEY: json.dumps(stamp._asdict()).encode()})
    with whole_file(table) as draft, parquet.ParquetWriter(draft, schema) as writer:
        if stamp.maps:
            writer.write_table(pa.table(list(columns.values()), schema=schema))
        done = 0
        for piece in pieces:
            flat = pa.array(np.ascontiguousarray(piece, dtype=np.float32).reshape(-1))
            of_piece = [one.slice(done, len(piece)) for one in columns.values() if isinstance(one, pa.Array)]
            of_piece.append(pa.FixedSizeListArray.from_arrays(flat, shape[0]))
            writer.write_table(pa.table(of_piece, schema=schema))
            done += len(piece)


def _fill(maps: Any, pieces: Iterable[Features]) -> None:
    done = 0
    for piece in pieces:
        maps[done : done + len(piece)] = piece
        done += len(piece)
    maps.flush()


def _columns(rows: Rows) -> dict[str, Any]:
    return {
        "index": pa.array(rows.at),
        "path": _texts(rows.paths),
        "label": pa.array(rows.labels),
        "class": _texts(rows.names),
        "size": pa.array(rows.sizes),
        "mtime_ns": pa.array(rows.mtimes),
    }


def _texts(texts: Sequence[str]) -> Any:
    """Return a column of text; of bytes where a file name is not UTF-8, for which Parquet has no text."""
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:
        return pa.array([text.encode("utf-8", "surrogateescape") for text in texts], pa.binary())


def read_stamp(table: Path) -> Stamp:
    """Return what a table says of itself.

    Raises:
        OSError, ValueError: it is missing or damaged; errors of pyarrow are both or one of them.
    """
    metadata = parquet.read_schema(table).metadata or {}
    try:
        return Stamp(**json.loads(metadata[_KEY]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"no table of features ({error})") from None


def read_rows(table: Path) -> Rows:
    """Return the photographs of a table, without their features.

    Raises:
        OSError, ValueError: see `read_stamp`.
    """
    columns = parquet.read_table(table, columns=["index", "path", "label", "class", "size", "mtime_ns"])
    numbers = {name: _numbers(columns.column(name)) for name in ("index", "label", "size", "mtime_ns")}
    paths, names = (_decoded(columns.column(name).to_pylist()) for name in ("path", "class"))
    return Rows(numbers["index"], paths, numbers["label"], names, numbers["size"], numbers["mtime_ns"])


def read_features(table: Path, stamp: Stamp) -> Features:
    """Return the vectors (N, D) of a table, or its maps (N, C, h, w), which stay on the disk until they are looked at.

    Raises:
        OSError, ValueError: see `read_stamp`.
    """
    if stamp.maps:
        maps: Features = np.load(table.with_name(stamp.maps), mmap_mode="r", allow_pickle=False)
        return maps
    column = parquet.read_table(table, columns=["vector"]).column("vector")
    vectors = np.empty((len(column), column.type.list_size), dtype=np.float32)
    done = 0
    for chunk in column.chunks:
        vectors[done : done + len(chunk)] = _numbers(chunk.flatten()).reshape(len(chunk), vectors.shape[1])
        done += len(chunk)
    return vectors


def _numbers(column: Any) -> npt.NDArray[Any]:
    """Return a column of numbers, (N,), without pandas, which pyarrow's own way imports."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    dtype = np.dtype(column.type.to_pandas_dtype())
    pieces = [np.frombuffer(one.buffers()[1], dtype)[one.offset :][: len(one)] for one in chunks if len(one)]
    return pieces[0] if len(pieces) == 1 else np.concatenate([*pieces, np.zeros(0, dtype)])


def _decoded(texts: Sequence[str | bytes]) -> list[str]:
    return [text if isinstance(text, str) else text.decode("utf-8", "surrogateescape") for text in texts]
