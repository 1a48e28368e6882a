"""Read a CSV or Parquet table as columns of text, with row numbers that a person can look up."""

import csv
import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fgvc.errors import UsageError, did_you_mean
from fgvc.taxonomy.suspicious import spelling

DELIMITERS = (",", ";", "\t")


class Rows(NamedTuple):
    """The columns of a table.

    path: the file.
    numbers: the row number of each row as a spreadsheet shows it; the header is row 1.
    cells: column name -> one stripped text per row, "" where there is nothing.
    header: the names of all columns.
    """

    path: Path
    numbers: list[int]
    cells: dict[str, list[str]]
    header: list[str]

    def at(self, index: int) -> str:
        """Return `file row 7` for an error."""
        return f"{self.path} row {self.numbers[index]}"


def read_rows(path: str | Path, needed: Iterable[str], optional: Iterable[str] = ()) -> Rows:
    """Read some columns of a .parquet (.pq) file, or of a CSV in UTF-8 with commas, semicolons or tabs.

    Raises:
        UsageError: the file cannot be read, lacks a needed column, has no rows, or a row of the wrong length.
    """
    path, needed, optional = Path(path), list(needed), list(optional)
    if not path.is_file():
        raise UsageError(f"{path}: no such table")
    read = _read_parquet if path.suffix.lower() in (".parquet", ".pq") else _read_csv
    rows = read(path, needed, optional)
    if not rows.numbers:
        raise UsageError(f"{path}: a header but no rows")
    return rows


def read_head(path: str | Path, likely: Iterable[str] = ()) -> tuple[list[str], list[str]]:
    """Return the names of a table's columns and the cells of its first row; no cells where there is none.

    Args:
        path: see `read_rows`.
        likely: names of columns; they help to tell the delimiter.

    Raises:
        UsageError: the file cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such table")
    if path.suffix.lower() in (".parquet", ".pq"):
        return _parquet_head(path)
    with _read_in_one_line(path), path.open(encoding="utf-8-sig", newline="") as file:
        delimiter = _delimiter(file.readline(), list(likely))
        file.seek(0)
        rows = ([cell.strip() for cell in row] for row in csv.reader(file, delimiter=delimiter))
        return next(rows, []), next(filter(any, rows), [])


def _parquet_head(path: Path) -> tuple[list[str], list[str]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            first = [row for batch in file.iter_batches(batch_size=1) for row in batch.to_pylist()][:1]
            header = list(file.schema_arrow.names)
    except (OSError, pyarrow.ArrowException) as error:
        raise _no_parquet(path, error) from None
    return header, [_text(first[0].get(name)) for name in header] if first else []


@contextmanager
def _read_in_one_line(path: Path) -> Iterator[None]:
    """Say in one line why a CSV cannot be read; raises UsageError."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 (byte {error.object[error.start]:#x}); save it as CSV UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except csv.Error as error:
        raise UsageError(f"{path}: broken CSV ({error})") from None


def _no_parquet(path: Path, error: Exception) -> UsageError:
    reason = next(itertools.chain(str(error).splitlines(), [""]))
    return UsageError(f"{path}: not a readable Parquet file ({reason})")


def _chosen(path: Path, header: list[str], needed: list[str], optional: list[str]) -> list[str]:
    for name in needed:
        if name not in header:
            raise UsageError(f"{path}: no column {name!r}; it has {header}{_near_hint(name, header)}")
        if header.count(name) > 1:
            raise UsageError(f"{path}: {header.count(name)} columns are called {name!r}; give each a name of its own")
    return list(dict.fromkeys([*needed, *(name for name in optional if name in header)]))


def near(name: str, header: Iterable[str]) -> list[str]:
    """Return the columns that differ from a name only in case, blanks, underscores, hyphens or one letter."""
    plain = spelling(name)
    return [other for other in header if other != name and _distance_is_one(plain, spelling(other))]


def _distance_is_one(one: str, other: str) -> bool:
    """Whether two words are equal, or one letter more, less, other or swapped with its neighbour apart."""
    short, long = sorted((one, other), key=len)
    start = next((i for i, pair in enumerate(zip(short, long, strict=False)) if pair[0] != pair[1]), len(short))
    a, b = short[start:], long[start:]
    return a == b or a == b[1:] or a[1:] == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def _near_hint(name: str, header: list[str]) -> str:
    close = near(name, header)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else did_you_mean(name, header)


def _read_csv(path: Path, needed: list[str], optional: list[str]) -> Rows:
    with _read_in_one_line(path), path.open(encoding="utf-8-sig", newline="") as file:
        delimiter = _delimiter(file.readline(), needed)
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            columns = [header.index(name) for name in _chosen(path, header, needed, optional)]
            texts: list[list[str]] = [[] for _ in columns]
            numbers: list[int] = []
            for number, row in enumerate(reader, start=2):
                if not any(row):
                    continue
                if len(row) != len(header):
                    raise UsageError(f"{path} row {number}: {len(row)} cells, but the header has {len(header)}")
                numbers.append(number)
                for text, column in zip(texts, columns, strict=True):
                    text.append(row[column].strip())
        except csv.Error as error:
            raise UsageError(f"{path} line {reader.line_num}: broken CSV ({error})") from None
    return Rows(path, numbers, {header[column]: text for text, column in zip(texts, columns, strict=True)}, header)


def _delimiter(first_line: str, needed: list[str]) -> str:
    """Return the delimiter that splits the header into the most needed names, the comma when in doubt."""

    def hits(delimiter: str) -> int:
        names = {name.strip().strip('"') for name in first_line.split(delimiter)}
        return len(names.intersection(needed)) * 1000 + len(names)

    return max(DELIMITERS, key=hits)


def _read_parquet(path: Path, needed: list[str], optional: list[str]) -> Rows:
    import pyarrow
    from pyarrow import parquet

    try:
        header = list(parquet.read_schema(path).names)
        columns = _chosen(path, header, needed, optional)
        table = parquet.read_table(path, columns=columns)
    except (OSError, pyarrow.ArrowException) as error:
        raise _no_parquet(path, error) from None
    cells = {name: [_text(value) for value in table.column(name).to_pylist()] for name in columns}
    return Rows(path, list(range(2, table.num_rows + 2)), cells, header)


def _text(value: object) -> str:
    missing = value is None or value != value  # NaN is the one value that differs from itself
    return "" if missing else str(value).strip()
