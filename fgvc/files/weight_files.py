"""What is asked of a safetensors file before anybody reads it: that it is no larger than any network needs."""

import struct
from pathlib import Path

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
