"""Write predictions as CSV, JSON, JSON lines or Parquet, one after the other, as they come.

The writers take what `Result.to_dict` gives, so that what was stored as JSON need not become a Result again.
"""

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from fgvc.errors import UsageError, did_you_mean
from fgvc.prediction.tables import parquet_table
from fgvc.prediction.tables.columns import Columns

Plain = Mapping[str, Any]
Writer = Callable[[Iterable[Plain], TextIO, Columns], None]


def kind_of(path: Path) -> str:
    """Return which of `WRITERS` the suffix of a file asks for.

    Raises:
        UsageError: none of them.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in WRITERS:
        known = [f".{kind}" for kind in WRITERS]
        near = did_you_mean(path.suffix.lower(), known)
        raise UsageError(f"{path}: results are written as {', '.join(known)}, not {path.suffix!r}{near}")
    return kind


def write_csv(results: Iterable[Plain], file: TextIO, columns: Columns) -> None:
    """Write the columns in their order, scores with six digits, boxes as a JSON list of [x1, y1, x2, y2]."""
    kinds = columns.kinds()
    writer = csv.writer(UnixLines(file))
    writer.writerow(kinds)
    for result in results:
        for row in columns.rows(result):
            writer.writerow([_cell(cell, kind) for cell, kind in zip(row, kinds.values(), strict=True)])


def write_json(results: Iterable[Plain], file: TextIO, columns: Columns | None = None) -> None:
    """Write one list of objects, an object per line; see `write_jsonl`."""
    before = "[\n"
    for line in _lines(results, columns):
        file.write(before + line)
        before = ",\n"
    file.write("\n]\n" if before == ",\n" else "[]\n")


def write_jsonl(results: Iterable[Plain], file: TextIO, columns: Columns | None = None) -> None:
    """Write one object per line: the result as it is or, in the long layout, an object of all columns."""
    file.writelines(line + "\n" for line in _lines(results, columns))


def write_parquet(results: Iterable[Plain], file: TextIO, columns: Columns) -> None:
    """Write the columns with their types, boxes as lists of lists, into the bytes below a text file."""
    rows = (row for result in results for row in columns.rows(result))
    parquet_table.write(rows, columns.kinds(), file.buffer)


WRITERS: dict[str, Writer] = {"csv": write_csv, "json": write_json, "jsonl": write_jsonl, "parquet": write_parquet}
"""What a suffix or `--format` asks for -> the function that writes it."""


class UnixLines:
    r"""End rows with \n, so that cut and awk see a clean last column.

    (Told to do so itself, Python's writer before 3.13 leaves a \r in a file name unquoted and cannot read it again.)
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, row: str) -> None:
        """Write a row."""
        self._file.write(row.removesuffix("\r\n") + "\n")


def _cell(cell: Any, kind: str) -> str:
    if cell is None:
        return ""
    if kind == "boxes":
        return json.dumps([[round(x, 6) for x in box] for box in cell])
    return f"{cell:.6f}" if kind == "score" else str(cell)


def _lines(results: Iterable[Plain], columns: Columns | None) -> Iterable[str]:
    for result in results:
        if columns is None or columns.layout == "wide":
            yield to_json(result)
        else:
            kinds = columns.kinds()
            for row in columns.rows(result):
                yield to_json(dict(zip(kinds, row, strict=True)))


def to_json(plain: Plain) -> str:
    """Return one line of JSON."""
    return json.dumps(plain, ensure_ascii=False, allow_nan=False)
