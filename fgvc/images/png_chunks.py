"""The chunks of a PNG: what the pixels need of them, and whether they are whole (W3C, "PNG", third edition, 2023)."""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from fgvc.images.limits import ImageError

SIGNATURE = 8  # bytes
MOST_CHUNKS = 250_000
"""Pillow takes microseconds for each, and twelve bytes make one."""
FEW_CHUNKS = 20_000
"""Of them Pillow reads so many in a tenth of a second."""
TEXT = 2**20
"""Bytes of an unpacked text that Pillow accepts; of a longer one it says that the file is damaged."""
_TURNS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # texts that may say how the camera was held
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")


class Chunk(NamedTuple):
    """Where a chunk lies: length (4 bytes), kind (4), body, checksum (4)."""

    start: int
    end: int
    kind: bytes


class Slim(NamedTuple):
    """A PNG without what the pixels do not need.

    data: the file. significant: bits of a sample that the file says are used, 0 where it says nothing. chunks: how many
    there were.
    """

    data: bytes
    significant: int
    chunks: int


def chunks_of(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks up to IEND, or up to the first that does not lie in the file whole."""
    start = SIGNATURE
    while start + 12 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            return
        chunk = Chunk(start, end, data[start + 4 : start + 8])
        yield chunk
        if chunk.kind == b"IEND":
            return
        start = end


def slim(data: bytes, label: str) -> Slim:
    """Leave texts, colour profiles and other frames out: they cost time and memory and change no pixel of ours.

    Raises:
        ImageError: very many chunks.
    """
    kept, end, significant, count, dropped = [data[:SIGNATURE]], SIGNATURE, 0, 0, False
    for chunk in chunks_of(data):
        count += 1
        if count > MOST_CHUNKS:
            raise ImageError(f"{label}: a PNG of over {MOST_CHUNKS:,} chunks; save it again")
        if chunk.kind == b"sBIT" and chunk.end - chunk.start > 12:
            significant = max(data[chunk.start + 8 : chunk.end - 4])
        if _needed(chunk, data):
            kept.append(data[chunk.start : chunk.end])
        else:
            dropped = True
        end = chunk.end
    return Slim(b"".join([*kept, data[end:]]) if dropped else data, significant, count)


def _needed(chunk: Chunk, data: bytes) -> bool:
    if chunk.kind in _TEXTS:
        body = data[chunk.start + 8 : min(chunk.end - 4, chunk.start + 8 + TEXT)]
        return body.startswith(_TURNS) and chunk.end - chunk.start < TEXT and _unpacked_is_short(chunk.kind, body)
    if chunk.kind == b"eXIf":
        return chunk.end - chunk.start < TEXT
    # A capital letter: without it there are no pixels.
    return not chunk.kind[:1].islower() or chunk.kind == b"tRNS"


def _unpacked_is_short(kind: bytes, body: bytes) -> bool:
    rest = body.partition(b"\0")[2]
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] == b"\0"):
        return True
    packed = rest[1:] if kind == b"zTXt" else rest[2:].split(b"\0", 2)[-1]
    try:
        return len(zlib.decompressobj().decompress(packed, TEXT)) < TEXT
    except zlib.error:
        return False


def damage(data: bytes) -> str | None:
    """Say which checksum is wrong; "" where the end is missing, None where nothing is wrong.

    A chunk's checksum is the CRC of its kind and its body.
    """
    kind, view = b"", memoryview(data)
    for start, end, kind in chunks_of(data):
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            return f"the checksum of a chunk {kind.decode('ascii', 'backslashreplace')} is wrong"
    return None if kind == b"IEND" else ""
