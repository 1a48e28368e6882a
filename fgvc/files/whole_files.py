"""The one writer of files and folders of our own: each is whole, or the former one stays.

A file is written under a temporary name beside its own and renamed at the end. What a stop leaves is removed, and a
full disk is one line.
"""

import csv
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from fgvc.errors import FgvcError, UsageError

PICTURES = (".jpg", ".jpeg", ".png")
"""The suffixes that `save_picture` writes."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; the file that is written there gets its own name at the end.

    Raises:
        FgvcError: it cannot be written.
        UsageError: what is at `path` is a device, a pipe or a folder.
    """
    check_plain(path)
    draft = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.replace(path)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise FgvcError(f"{path}: cannot be written ({error.strerror or error})") from None
        raise


@contextmanager
def open_whole(path: Path, errors: str | None = None) -> Iterator[TextIO]:
    """Open a text file for writing; the file at `path` is replaced once the new one is complete.

    Args:
        path: the file.
        errors: what becomes of the bytes of a file name that is not UTF-8; by default as `unencodable` has it.

    Raises:
        FgvcError: it cannot be written.
    """
    errors = errors or unencodable(path.suffix)
    with whole_file(path) as draft, draft.open("w", encoding="utf-8", errors=errors, newline="") as file:
        yield file


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty draft folder; it gets the name `folder` at the end, unless another process was faster.

    Raises:
        OSError: the draft cannot be made, filled or renamed; nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield draft
        draft.chmod(0o755)
        try:
            draft.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def unencodable(suffix: str) -> str:
    """Return what becomes of the bytes of a file name that is not UTF-8: kept in CSV, a JSON escape in JSON."""
    return "surrogateescape" if suffix.lower() in (".csv", "csv") else "backslashreplace"


def write_text(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        FgvcError: it cannot be written.
    """
    with open_whole(path) as file:
        file.write(text)


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, the head first.

    Raises:
        FgvcError: it cannot be written.
    """
    with open_whole(path) as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def save_picture(pixels: npt.NDArray[np.uint8], path: str | Path) -> None:
    """Write a picture (H, W, 3) uint8 RGB as .jpg or .png.

    Raises:
        UsageError: another suffix.
        FgvcError: the file cannot be written.
    """
    from PIL import Image  # the model page writes no pictures and starts quickly

    target = check_picture(Path(path))
    with whole_file(target) as draft:
        kind = "PNG" if target.suffix.lower() == ".png" else "JPEG"
        Image.fromarray(pixels).save(draft, format=kind, quality=90)


def check_plain(path: Path) -> None:
    """Raise UsageError where a device, a pipe or a folder is: a rename would put a file in the place of `/dev/null`."""
    with suppress(OSError):
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind):
            found = (
                "a folder" if stat.S_ISDIR(kind) else "a device or a pipe, and a file is written whole or not at all"
            )
            raise UsageError(f"{path}: {found}; give the name of a file")


def check_picture(path: Path) -> Path:
    """Return the path, or raise UsageError where it is neither .jpg nor .png."""
    if path.suffix.lower() not in PICTURES:
        raise UsageError(f"{path}: a contact sheet is written as {' or '.join(PICTURES)}, not {path.suffix!r}")
    return path


def check_output(path: Path, suffixes: Iterable[str], overwrite: bool, flag: str = "--output") -> None:
    """Raise UsageError for a file of a kind that is not written, or that is there and may not be replaced."""
    kinds = list(suffixes)
    if path.suffix.lower() not in kinds:
        raise UsageError(f"{flag} {path}: it is written as {' or '.join(kinds)}, not {path.suffix!r}")
    check_free(path, overwrite)


def check_free(path: Path, overwrite: bool) -> None:
    """Raise UsageError for a name that is no file's, or that is taken and may not be replaced."""
    check_plain(path)
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: exists already; choose another name, or give --overwrite")


def flush(file: Any) -> None:
    """Bring an open file to the disk: a power cut must not leave a whole name with half a content."""
    file.flush()
    os.fsync(file.fileno())
