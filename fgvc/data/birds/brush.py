"""Shapes, colours and random draws that all painted parts of birds and scenery share."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from fgvc.data.birds.species import Colour
from fgvc.images.decoding import Pixels

Rng = np.random.Generator

Points = npt.NDArray[np.float64]

SHIFT = 4
"""Binary digits after the point that OpenCV's drawing functions are handed."""


def fixed(points: Points, scale: float = 1.0) -> npt.NDArray[np.int32]:
    """Return (N, 2) points as the fixed-point numbers that OpenCV draws with."""
    return np.asarray(np.rint(points * (scale * 2**SHIFT)), dtype=np.int32)


def pick(rng: Rng, choices: Sequence[Colour], spread: float = 0.12) -> Colour:
    """Return one of the colours, a little darker or lighter and a little off in hue."""
    colour = choices[int(rng.integers(len(choices)))]
    tone = 1.0 + spread * float(rng.normal())
    warmth = 5.0 * float(rng.normal())
    return _bounded(colour[0] * tone + warmth), _bounded(colour[1] * tone), _bounded(colour[2] * tone - warmth)


def _bounded(value: float) -> int:
    return int(min(244.0, max(10.0, value)))


def shade(colour: Colour, factor: float) -> Colour:
    """Return a darker (below 1) or lighter (above 1) colour."""
    red, green, blue = (min(255, int(channel * factor)) for channel in colour)
    return red, green, blue


def fill(canvas: Pixels, outline: Points, colour: Colour) -> None:
    """Paint a smooth-edged polygon of (N, 2) pixels."""
    cv2.fillPoly(canvas, [fixed(outline)], colour, cv2.LINE_AA, SHIFT)
