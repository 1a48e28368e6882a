"""The markers of a JPEG, read without decoding (ITU-T T.81, 1992, annex B): what a file will cost."""

import re

from fgvc.images.limits import ImageError

MAX_SCANS = 100
"""A progressive file has about ten; each goes over all pixels again."""
FEW_SCANS = 20
MOST_SEGMENTS = 2_000
"""Before the first scan. Pillow takes microseconds for each, and four bytes make one."""
MOST_HEADER = 8 * 2**20
"""Bytes before the first scan. Pillow copies all of the EXIF for each segment of it."""

_START_OF_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff+([\x02-\xcf\xd8-\xfe])")  # in pixels, 0xff is followed by zero or a restart
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)
_OTHER_FRAMES = {*range(0xC3, 0xD0)} - {0xC4, 0xC8, 0xCC}  # lossless, hierarchical or arithmetic


def check_scans(data: bytes, label: str) -> int:
    """Return an upper bound of the number of scans.

    Raises:
        ImageError: more than MAX_SCANS.
    """
    scans = data.count(b"\xff\xda")  # those in thumbnails and in what phones append count too
    if scans > FEW_SCANS:
        scans = _scans(data)
    if scans > MAX_SCANS:
        raise ImageError(f"{label}: a JPEG of over {MAX_SCANS} scans, each over all pixels; save it again")
    return scans


def _scans(data: bytes) -> int:
    """Count the scans of the first picture, up to one more than MAX_SCANS."""
    at, scans = 2, 0
    while scans <= MAX_SCANS and (found := _MARKER.search(data, at)):
        marker, at = found[1][0], found.end()
        if marker == _END:
            break
        scans += marker == _START_OF_SCAN
        at += int.from_bytes(data[at : at + 2], "big")
    return scans


def is_plain(data: bytes) -> bool:
    """Whether a file has the few segments of a photograph before its pixels, which are packed by Huffman's code."""
    at, frame = 2, False
    for _ in range(MOST_SEGMENTS):
        if at + 4 > len(data) or data[at] != 0xFF:
            return False
        marker = data[at + 1]
        if marker == _START_OF_SCAN:
            return frame and at < MOST_HEADER
        if marker in _OTHER_FRAMES:
            return False
        frame = frame or marker in _HUFFMAN_FRAMES
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
