"""Write a table as Parquet, a group of rows at a time."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import IO, Any

ROWS = 8192
"""How many rows are in memory at once; they become one row group."""


def write(rows: Iterable[Sequence[Any]], kinds: Mapping[str, str], file: IO[bytes]) -> None:
    """Write rows; None becomes null.

    Args:
        rows: the cells of each, in the order of `kinds`.
        kinds: column -> `text`, `score`, `rank` or `boxes`, see `fgvc.prediction.tables.columns`.
        file: opened for writing bytes.
    """
    import pyarrow as pa
    from pyarrow import parquet

    types = {"text": pa.string(), "score": pa.float64(), "rank": pa.int32(), "boxes": pa.list_(pa.list_(pa.float64()))}
    schema = pa.schema([(name, types[kind]) for name, kind in kinds.items()])
    stream = iter(rows)
    with parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(stream, ROWS)):
            columns = zip(zip(*group, strict=True), kinds.values(), schema.types, strict=True)
            arrays = [pa.array([_utf8(x) for x in c] if kind == "text" else c, of) for c, kind, of in columns]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _utf8(text: str | None) -> str | None:
    """Name the bytes of a file name that is not UTF-8, as Parquet has no place for them."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()
