"""The anatomy of the invented birds' four silhouettes, in a bird's own coordinates.

A bird looks to the right (+x); +y points down; a whole bird is about two units long.
"""

from dataclasses import dataclass

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


# fmt: off
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
