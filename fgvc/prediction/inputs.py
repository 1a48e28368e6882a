"""What a user names for a prediction: pictures and folders, patterns, tables with a column of paths, lists of paths."""

import argparse
import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fgvc.data.reading.path_column import find_path_column, local_path
from fgvc.data.reading.table_file import read_rows
from fgvc.errors import UsageError
from fgvc.images.folders import PassedOver
from fgvc.images.formats import SUFFIXES
from fgvc.images.pictures import Picture, expand

TABLES = frozenset({".csv", ".tsv", ".parquet", ".pq"})
LIST = ".txt"
LOOKED_FOR = 5
"""How many files of a table or a list are looked for before the work begins."""

Named = str | list[Path]
"""A picture, a folder or `-` for stdin; or the paths that a table or a list names."""


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add the words and flags of a command that name pictures."""
    what = (
        "pictures, folders, patterns such as 'photos/*.jpg', tables (.csv, .tsv, .parquet) with a column of paths, "
        "lists of paths (.txt or @FILE), or - for a list on stdin, one path per line"
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help=what)
    column = "the column of paths in tables (default: path, or file, filename, image, file_name ...)"
    parser.add_argument("--path_column", metavar="NAME", help=column)
    start = (
        "where relative paths in tables and lists start (default: the folder of the table or list, or where you are if "
        "its first files are only there)"
    )
    parser.add_argument("--root", metavar="FOLDER", type=Path, help=start)


def read_inputs(names: Iterable[str], path_column: str | None = None, root: Path | None = None) -> list[Named]:
    """Look at what a command line names, and read its tables and lists.

    Args:
        names: see `add_inputs`.
        path_column: the column of paths in tables; None for the usual names.
        root: where relative paths in tables and lists start; None for the folder of each, see `add_inputs`.

    Raises:
        UsageError: nothing of that name, a pattern that fits nothing, a table or list that names no files, or a flag
            that nothing here needs.
    """
    found: list[Named] = []
    for name in names:
        for one in _fitting(name):
            read = _read(one, path_column, root)
            if read is None and one != "-" and not Path(one).exists():
                raise UsageError(f"{one}: no such picture or folder")
            found.append(one if read is None else read)
    if path_column is not None and not any(_is_table(one) for name in names for one in _fitting(name)):
        raise UsageError(f"--path_column {path_column}: there is no table among the inputs; leave it out")
    if root is not None and not any(isinstance(one, list) for one in found):
        raise UsageError(f"--root {root}: there is no table or list among the inputs; leave it out")
    return found


def named_in(images: Any, path_column: str | None = None) -> Any:
    """Return the paths that one text or path stands for, if it is a pattern, a table or a list; else what is given.

    Raises:
        UsageError: see `read_inputs`.
    """
    fitting = _fitting(os.fsdecode(images)) if isinstance(images, str | os.PathLike) else []
    if path_column is not None and not any(map(_is_table, fitting)):
        raise UsageError(f"path_column: only for a table that is a file; of one in memory give table[{path_column!r}]")
    read = [_read(one, path_column, None) for one in fitting]
    if not fitting or (len(fitting) == 1 and read[0] is None and fitting[0] == os.fsdecode(images)):
        return images
    return [path for one, paths in zip(fitting, read, strict=True) for path in paths or [Path(one)]]


def pictures_of(inputs: Sequence[Named], passed: PassedOver | None = None) -> tuple[Iterable[Picture], int | None]:
    """Return the pictures that a command line names, and their number; None where stdin lists them.

    Folders are walked twice, so that their names need not be in memory. `passed` counts their other files while the
    pictures are taken.
    """
    return _named(inputs, passed), None if "-" in inputs else sum(1 for _ in _named(inputs))


def _named(inputs: Sequence[Named], passed: PassedOver | None = None) -> Iterator[Picture]:
    for one in inputs:
        yield from expand(_listed_on_stdin() if one == "-" else one, passed)


def _listed_on_stdin() -> Iterator[Path]:
    for line in sys.stdin.buffer:
        name = os.fsdecode(line.rstrip(b"\r\n"))
        if "\0" in name:
            raise UsageError("stdin: a path with a zero byte; give one path per line (find -print, not -print0)")
        if name:
            yield Path(name)


def _fitting(name: str) -> list[str]:
    """Return what a pattern fits, sorted, as a shell would; any other name, or that of a file, as it is."""
    if not glob.has_magic(name) or os.path.lexists(name):
        return [name]
    found = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - names stay as they are typed
    if not found:
        raise UsageError(f"{name}: no file fits this pattern")
    return found


def _is_table(name: str) -> bool:
    return Path(name).suffix.lower() in TABLES and os.path.isfile(name)  # noqa: PTH113 - as above


def _read(name: str, path_column: str | None, root: Path | None) -> list[Path] | None:
    """Return the paths in a table or a list; None for anything else."""
    if _is_table(name):
        return _paths_of_table(Path(name), path_column, root)
    if name.startswith("@") and not os.path.lexists(name):
        return _paths_of_list(Path(name[1:]), root)
    if Path(name).suffix.lower() == LIST and os.path.isfile(name) and _looks_like_list(Path(name)):  # noqa: PTH113
        return _paths_of_list(Path(name), root)
    return None


def _paths_of_table(table: Path, column: str | None, root: Path | None) -> list[Path]:
    column = find_path_column(table, "--path_column") if column is None else column
    rows = read_rows(table, [column])
    texts = []
    for i, cell in enumerate(rows.cells[column]):
        if not cell:
            raise UsageError(f"{rows.at(i)}: column {column!r} is empty; name a file or remove the row")
        try:
            texts.append(local_path(cell))
        except UsageError as error:
            raise UsageError(f"{rows.at(i)}: {error}") from None
    return _placed(texts, table, root, rows.at(0))


def _paths_of_list(file: Path, root: Path | None) -> list[Path]:
    try:
        lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        raise UsageError(f"{file}: the list cannot be read ({error.strerror})") from None
    for number, line in enumerate(lines, start=1):
        if b"\0" in line:
            raise UsageError(f"{file} line {number}: a zero byte; save the list as UTF-8 text, one path per line")
    texts = [os.fsdecode(line.strip()) for line in lines if line.strip()]
    if not texts:
        raise UsageError(f"{file}: the list is empty; write one path per line")
    return _placed(texts, file, root, f"{file} line 1")


def _looks_like_list(file: Path) -> bool:
    """Whether a text file begins with the name of a picture or of something that is there."""
    try:
        with file.open("rb") as opened:
            head = opened.read(4096)
    except OSError:
        return False
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16, as the shell of Windows writes lists: refused as one
        return True
    first = os.fsdecode(head.removeprefix(b"\xef\xbb\xbf").strip().partition(b"\n")[0].strip())
    return Path(first).suffix.lower() in SUFFIXES or (bool(first) and _exists(file.parent / first))


def _placed(texts: Sequence[str], file: Path, root: Path | None, where: str) -> list[Path]:
    """Return paths below the folder that they start from; refuse those that start nowhere.

    Args:
        texts: the paths, at least one.
        file: which named them.
        root: where they start, or None.
        where: the place of the first one, for messages.
    """
    for folder in [file.parent, Path()] if root is None else [root]:
        if any(_exists(folder / text) for text in texts[:LOOKED_FOR]):
            return [folder / text for text in texts]
    first = (root or file.parent) / texts[0]
    raise UsageError(f"{where}: no file {first}; give --root FOLDER, where relative paths start")


def _exists(path: Path) -> bool:
    return os.path.lexists(path)
