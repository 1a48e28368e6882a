"""A file that is on its way: what has arrived, what it is a part of, and whether the whole is the right one."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fgvc.errors import FgvcError
from fgvc.files.bars import byte_bar

BLOCK = 2**20


class PartialFile:
    """A growing file `NAME.part`, and `NAME.part.json`, which says what it is a part of; both outlive a kill.

    Args:
        target: the whole file that it will be.
        url: where it comes from; a part from another address is deleted.

    Raises:
        FgvcError: it cannot be written, here and in all methods.

    Attributes:
        have: bytes that have arrived.
        total: bytes of the whole, or None where the server does not say.
        validator: what the server calls this version of the file (ETag or date), or None.
    """

    def __init__(self, target: Path, url: str) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")
        self._url = url
        with self._writing():
            self._file = self.path.open("ab", buffering=0)  # nothing waits in memory that a kill would lose
            try:
                noted = json.loads(self._note.read_text(encoding="utf-8"))
                self.total, self.validator = noted["total"], noted["validator"]
                is_known = noted["url"] == url
            except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or one that a kill cut short
                is_known = False
            if is_known:
                self.have, self._digest = self.path.stat().st_size, _digest(self.path)
            else:
                self.restart()

    @property
    def progress(self) -> str:
        """What has arrived, in words."""
        of = "" if self.total is None else f" of {readable(self.total)}"
        return f"{readable(self.have)}{of}"

    def restart(self, total: int | None = None, validator: str | None = None) -> None:
        """Delete what has arrived and begin a file of that length and version."""
        with self._writing():
            self._file.truncate(0)
            self.have, self._digest = 0, _md5()
            self.total, self.validator = total, validator
            note = {"url": self._url, "total": total, "validator": validator}
            self._note.write_text(json.dumps(note), encoding="utf-8")

    def append(self, block: bytes) -> None:
        """Add what has arrived."""
        left = memoryview(block)
        while left:
            with self._writing():
                written = self._file.write(left)
            self._digest.update(left[:written])
            self.have += written
            left = left[written:]

    def close(self) -> None:
        """Stop writing; the part stays."""
        self._file.close()

    def finish(self, md5: str | None, size: int | None) -> None:
        """Give the file its name if it is the right file; otherwise put it aside and raise FgvcError."""
        self.close()
        with self._writing():
            self._note.unlink(missing_ok=True)
            _check(self.path, self.target, self._digest.hexdigest(), md5, size)
            self.path.rename(self.target)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FgvcError(
                f"{self.path}: cannot be written ({error.strerror}); make room or mend it, then give the same command "
                "again: it continues"
            ) from None


def check_whole(target: Path, md5: str | None, size: int | None) -> None:
    """Put a file aside if it is not the right one.

    Args:
        target: the file.
        md5: its checksum as it must be, or None.
        size: its length in bytes as it must be, or None.

    Raises:
        FgvcError: it is another one, or cannot be read.
    """
    try:
        _check(target, target, _digest(target).hexdigest() if md5 else "", md5, size)
    except OSError as error:
        raise FgvcError(f"{target}: cannot be read ({error.strerror}); move it away") from None


def readable(count: float) -> str:
    """Return a number of bytes in words, in powers of 1000."""
    return f"{tqdm.format_sizeof(count)}B"


def _check(file: Path, target: Path, digest: str, md5: str | None, size: int | None) -> None:
    length = file.stat().st_size
    if md5 in (None, digest) and size in (None, length):
        return
    aside = target.with_name(f"{target.name}.wrong")
    file.replace(aside)
    wrong = f"its md5 is {digest}, not {md5}" if md5 not in (None, digest) else f"it has {length:,} bytes, not {size:,}"
    raise FgvcError(f"{target}: {wrong}; put aside as {aside.name}: give the same command again to fetch it anew")


def _digest(path: Path) -> Any:
    """Return the running md5 of what a file holds now."""
    digest, length = _md5(), path.stat().st_size
    with path.open("rb") as file, byte_bar(f"checking {path.name}", length) as watched:
        while block := file.read(BLOCK):
            digest.update(block)
            watched.update(len(block))
    return digest


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)  # against accidents, as the makers publish it; https is against attacks
