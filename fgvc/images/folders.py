"""Find the pictures below a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from fgvc.errors import UsageError
from fgvc.images.decoding import SUFFIXES


def pictures_below(folder: Path) -> Iterator[Path]:
    """Yield the picture files below a folder, at any depth, sorted; links are followed, each folder is read once.

    Raises:
        UsageError: a folder that may not be read.
    """
    return (folder / name for name in names_below(str(folder), once=True))


def names_below(top: str, once: bool) -> Iterator[str]:
    """Yield the paths of the picture files below a folder, at any depth, relative to it; links are followed.

    The order is that of the names in each folder. Memory holds the names of one folder and of those that it lies in. A
    link that leads nowhere is a picture, too: the decoder says what is wrong with it.

    Args:
        top: the folder.
        once: read a folder only the first time, where several links lead to it. Otherwise it is read for each of them,
            except below itself, so that a loop of links ends.

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


def _open(folder: str) -> tuple[tuple[int, int], list[os.DirEntry[str]]]:
    """Return what tells a folder from all others, and its entries."""
    entries = visible(folder)
    status = os.stat(folder)  # noqa: PTH116 - os.scandir gives strings
    return (status.st_dev, status.st_ino), entries
