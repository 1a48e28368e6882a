"""What is asked of a file of weights before anybody reads it: that it is no larger than any network needs."""

import io
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

LARGEST = 16 * 2**30
"""Bytes of a file: four thousand million numbers."""
LARGEST_HEADER = 8 * 2**20
"""Bytes of the names and shapes: about 80,000 tensors. The largest networks of timm have 3,000."""


def too_large(path: Path) -> str | None:
    """Say why a file is too large to be read, or None.

    The reader of safetensors parses any header: a million tensors cost it a minute and 2 GB.

    Raises:
        OSError: the file cannot be read.
    """
    if (size := path.stat().st_size) > LARGEST:
        return f"{size / 2**20:.0f} MiB; weights have at most {LARGEST // 2**20} MiB"
    with path.open("rb") as file:
        begin = file.read(9)
    if len(begin) < 9 or begin[8:] != b"{":
        return None  # no safetensors: its reader says so
    (header,) = struct.unpack("<Q", begin[:8])
    if header > LARGEST_HEADER:
        names = f"a header of {header / 2**20:.0f} MiB" if header <= size else "a header beyond its end"
        return f"{names}; the names and shapes of a network's tensors take at most {LARGEST_HEADER // 2**20} MiB"
    return None


def is_pickle(path: Path) -> bool:
    """Say whether a file begins as those of `torch.save` do: a zip archive, or a bare pickle of before 2020.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(4)
    return head == b"PK\x03\x04" or (head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"))


def odd_pickle(path: Path) -> str | None:
    """Say why a file of `torch.save` is not opened, or None: what is in it must take no more room than it has.

    Args:
        path: of a file for which `is_pickle` holds.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if file.read(1) == b"\x80":
            file.seek(0)
            return _odd_bare_pickle(file.read(LARGEST_HEADER + 1))
        if _central_directory(file) > LARGEST_HEADER:
            return f"a list of more than {LARGEST_HEADER // 2**20} MiB of files"
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        return f"no whole archive ({str(error)[:100]}); copy it again"
    if any(one.compress_type != zipfile.ZIP_STORED for one in entries):
        return "a compressed archive; torch.save writes none"
    if sum(one.file_size for one in entries) > path.stat().st_size:
        return "an archive whose files overlap"
    if any(one.filename.endswith(".pkl") and one.file_size > LARGEST_HEADER for one in entries):
        return _too_long()
    return None


def _odd_bare_pickle(head: bytes) -> str | None:
    """Read through the five pickles of the old format without making anything of them."""
    file = io.BytesIO(head)
    try:
        for _ in range(5):
            for _ in pickletools.genops(file):
                pass
    except ValueError as error:
        return _too_long() if len(head) > LARGEST_HEADER else f"no whole pickle of torch.save ({str(error)[:100]})"
    return None


def _too_long() -> str:
    return f"a pickle of more than {LARGEST_HEADER // 2**20} MiB; names and shapes of a network take less"


def _central_directory(file: BinaryIO) -> int:
    """Return how many bytes the list of an archive's files has; 0 where its end is not found."""
    size = file.seek(0, io.SEEK_END)
    start = max(0, size - 2**16 - 100)
    file.seek(start)
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) < place + 16:
        return 0
    length: int = struct.unpack_from("<L", tail, place + 12)[0]
    large = tail.rfind(b"PK\6\6", 0, place)
    if large >= 0 and len(tail) >= large + 48:
        longer: int = struct.unpack_from("<Q", tail, large + 40)[0]
        return max(length if length < 2**32 - 1 else 0, longer)
    return length
