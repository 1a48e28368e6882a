"""Outlines of the invented birds: beaks, tails and marks, and the curves through an anatomy's points.

Coordinates are those of `bird_anatomy`. Shape letters: N points.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fgvc.data.birds.anatomy import Anatomy, Curve

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MarkShape:
    """An ellipse of unit area: its angle in radians and length over width. `ring` leaves the eye free."""

    angle: float
    aspect: float
    ring: bool = False


MARK_SHAPES = {
    "crown": MarkShape(-0.15, 1.9),
    "breast": MarkShape(1.2, 1.2),
    "rump": MarkShape(0.5, 1.5),
    "cheek": MarkShape(0.5, 1.7),
    "shoulder": MarkShape(1.1, 2.2),
    "throat": MarkShape(0.9, 1.5),
    "tail": MarkShape(1.5708, 1.8),
    "eye": MarkShape(0.0, 1.0, ring=True),
}

# fmt: off
# Beaks: x runs along the beak (in its length), y across (in its depth); the first number stretches the length.
BEAKS: dict[str, tuple[float, Curve]] = {
    "cone": (0.85, ((0, -0.55), (0.55, -0.36), (1.0, 0.1), (0.5, 0.42), (0, 0.5))),
    "needle": (1.6, ((0, -0.3), (0.5, -0.14), (1.0, 0.0), (0.5, 0.16), (0, 0.28))),
    "hook": (0.95, ((0, -0.5), (0.5, -0.5), (0.86, -0.2), (0.98, 0.55), (0.78, 0.25), (0.5, 0.3), (0, 0.45))),
    "sickle": (1.8, ((0, -0.35), (0.45, -0.3), (0.8, 0.1), (1.0, 0.95), (0.74, 0.36), (0.4, 0.06), (0, 0.3))),
    "flat": (1.25, ((0, -0.55), (0.4, -0.12), (0.8, -0.18), (1.05, 0.1), (0.9, 0.42), (0.45, 0.3), (0, 0.45))),
}

# Tails: x runs along the tail (in its length), y across (in its half width).
TAILS: dict[str, Curve] = {
    "square": ((0, -0.8), (0.96, -0.95), (1.0, 0.0), (0.96, 0.95), (0, 0.8)),
    "forked": ((0, -0.8), (0.6, -0.9), (1.2, -1.7), (0.66, 0.0), (1.2, 1.5), (0.6, 0.9), (0, 0.8)),
    "pointed": ((0, -0.85), (0.55, -0.8), (1.4, 0.0), (0.55, 0.8), (0, 0.85)),
    "fan": ((0, -0.7), (0.62, -2.1), (0.86, -1.4), (0.98, -0.5), (0.98, 0.5), (0.86, 1.4), (0.62, 2.0), (0, 0.7)),
}
# fmt: on


@lru_cache(maxsize=256)
def smooth(control: Curve, closed: bool = True, steps: int = 8) -> Points:
    """Return the Catmull-Rom spline (uniform, tension 1/2) through control points, as (N, 2)."""
    points = np.asarray(control, dtype=np.float64)
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    p0, p1, p2, p3 = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    curve = p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    flat = curve.reshape(-1, 2)
    return flat if closed else np.concatenate([flat, points[-1:]])


def turned(points: Points, angle: float) -> Points:
    """Return (N, 2) points turned about the origin, clockwise on the screen for positive angles."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cosine, sine], [-sine, cosine]]))


def beak_outline(anatomy: Anatomy, beak: str) -> Points:
    """Return (N, 2): the beak of a family on the head of an order."""
    edges = [smooth(edge, closed=False) for edge in _beak_edges(beak)]
    return _on_head(anatomy, beak, np.concatenate([edges[0], edges[1][::-1]]))


def beak_gape(anatomy: Anatomy, beak: str) -> Points:
    """Return (7, 2): the line between upper and lower beak, from the head to the tip."""
    upper, lower = (np.asarray(edge) for edge in _beak_edges(beak))
    x = np.linspace(0, upper[-1, 0], 7)
    heights = [np.interp(x, edge[:, 0], edge[:, 1]) for edge in (upper, lower)]
    return _on_head(anatomy, beak, np.stack([x, (heights[0] + heights[1]) / 2], axis=1))


def _beak_edges(beak: str) -> tuple[Curve, Curve]:
    """Return the upper and the lower edge, both from the head to the tip."""
    shape = BEAKS[beak][1]
    tip = max(range(len(shape)), key=lambda i: shape[i][0])
    return shape[: tip + 1], shape[tip:][::-1]


def _on_head(anatomy: Anatomy, beak: str, points: Points) -> Points:
    base, angle, length, depth = anatomy.beak
    return turned(points * (length * BEAKS[beak][0], depth), angle) + base


def tail_outline(anatomy: Anatomy, tail: str, lift: float = 0.0) -> Points:
    """Return (N, 2): the tail of a family on the body of an order, raised by `lift` radians."""
    base, angle, length, half_width = anatomy.tail
    return turned(np.asarray(TAILS[tail]) * (length, half_width), angle + lift) + base


def tail_point(anatomy: Anatomy, along: float, lift: float = 0.0) -> Points:
    """Return (1, 2): a point on the middle of the tail, 0 at the body and 1 near the end."""
    base, angle, length, _ = anatomy.tail
    return turned(np.array([[along * length, 0.0]]), angle + lift) + base


def mark_outlines(shape: MarkShape, area: float, rim: float, hole: float) -> tuple[Points, Points]:
    """Return two (N, 2) outlines about the origin: the bright core and the dark rim around it.

    Args:
        shape: angle and proportions.
        area: area of the core; equal for all body parts.
        rim: area of the rim over the area of the core.
        hole: radius of the eye, which a ring leaves free.
    """
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    free = np.pi * hole**2 if shape.ring else 0.0
    sizes = (np.sqrt((area * part + free) / np.pi) for part in (1.0, 1.0 + rim))
    stretch = np.array([np.sqrt(shape.aspect), 1 / np.sqrt(shape.aspect)])
    core, whole = (turned(circle * stretch * size, shape.angle) for size in sizes)
    return core, whole
