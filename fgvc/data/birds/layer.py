"""Where an invented bird is in the picture, and the transparent layer it is painted on.

Shape letters: S side of the picture, N points, h and w height and width of a layer in pixels. Colours are RGB.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fgvc.data.birds.anatomy import ANATOMIES, Anatomy
from fgvc.data.birds.brush import SHIFT, Points, Rng, fixed
from fgvc.data.birds.shapes import beak_outline, smooth, tail_outline, turned
from fgvc.data.birds.species import Colour, Species
from fgvc.images.decoding import Pixels

FINE = 2
"""Birds are painted at this many times the resolution and averaged."""


@dataclass(frozen=True)
class Pose:
    """How a bird's own coordinates become pixels: nod the head, then turn, flip, scale and move.

    nod, lift: radians that head and tail are turned. matrix (2, 2) and offset (2,): coordinates to pixels.
    low, high: (2,) corners of the whole bird in pixels.
    """

    anatomy: Anatomy
    nod: float
    lift: float
    matrix: Points
    offset: Points
    low: Points
    high: Points

    @property
    def unit(self) -> float:
        """Pixels per unit of the bird's own coordinates."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))

    def place(self, points: Any) -> Points:
        """Return (N, 2) pixels for (N, 2) points of the anatomy."""
        local = np.asarray(points, dtype=np.float64)
        return _nodded(self.anatomy, local, self.nod) @ self.matrix + self.offset


def choose_pose(rng: Rng, species: Species, size: int) -> Pose:
    """Draw a pose and fit the whole bird into S x S pixels."""
    anatomy = ANATOMIES[species.silhouette]
    calm = 0.25 if anatomy.habitat == "water" else 1.0
    nod, lift = float(rng.uniform(-0.22, 0.22)), float(rng.uniform(-0.2, 0.2))
    tilt, mirror = calm * float(rng.uniform(-0.22, 0.22)), float(rng.choice([-1.0, 1.0]))
    matrix = turned(np.eye(2), tilt) * [mirror * float(rng.uniform(0.92, 1.0)), 1.0]
    parts = [smooth(anatomy.outline), anatomy.wing_top, tail_outline(anatomy, species.tail, lift), *anatomy.legs]
    everything = np.concatenate([*map(np.asarray, parts), beak_outline(anatomy, species.beak)])
    extent = _nodded(anatomy, everything, nod) @ matrix
    low, high = extent.min(axis=0), extent.max(axis=0)
    scale = float(rng.uniform(0.5, 0.86)) * size / float((high - low).max())
    room = size - scale * (high - low)
    offset = room * np.clip(rng.normal(0.5, 0.22, 2), 0.06, 0.94) - scale * low
    return Pose(anatomy, nod, lift, matrix * scale, offset, scale * low + offset, scale * high + offset)


def _nodded(anatomy: Anatomy, points: Points, nod: float) -> Points:
    """Turn the points near the head about the neck, the nearer the more."""
    reach = 2.2 * float(np.hypot(anatomy.head[0] - anatomy.neck[0], anatomy.head[1] - anatomy.neck[1]))
    distance = np.hypot(points[:, 0] - anatomy.head[0], points[:, 1] - anatomy.head[1])
    t = np.clip(1.7 - 1.7 / reach * distance, 0, 1)
    weight = (t * t * (3 - 2 * t))[:, None]
    return np.asarray(points + weight * (turned(points - anatomy.neck, nod) + anatomy.neck - points))


class Layer:
    """A transparent sheet around a bird at FINE times the resolution.

    x, y: upper left corner in the picture. colour (FINE h, FINE w, 3) and cover (FINE h, FINE w), uint8; where nothing
    is painted both are 0, so that averaging them gives premultiplied colours.
    """

    def __init__(self, pose: Pose, size: int) -> None:
        margin = 0.16 * pose.unit
        self.x, self.y = (max(0, int(value)) for value in pose.low - margin)
        right, bottom = (min(size, int(value) + 1) for value in pose.high + margin)
        self.colour = np.zeros((FINE * (bottom - self.y), FINE * (right - self.x), 3), np.uint8)
        self.cover = np.zeros(self.colour.shape[:2], np.uint8)

    def fixed(self, points: Points) -> npt.NDArray[np.int32]:
        """Return (N, 2) pixels of the picture as fixed-point numbers on this layer."""
        return fixed(points - (self.x, self.y), FINE)

    def stencil(self, outline: Points) -> Pixels:
        """Return (FINE h, FINE w) uint8: 255 inside a polygon of (N, 2) pixels."""
        stencil = np.zeros_like(self.cover)
        cv2.fillPoly(stencil, [self.fixed(outline)], 255, cv2.LINE_8, SHIFT)
        return stencil

    def fill(self, outline: Points, colour: Colour) -> None:
        """Paint a polygon of (N, 2) pixels."""
        points = [self.fixed(outline)]
        cv2.fillPoly(self.colour, points, colour, cv2.LINE_8, SHIFT)
        cv2.fillPoly(self.cover, points, 255, cv2.LINE_8, SHIFT)

    def lines(self, lines: list[Points], colour: Colour, width: float) -> None:
        """Paint lines through (N, 2) pixels each, `width` pixels wide."""
        points, thick = [self.fixed(line) for line in lines], max(1, round(width * FINE))
        cv2.polylines(self.colour, points, False, colour, thick, cv2.LINE_8, SHIFT)
        cv2.polylines(self.cover, points, False, 255, thick, cv2.LINE_8, SHIFT)

    def disc(self, centre: Points, radius: float, colour: Colour) -> None:
        """Paint a disc around (2,) pixels."""
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        self.fill(centre + radius * np.stack([np.cos(turn), np.sin(turn)], 1), colour)

    def cut_below(self, row: float) -> None:
        """Make everything below a row of the picture transparent."""
        first = max(0, round(FINE * (row - self.y)))
        self.colour[first:] = 0
        self.cover[first:] = 0


def averaged(fine: Pixels) -> Pixels:
    """Return (h, w) or (h, w, 3) for (FINE h, FINE w, ...): the mean of each block."""
    size = (fine.shape[1] // FINE, fine.shape[0] // FINE)
    return np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
