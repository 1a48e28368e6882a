"""Samples of more than 8 bits become 0..255, by one rule.

1. What the file states holds: MinSampleValue and MaxSampleValue (or SMin..., SMax...) of a TIFF, its 12 bits, the
   maximum of a PPM; sBIT of a PNG, where no value needs more bits than it says.
2. Else the file's own values decide. Black is 0, and white the least number of the form 2^b - 1 (for fractions 2^-b)
   that no value exceeds: 12-bit values in a file of 16 bits are read as 12-bit values, and at least half of the range
   is used. With values below 0, the least is black and the largest white.
3. What is no number is black (an infinity white). Where all is none, the picture is refused.

Whatever is not the usual range of its type (16 bits; 0..1 or 0..255 for floats) is told in a warning.

Shape letters: H, W the photograph.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

GUESSED = "the range of values is not stated"
"""How a warning of rule 2 begins."""

LOST = "of its samples are not numbers and shown black"
"""How a warning of rule 3 ends."""

ROWS = 2**22  # pixels that are worked on at once: memory holds no second picture
USUAL: dict[str, set[float]] = {"I;16": {65535}, "I": {255, 65535, 2**31 - 1, 2**32 - 1}, "F": {1.0, 255}}
_MIN, _MAX, _SMIN, _SMAX, _WHITE_IS_ZERO, _BITS, _SAMPLES = 280, 281, 340, 341, 262, 258, 339  # TIFF 6.0, 1992


class Extent(NamedTuple):
    """The least and the largest sample that is a number, whether all are whole, and how many are no numbers."""

    least: float
    most: float
    lost: int


def is_deep(picture: Image.Image) -> bool:
    """Whether a picture has one channel of more than 8 bits, as Pillow holds it."""
    return picture.mode.startswith(("I", "F"))


def bands(picture: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Yield parts of a picture from top to bottom, and the rows that they are."""
    step = max(1, ROWS // picture.width)
    if step >= picture.height:
        yield slice(0, picture.height), picture
        return
    for top in range(0, picture.height, step):
        bottom = min(top + step, picture.height)
        yield slice(top, bottom), picture.crop((0, top, picture.width, bottom))


def from_deep(picture: Image.Image, significant: int = 0) -> tuple[Pixels, str | None]:
    """Return grey (H, W, 3) of a picture with one channel of more than 8 bits, and what was assumed about its range.

    Args:
        picture: see `is_deep`.
        significant: bits that a PNG states in sBIT; 0 for none.

    Raises:
        ValueError: no sample is a number.
    """
    unsigned = picture.mode == "I" and _tag(picture, _SAMPLES, 1) == 1 and picture.format == "TIFF"
    extent = _extent(_samples(band, unsigned) for _, band in bands(picture))
    black, white, warning = _range(picture, extent, significant)
    flipped = _tag(picture, _WHITE_IS_ZERO, 1) == 0
    pixels = np.empty((picture.height, picture.width, 3), np.uint8)
    for rows, band in bands(picture):
        grey = to_bytes(_samples(band, unsigned), black, white)
        pixels[rows] = (255 - grey if flipped else grey)[..., None]
    return pixels, warning


def from_deep_colour(data: bytes, shown: Pixels, significant: int = 0) -> tuple[Pixels, str | None]:
    """Return (H, W, 3) of a colour picture of 16 bits a channel that is dark by its upper bytes.

    Pillow keeps the upper byte of each sample, which is 0 to 15 of values of 12 bits.

    Args:
        data: the file, whole.
        shown: (H, W, 3) what Pillow made of it, stored upright or not.
        significant: as in `from_deep`.

    Raises:
        ValueError: OpenCV reads something else.
    """
    wide = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if wide is None or wide.dtype != np.uint16 or wide.ndim != 3 or wide.shape[:2] != shown.shape[:2]:
        raise ValueError("16 bits a channel, dark, and in a layout that is not read; save it with 8 bits")
    colours = wide.astype(np.uint16, copy=False)[..., 2::-1]
    if np.abs((colours[::7, ::7] // 256).astype(np.int16) - shown[::7, ::7]).max() > 1 and wide.shape[2] == 3:
        raise ValueError("16 bits a channel, dark, and turned; save it with 8 bits")
    extent = Extent(0.0, float(colours.max()), 0)
    black, white, warning = _own(extent, "I;16") if not significant else (*_significant(extent, significant), None)
    pixels = np.ascontiguousarray(to_bytes(colours, black, white))
    if wide.shape[2] == 4:
        share = wide[..., 3:] / np.float32(max(white, float(wide[..., 3].max())))
        pixels = (pixels * share + 255 * (1 - share)).round().astype(np.uint8)
    return pixels, warning


def to_bytes(samples: npt.NDArray[Any], black: float, white: float) -> Pixels:
    """Map black..white to 0..255, rounded; what is no number is black."""
    wide: npt.NDArray[Any] = samples.astype(np.float64 if samples.dtype.itemsize > 2 else np.float32)
    wide = np.subtract(wide, black, out=wide)
    wide = np.multiply(wide, 255 / (white - black) if white > black else 0.0, out=wide)
    np.nan_to_num(wide, copy=False, nan=0, posinf=255, neginf=0)
    grey: Pixels = np.rint(wide.clip(0, 255, out=wide), out=wide).astype(np.uint8)
    return grey


def _samples(band: Image.Image, unsigned: bool) -> npt.NDArray[Any]:
    samples = np.asarray(band)
    return samples.view(np.uint32) if unsigned else samples  # Pillow holds unsigned integers as signed ones


def _extent(parts: Iterator[npt.NDArray[Any]]) -> Extent:
    least, most, lost = math.inf, -math.inf, 0
    for part in parts:
        if part.dtype.kind == "f":
            numbers = np.isfinite(part)
            lost += part.size - int(numbers.sum())
            part = part[numbers]
        if part.size:
            least, most = min(least, float(part.min())), max(most, float(part.max()))
    if least > most:
        raise ValueError("no sample is a number (NaN)")
    return Extent(least, most, lost)


def _range(picture: Image.Image, extent: Extent, significant: int) -> tuple[float, float, str | None]:
    kind = "I;16" if picture.mode.startswith("I;16") else picture.mode
    lost = f"{extent.lost:,} {LOST}" if extent.lost else None
    stated = _significant(extent, significant) if significant else _stated(picture, extent)
    black, white, guessed = (*stated, None) if stated else _own(extent, kind)
    return black, white, "; ".join(filter(None, (guessed, lost))) or None


def _significant(extent: Extent, bits: int) -> tuple[float, float]:
    # The standard fills the range: 12 bits reach 65520. Where no value does, the file's writer has not shifted them.
    return (0.0, 2.0**bits - 1) if extent.most < 2**bits else (0.0, 65535.0)


def _stated(picture: Image.Image, extent: Extent) -> tuple[float, float] | None:
    """Return black and white by the file's own words; None where it has none, or its values lie outside of them."""
    if picture.format == "PPM":
        return 0.0, 65535.0  # Pillow has scaled by the maximum that the file states
    most = _tag(picture, _SMAX, _tag(picture, _MAX, None))
    bits = _tag(picture, _BITS, 16)
    if most is None and isinstance(bits, int) and 8 < bits < 16:
        most = 2**bits - 1
    if not isinstance(most, int | float):
        return None
    least = _tag(picture, _SMIN, _tag(picture, _MIN, 0))
    least = float(least) if isinstance(least, int | float) else 0.0
    return (least, float(most)) if least < most and least <= extent.least and extent.most <= most else None


def _tag(picture: Image.Image, number: int, default: Any) -> Any:
    """Return a tag of a TIFF; of one value per channel the first."""
    value = getattr(picture, "tag_v2", {}).get(number, default)
    return value[0] if isinstance(value, tuple) and value else value


def _own(extent: Extent, kind: str) -> tuple[float, float, str | None]:
    least, most, _ = extent
    if least < 0:
        black, white = least, most
        return black, white, f"{GUESSED}: its least value, {least:g}, is black and its largest, {most:g}, white"
    if most == 0:
        return 0.0, 1.0, None
    bits = math.ceil(math.log2(most)) if most <= 1 else math.ceil(math.log2(most + 1))
    white = 2.0**bits if most <= 1 and kind == "F" else 2.0 ** max(bits, 1) - 1
    if white in USUAL.get(kind, ()):
        return 0.0, white, None
    return 0.0, white, f"{GUESSED}: its largest value is {most:g}, so that {white:g} is white"
