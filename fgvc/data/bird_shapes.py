"""The anatomy of the invented birds: outlines and body parts in a bird's own coordinates.

A bird looks to the right (+x); +y points down; a whole bird is about two units long. Shape letters: N points.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Pair = tuple[float, float]
Curve = tuple[Pair, ...]


@dataclass(frozen=True)
class Anatomy:
    """One silhouette.

    outline: control points of head and body, clockwise from the forehead.
    wing_top, wing_low: control points of the folded wing's two edges, shoulder to tip.
    hood, underparts: regions of the body with the head's and the belly's colour.
    head, neck: centre of the head and the pivot it nods about.
    beak: where it joins the head, its angle in radians, and its length and depth.
    tail: where it joins the body, its angle in radians, and its length and half width.
    legs: hip, knee and foot of each visible leg, the far one first.
    parts: body part -> point, as listed in the annotations; `MARKS` lie at some of them.
    habitat: key of `bird_scenery.HABITATS`.
    """

    outline: Curve
    wing_top: Curve
    wing_low: Curve
    hood: Curve
    underparts: Curve
    head: Pair
    neck: Pair
    eye_radius: float
    beak: tuple[Pair, float, float, float]
    tail: tuple[Pair, float, float, float]
    legs: tuple[tuple[Pair, Pair, Pair], ...]
    parts: dict[str, Pair]
    habitat: str


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

_PERCHER = Anatomy(
    outline=(
        (0.82, -0.56),
        (0.74, -0.76),
        (0.54, -0.86),
        (0.32, -0.76),
        (0.14, -0.52),
        (-0.14, -0.24),
        (-0.44, 0.06),
        (-0.68, 0.34),
        (-0.58, 0.46),
        (-0.3, 0.5),
        (0.06, 0.46),
        (0.4, 0.26),
        (0.62, -0.06),
        (0.7, -0.34),
        (0.82, -0.44),
    ),
    wing_top=((0.34, -0.3), (0.02, -0.26), (-0.36, 0.06), (-0.9, 0.52)),
    wing_low=((0.36, -0.18), (0.28, 0.12), (-0.2, 0.32), (-0.9, 0.52)),
    hood=((1.0, -1.0), (0.2, -1.0), (0.14, -0.56), (0.4, -0.36), (0.62, -0.3), (1.0, -0.3)),
    underparts=((0.9, -0.34), (0.5, -0.12), (0.16, 0.2), (-0.42, 0.36), (-0.6, 0.6), (0.3, 0.7), (0.9, 0.3)),
    head=(0.56, -0.58),
    neck=(0.36, -0.34),
    eye_radius=0.055,
    beak=((0.79, -0.5), 0.08, 0.3, 0.17),
    tail=((-0.52, 0.32), 2.5, 0.62, 0.1),
    legs=(((0.02, 0.42), (0.06, 0.58), (0.0, 0.78)), ((-0.12, 0.44), (-0.06, 0.6), (-0.14, 0.78))),
    parts={
        "crown": (0.54, -0.77),
        "eye": (0.64, -0.58),
        "cheek": (0.5, -0.43),
        "nape": (0.24, -0.6),
        "throat": (0.67, -0.26),
        "breast": (0.47, 0.06),
        "belly": (0.06, 0.38),
        "back": (-0.2, -0.14),
        "shoulder": (0.24, -0.12),
        "wing": (-0.24, 0.16),
        "rump": (-0.44, 0.15),
        "leg": (-0.08, 0.6),
    },
    habitat="branch",
)

_WADER = Anatomy(
    outline=(
        (0.74, -0.88),
        (0.68, -1.0),
        (0.54, -1.04),
        (0.42, -0.94),
        (0.38, -0.74),
        (0.3, -0.54),
        (0.08, -0.42),
        (-0.3, -0.36),
        (-0.68, -0.14),
        (-0.62, 0.0),
        (-0.3, 0.14),
        (0.06, 0.18),
        (0.36, 0.06),
        (0.52, -0.2),
        (0.54, -0.5),
        (0.6, -0.72),
        (0.72, -0.8),
    ),
    wing_top=((0.26, -0.3), (0.0, -0.36), (-0.34, -0.26), (-0.86, -0.02)),
    wing_low=((0.28, -0.22), (0.16, 0.02), (-0.3, 0.06), (-0.86, -0.02)),
    hood=((0.9, -1.2), (0.3, -1.2), (0.3, -0.7), (0.46, -0.6), (0.62, -0.64), (0.9, -0.7)),
    underparts=((0.7, -0.5), (0.46, -0.4), (0.22, 0.02), (-0.4, 0.06), (-0.66, 0.2), (0.2, 0.4), (0.7, 0.2)),
    head=(0.56, -0.87),
    neck=(0.4, -0.5),
    eye_radius=0.043,
    beak=((0.71, -0.85), 0.1, 0.34, 0.11),
    tail=((-0.56, -0.1), 2.86, 0.42, 0.085),
    legs=(((0.02, 0.1), (-0.06, 0.56), (0.06, 0.98)), ((-0.16, 0.1), (-0.26, 0.56), (-0.16, 0.98))),
    parts={
        "crown": (0.55, -0.96),
        "eye": (0.61, -0.88),
        "cheek": (0.49, -0.8),
        "nape": (0.4, -0.8),
        "throat": (0.53, -0.58),
        "breast": (0.42, -0.1),
        "belly": (0.0, 0.12),
        "back": (-0.1, -0.37),
        "shoulder": (0.16, -0.18),
        "wing": (-0.24, -0.1),
        "rump": (-0.48, -0.2),
        "leg": (-0.24, 0.5),
    },
    habitat="shore",
)

_SWIMMER = Anatomy(
    outline=(
        (0.82, -0.56),
        (0.74, -0.74),
        (0.56, -0.82),
        (0.4, -0.7),
        (0.34, -0.46),
        (0.26, -0.26),
        (0.0, -0.22),
        (-0.36, -0.22),
        (-0.7, -0.12),
        (-0.88, 0.02),
        (-0.8, 0.18),
        (-0.56, 0.28),
        (0.0, 0.3),
        (0.5, 0.26),
        (0.7, 0.08),
        (0.7, -0.14),
        (0.62, -0.34),
        (0.68, -0.44),
        (0.8, -0.46),
    ),
    wing_top=((0.32, -0.08), (0.02, -0.2), (-0.4, -0.18), (-0.92, -0.08)),
    wing_low=((0.34, 0.0), (0.16, 0.16), (-0.4, 0.14), (-0.92, -0.08)),
    hood=((1.0, -1.0), (0.2, -1.0), (0.26, -0.4), (0.44, -0.3), (0.62, -0.3), (1.0, -0.4)),
    underparts=((0.9, -0.2), (0.5, -0.14), (0.3, 0.12), (-0.4, 0.16), (-1.0, 0.06), (-0.9, 0.5), (0.9, 0.5)),
    head=(0.58, -0.6),
    neck=(0.46, -0.24),
    eye_radius=0.05,
    beak=((0.79, -0.52), 0.12, 0.3, 0.15),
    tail=((-0.74, -0.02), 3.42, 0.36, 0.09),
    legs=(),
    parts={
        "crown": (0.56, -0.73),
        "eye": (0.65, -0.59),
        "cheek": (0.5, -0.5),
        "nape": (0.39, -0.58),
        "throat": (0.57, -0.3),
        "breast": (0.55, 0.02),
        "belly": (0.0, 0.22),
        "back": (-0.1, -0.21),
        "shoulder": (0.18, -0.02),
        "wing": (-0.26, 0.0),
        "rump": (-0.64, -0.06),
    },
    habitat="water",
)

_WATCHER = Anatomy(
    outline=(
        (0.5, -0.7),
        (0.42, -0.94),
        (0.16, -1.08),
        (-0.14, -1.02),
        (-0.28, -0.78),
        (-0.38, -0.46),
        (-0.46, -0.04),
        (-0.44, 0.36),
        (-0.32, 0.64),
        (-0.1, 0.68),
        (0.16, 0.56),
        (0.4, 0.24),
        (0.48, -0.14),
        (0.42, -0.44),
        (0.5, -0.56),
    ),
    wing_top=((0.06, -0.42), (-0.28, -0.36), (-0.46, 0.1), (-0.36, 0.92)),
    wing_low=((0.12, -0.36), (0.18, 0.06), (-0.06, 0.48), (-0.36, 0.92)),
    hood=((0.8, -1.3), (-0.5, -1.3), (-0.36, -0.6), (0.1, -0.46), (0.44, -0.42), (0.8, -0.5)),
    underparts=((0.7, -0.5), (0.24, -0.38), (0.16, 0.1), (-0.1, 0.5), (-0.3, 0.8), (0.5, 0.8), (0.7, 0.2)),
    head=(0.14, -0.74),
    neck=(0.06, -0.42),
    eye_radius=0.075,
    beak=((0.44, -0.66), 0.35, 0.26, 0.2),
    tail=((-0.26, 0.52), 1.75, 0.5, 0.12),
    legs=(((0.14, 0.54), (0.16, 0.66), (0.14, 0.8)), ((-0.02, 0.6), (0.0, 0.7), (-0.02, 0.8))),
    parts={
        "crown": (0.14, -0.97),
        "eye": (0.28, -0.74),
        "cheek": (0.16, -0.56),
        "nape": (-0.24, -0.72),
        "throat": (0.35, -0.36),
        "breast": (0.34, 0.0),
        "belly": (0.16, 0.4),
        "back": (-0.38, -0.1),
        "shoulder": (-0.06, -0.2),
        "wing": (-0.2, 0.2),
        "rump": (-0.36, 0.42),
        "leg": (0.0, 0.68),
    },
    habitat="branch",
)

# fmt: on
ANATOMIES = {"percher": _PERCHER, "wader": _WADER, "swimmer": _SWIMMER, "watcher": _WATCHER}


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
    return points @ np.array([[cosine, sine], [-sine, cosine]])


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
