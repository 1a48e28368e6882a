"""Check one photograph for what would harm a training. Worker processes import this file, so it imports little."""

import hashlib
import os
import stat
from pathlib import Path

from fgvc.images.decoding import MAX_BYTES, USUAL, ImageError, Limits, decode_with_warning
from fgvc.images.value_range import GUESSED

LEAST_CONTRAST = 8  # of 255; frames of a covered lens or a failed flash lie below


def look(path: str, min_side: int, limits: Limits = USUAL) -> tuple[int, str, str]:
    """Decode one file.

    Args:
        path: the file.
        min_side: pixels of the shorter side below which a picture is tiny.
        limits: which files are read.

    Returns:
        64 bits of a hash of its bytes, 0 where it is unreadable; the problem, `unreadable`, `damaged`,
        `range_guessed` (of more than 8 bits), `tiny` or `blank`, "" where there is none; what was found.
    """
    try:
        data = _bytes(path)
        pixels, warning = decode_with_warning(path if data is None else data, "picture", limits=limits)
    except ImageError as error:
        return 0, "unreadable", str(error).removeprefix("picture: ")
    digest = 0 if data is None else int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    if warning:
        return digest, "range_guessed" if warning.startswith(GUESSED) else "damaged", warning
    height, width = pixels.shape[:2]
    if min(height, width) < min_side:
        return digest, "tiny", f"{width} x {height} pixels; the shorter side has less than {min_side}"
    sample = pixels[::4, ::4]
    if int(sample.max()) - int(sample.min()) < LEAST_CONTRAST:
        return digest, "blank", f"one colour all over: its values run from {sample.min()} to {sample.max()}"
    return digest, "", ""


def _bytes(path: str) -> bytes | None:
    """Return the content, or None where the decoder has to say why it cannot be had: missing, no file, too large."""
    try:
        status = os.stat(path)  # noqa: PTH116 - once per file, of millions
        ordinary = stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES
        return Path(path).read_bytes() if ordinary else None
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return None
