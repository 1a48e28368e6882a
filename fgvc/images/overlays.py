"""What is laid over a photograph: boxes with their names, and heat maps.

Shape letters: h, w grid of a heat map.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from fgvc.images.boxes import Box
from fgvc.images.lettering import INK, PAPER, drawable, font_for, write

Frame = tuple[int, int, int, int]
DOT = 3
"""Radius of a point, in pixels."""

HEAT = ((0.0, "#1b1446"), (0.25, "#6b1f7c"), (0.5, "#bf3a62"), (0.75, "#f4813f"), (1.0, "#fbe38e"))


def cut_out(whole: Image.Image, box: Box, side: int) -> Image.Image:
    """Cut a box (fractions) out of a picture and bring its longer side to `side` pixels."""
    x1, y1, x2, y2 = (min(max(x, 0.0), 1.0) * n for x, n in zip(box, whole.size * 2, strict=True))
    x1, y1 = min(x1, whole.width - 1), min(y1, whole.height - 1)
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)  # at least a pixel
    scale = side / max(x2 - x1, y2 - y1)
    size = (max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale)))
    return whole.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC, box=(x1, y1, x2, y2))


def boxed(picture: Image.Image, boxes: Sequence[tuple[str, Box, str]]) -> Image.Image:
    """Return a picture with named boxes (fractions) in their colours, later ones on top."""
    picture = picture.copy()
    pen = ImageDraw.Draw(picture)
    frames = [_pixels(box, picture.size) for _, box, _ in boxes]
    for frame, (_, _, colour) in zip(frames, boxes, strict=True):
        pen.rectangle(frame, outline=INK, width=5)
        inner = (frame[0] + 1, frame[1] + 1, frame[2] - 1, frame[3] - 1)
        pen.rectangle(inner if inner[0] <= inner[2] and inner[1] <= inner[3] else frame, outline=colour, width=3)
    taken: list[Frame] = []
    for frame, (name, _, colour) in zip(frames, boxes, strict=True):
        if name:
            taken.append(_tag(pen, name, colour, frame, taken))
    return picture


def dotted(picture: Image.Image, points: Mapping[str, tuple[float, float]]) -> Image.Image:
    """Return a picture with named points (fractions); where two names would overlap, the later one is left out."""
    picture = picture.copy()
    pen = ImageDraw.Draw(picture)
    taken: list[tuple[float, float, float, float]] = []
    for known, (across, down) in points.items():
        name, x, y = drawable(known), across * picture.width, down * picture.height
        pen.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=PAPER, outline=INK)
        font = font_for(name, 11)
        left, top, right, bottom = pen.textbbox((x + DOT + 2, y), name, font=font, anchor="lm")
        if not any(left < x2 and x1 < right and top < y2 and y1 < bottom for x1, y1, x2, y2 in taken):
            pen.text((x + DOT + 2, y), name, fill=PAPER, font=font, anchor="lm", stroke_width=1, stroke_fill=INK)
            taken.append((left, top, right, bottom))
    return picture


def overlaid(picture: Image.Image, heat: npt.NDArray[np.float32], seen: Box) -> Image.Image:
    """Lay a heat map (h, w) over the part of a picture that was seen; the picture turns grey, the rest of it pale."""
    grey = np.asarray(picture.convert("L"), dtype=np.float32)[..., None].repeat(3, axis=2)
    out = 0.3 * grey + 0.7 * 250
    x1, y1, x2, y2 = _pixels(seen, picture.size)
    part = np.s_[y1 : y2 + 1, x1 : x2 + 1]
    smooth = Image.fromarray(heat).resize((x2 - x1 + 1, y2 - y1 + 1), Image.Resampling.BILINEAR)
    strength = np.asarray(smooth, dtype=np.float32).clip(0, 1)
    share = 0.85 * np.sqrt(strength)[..., None]
    out[part] = (1 - share) * grey[part] + share * heat_colours(strength)
    return Image.fromarray(out.round().clip(0, 255).astype(np.uint8))


def heat_colours(strength: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return (..., 3) in 0..255 for numbers (...) in 0..1; the lighter, the more."""
    places = [place for place, _ in HEAT]
    anchors = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for _, colour in HEAT])
    return np.stack([np.interp(strength, places, anchors[:, i]) for i in range(3)], axis=-1).astype(np.float32)


def _tag(pen: ImageDraw.ImageDraw, name: str, colour: str, frame: Frame, taken: Sequence[Frame]) -> Frame:
    """Write the name of a box at one of its corners, where no other name stands yet, and return its place."""
    wide, high = round(font_for(name, 13).getlength(drawable(name))) + 10, 18
    left, top, right, bottom = frame
    corners = [(x, y) for y in (top, bottom - high + 1) for x in (left, right - wide + 1, (left + right - wide) // 2)]
    places = [(max(x, 0), max(y, 0), max(x, 0) + wide - 1, max(y, 0) + high - 1) for x, y in corners]
    place = next((one for one in places if not any(_meet(one, other) for other in taken)), places[0])
    pen.rectangle(place, fill=colour, outline=INK)
    write(pen, name, place[0] + 5, place[1] + 1, 13, INK, wide)
    return place


def _meet(one: Frame, other: Frame) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _pixels(box: Box, size: tuple[int, int]) -> Frame:
    """Return the first and last column and row of a box in a picture of this size, at least a pixel each."""
    x1, y1 = (min(max(round(x * n), 0), n - 1) for x, n in zip(box[:2], size, strict=True))
    x2, y2 = (min(max(round(x * n) - 1, low), n - 1) for x, n, low in zip(box[2:], size, (x1, y1), strict=True))
    return x1, y1, x2, y2
