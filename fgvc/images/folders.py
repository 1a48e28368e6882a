"""Find the pictures below a folder, and count the files that are passed over."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fgvc.errors import UsageError
from fgvc.images.formats import HEAD, SUFFIXES, format_of


@dataclass
class PassedOver:
    """The files below folders that are no pictures fgvc reads; hidden files do not count.

    counts: suffix -> files. first: the first file.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: str = ""

    def add(self, path: str) -> None:
        """Count a file."""
        self.counts[os.path.splitext(path)[1] or "without a suffix"] += 1  # noqa: PTH122 - there may be millions
        self.first = self.first or path

    def line(self) -> str:
        """Return what was passed over in one line, or "" where nothing was."""
        if not self.counts:
            return ""
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in self.counts.most_common(8))
        total, rest = self.counts.total(), ", ..." if len(self.counts) > 8 else ""
        files = "1 file that is no picture" if total == 1 else f"{total} files that are no pictures"
        return f"passed over {files} fgvc reads: {kinds}{rest}; first {self.first}"


def pictures_below(folder: Path, passed: PassedOver | None = None) -> Iterator[Path]:
    """Yield the picture files below a folder, at any depth, sorted; links are followed, each folder is read once.

    Args:
        folder: where to look.
        passed: counts the other files, as they are met.

    Raises:
        UsageError: a folder that may not be read.
    """
    return (folder / name for name in names_below(str(folder), True, passed))


def names_below(top: str, once: bool, passed: PassedOver | None = None) -> Iterator[str]:
    """Yield the paths of the picture files below a folder, at any depth, relative to it; links are followed.

    A file is a picture by its suffix, and is then not opened; one of another suffix by its first bytes. Formats that
    are read by option only, or with a package that is missing, are among them: the decoder says what is wanted.

    The order is that of the names in each folder. Memory holds the names of one folder and of those that it lies in. A
    link that leads nowhere is a picture, too: the decoder says what is wrong with it.

    Args:
        top: the folder.
        once: read a folder only the first time, where several links lead to it. Otherwise it is read for each of them,
            except below itself, so that a loop of links ends.
        passed: counts the other files, as they are met.

    Raises:
        UsageError: a folder that may not be read.
    """
    here, entries = _open(top)
    seen, above = {here}, [here]
    waiting = [("", iter(entries))]  # no recursion: folders may be nested deeper than Python's calls
    while waiting:
        prefix, rest = waiting[-1]
        for entry in rest:
            if is_folder(entry):
                here, entries = _open(entry.path)
                if here in (seen if once else above):
                    continue
                seen.add(here)
                above.append(here)
                waiting.append((f"{prefix}{entry.name}/", iter(entries)))
                break
            if os.path.splitext(entry.name)[1].lower() in SUFFIXES:  # noqa: PTH122 - there may be millions
                yield prefix + entry.name
                continue
            if format_of(_head(entry)) is not None:
                yield prefix + entry.name
            elif passed is not None:
                passed.add(entry.path)
        else:
            waiting.pop()
            above.pop()


def visible(folder: str | Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted by name, without hidden ones and what macOS puts into archives.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    except OSError as error:
        raise UsageError(f"{folder}: the folder cannot be read ({error.strerror})") from None
    return sorted(shown, key=lambda entry: entry.name)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _head(entry: os.DirEntry[str]) -> bytes:
    """Return the first bytes of a file; none of a pipe, which would never end, or of a file that cannot be read."""
    try:
        if not entry.is_file():
            return b""
        with open(entry.path, "rb", buffering=0) as file:  # noqa: PTH123 - os.scandir gives strings
            return file.read(HEAD)
    except OSError:
        return b""


def _open(folder: str) -> tuple[tuple[int, int], list[os.DirEntry[str]]]:
    """Return what tells a folder from all others, and its entries."""
    entries = visible(folder)
    status = os.stat(folder)  # noqa: PTH116 - os.scandir gives strings
    return (status.st_dev, status.st_ino), entries
