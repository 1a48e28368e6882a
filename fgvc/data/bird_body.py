"""One invented bird on a transparent layer: pose, tail, legs, body, wing, beak, eye and the mark.

Shape letters: S side of the picture, N points, h and w height and width of a layer in pixels. Colours are RGB.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fgvc.data.bird_plants import SHIFT, Points, Rng, fixed, shade
from fgvc.data.bird_shapes import (
    ANATOMIES,
    MARK_SHAPES,
    Anatomy,
    beak_gape,
    beak_outline,
    mark_outlines,
    smooth,
    tail_outline,
    tail_point,
    turned,
)
from fgvc.data.bird_species import Colour, Species
from fgvc.images import Pixels

FINE = 2
"""Birds are painted at this many times the resolution and averaged."""

RIM = 1.3
"""Area of a mark's dark rim over the area of its bright core."""

MIDDLE_FILL = 0.68
"""Share of the picture's side that a bird of middle size spans."""

FEATHERS_PER_UNIT = 160
"""Pixels of the feather texture per unit of a bird's own coordinates."""


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


def paint_bird(rng: Rng, layer: Layer, species: Species, pose: Pose) -> None:
    """Paint tail, legs, body, wing and beak: everything but the mark and the eye."""
    palette, unit = species.palette, pose.unit
    tint = rng.normal(1, 0.035, 3)
    own = {name: _tinted(getattr(palette, name), tint) for name in ("back", "belly", "head", "wing", "bill", "leg")}
    tail = pose.place(np.concatenate([tail_point(pose.anatomy, 0.0, pose.lift), _tail(species, pose)]))
    layer.fill(tail[1:], own["wing"])
    layer.lines([np.stack([tail[0], tip]) for tip in tail[2:-1]], shade(own["wing"], 0.72), 0.012 * unit)
    for number, leg in enumerate(pose.anatomy.legs):
        _leg(layer, pose.place(leg), shade(own["leg"], 0.8 + 0.2 * number), unit)
    _body(layer, pose, own)
    _wing(layer, pose, own["wing"], own["back"])
    layer.fill(pose.place(beak_outline(pose.anatomy, species.beak)), own["bill"])
    layer.lines([pose.place(beak_gape(pose.anatomy, species.beak))], shade(own["bill"], 0.6), 0.012 * unit)


def _tail(species: Species, pose: Pose) -> Points:
    return tail_outline(pose.anatomy, species.tail, pose.lift)


def _leg(layer: Layer, joints: Points, colour: Colour, unit: float) -> None:
    layer.lines([joints], colour, 0.035 * unit)
    toes = np.array([[0.13, 0.02], [0.09, 0.04], [-0.08, 0.03]]) * unit
    layer.lines([np.stack([joints[2], joints[2] + toe]) for toe in toes], colour, 0.024 * unit)


def _body(layer: Layer, pose: Pose, own: dict[str, Colour]) -> None:
    """Paint the body with soft borders between back, underparts and hood."""
    coat = np.empty_like(layer.colour)
    cv2.rectangle(coat, (0, 0), coat.shape[1::-1], own["back"], cv2.FILLED)
    for region, name in ((pose.anatomy.underparts, "belly"), (pose.anatomy.hood, "head")):
        cv2.fillPoly(coat, [layer.fixed(pose.place(smooth(region)))], own[name], cv2.LINE_8, SHIFT)
    reach = max(1, round(0.075 * pose.unit * FINE))
    coat = cv2.blur(cv2.blur(coat, (reach, reach)), (reach, reach))
    stencil = _stencil(layer, pose.place(smooth(pose.anatomy.outline)))
    cv2.copyTo(coat, stencil, layer.colour)
    cv2.copyTo(stencil, stencil, layer.cover)


def _wing(layer: Layer, pose: Pose, colour: Colour, coverts: Colour) -> None:
    """Paint the folded wing: its shadow, the coverts at the shoulder, and the long flight feathers."""
    top, low = (smooth(edge, closed=False) for edge in (pose.anatomy.wing_top, pose.anatomy.wing_low))
    steps, unit = len(top), pose.unit
    shares = np.linspace(0, 1, 9)[:, None, None]
    rows = pose.place((top * (1 - shares) + low * shares).reshape(-1, 2)).reshape(9, steps, 2)
    outline = np.concatenate([rows[0], rows[-1][::-1]])
    layer.fill(outline + [0.0, 0.025 * unit], shade(colour, 0.5))
    layer.fill(outline, colour)
    layer.fill(np.concatenate([rows[0][:14], rows[4][:14][::-1]]), _mixed(colour, coverts))
    layer.lines(list(rows[1:-1, 9:]), shade(colour, 0.68), 0.012 * unit)
    layer.lines(list(rows[1:-1, 9:] + [0, 0.012 * unit]), shade(colour, 1.16), 0.008 * unit)
    layer.lines([rows[-1]], shade(colour, 0.6), 0.014 * unit)


def paint_eye(layer: Layer, pose: Pose) -> None:
    """Paint the eye with a highlight; large eyes have a yellow iris."""
    eye = pose.place([pose.anatomy.parts["eye"]])[0]
    radius, large = pose.anatomy.eye_radius * pose.unit, pose.anatomy.eye_radius > 0.06
    layer.disc(eye, radius, (176, 112, 36) if large else (52, 36, 28))
    layer.disc(eye, radius * (0.66 if large else 0.78), (16, 14, 14))
    layer.disc(eye + np.array([-0.3, -0.34]) * radius, radius * 0.24, (244, 246, 248))


def mark_at(species: Species, pose: Pose, width: float) -> tuple[Points, Points, Points]:
    """Return the (N, 2) pixels of the mark's core, of core and rim together, and of the eye that a ring leaves free.

    Args:
        species: says which body part carries the mark.
        pose: where that part is.
        width: diameter in pixels that a round mark has, rim included.
    """
    shape, anatomy = MARK_SHAPES[species.mark], pose.anatomy
    area = np.pi * (width / pose.unit / 2) ** 2 / (1 + RIM)
    core, whole = mark_outlines(shape, area, RIM, anatomy.eye_radius)
    if species.mark == "tail":
        turn = anatomy.tail[1] + pose.lift
        centre, core, whole = tail_point(anatomy, 0.62, pose.lift), turned(core, turn), turned(whole, turn)
    else:
        centre = np.array([anatomy.parts[species.mark]])
    eye, _ = mark_outlines(shape, 0.0, 0.0, anatomy.eye_radius)
    core, whole, eye = (pose.place(outline + centre) for outline in (core, whole, eye))
    return core, whole, eye


def paint_mark(layer: Layer, species: Species, pose: Pose, width: float, visible: bool = True) -> Pixels:
    """Paint the mark onto the bird: a bright core in a dark rim.

    Their mean is the plumage underneath, so that the mark fades when the picture shrinks.

    Returns:
        (FINE h, FINE w) uint8: 255 where the mark is, or would be where it is not `visible`.
    """
    core_line, whole_line, eye_line = mark_at(species, pose, width)
    box = cv2.boundingRect((whole_line - (layer.x, layer.y)).astype(np.float32) * FINE)
    near = np.s_[max(0, box[1] - 2) : box[1] + box[3] + 2, max(0, box[0] - 2) : box[0] + box[2] + 2]
    free = layer.cover[near] & ~_stencil(layer, eye_line)[near]
    core, whole = (_stencil(layer, line)[near] & free for line in (core_line, whole_line))
    rim, colour = whole & ~core, layer.colour[near]
    ratio = cv2.countNonZero(rim) / max(1, cv2.countNonZero(core))
    ground = np.array(cv2.mean(colour, whole)[:3])
    bright, dark = balanced(ground, np.array(species.palette.mark, dtype=np.float64), ratio)
    if visible:
        colour[core > 0] = np.rint(bright)
        colour[rim > 0] = np.rint(dark)
    everywhere = np.zeros_like(layer.cover)
    everywhere[near] = whole
    return everywhere


def _stencil(layer: Layer, outline: Points) -> Pixels:
    stencil = np.zeros_like(layer.cover)
    cv2.fillPoly(stencil, [layer.fixed(outline)], 255, cv2.LINE_8, SHIFT)
    return stencil


def balanced(ground: Points, wanted: Points, ratio: float) -> tuple[Points, Points]:
    """Return the (3,) colours of core and rim: a core as near `wanted` as a rim can make up for, so that the mean is `ground`.

    Args:
        ground: (3,) mean colour of the plumage underneath.
        wanted: (3,) colour of the core.
        ratio: area of the rim over the area of the core.
    """
    step = wanted - ground
    room = np.where(step > 0, ground - 8, 247 - ground) * ratio
    share = np.clip(room / np.maximum(np.abs(step), 1), 0, 1)
    return ground + step * share, ground - step * share / ratio


def shaded(rng: Rng, colour: Pixels, cover: Pixels, layer: Layer, pose: Pose) -> Pixels:
    """Return (h, w, 3): the flat bird (h, w, 3) with cover (h, w) under the light of a round body, with feathers."""
    height, width = cover.shape
    small = (max(1, width // 3), max(1, height // 3))
    reach = max(1.0, 0.03 * pose.unit)
    relief = cv2.resize(cover, small, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    relief = cv2.GaussianBlur(relief, (0, 0), reach, borderType=cv2.BORDER_CONSTANT)
    slope = cv2.Sobel(relief, cv2.CV_32F, 1, 0) * float(rng.uniform(-0.7, 0.7)) - cv2.Sobel(relief, cv2.CV_32F, 0, 1)
    glow = 1 + np.clip(-0.22 * reach * slope * -1, -0.4, 0.34)
    field = cv2.resize(cv2.GaussianBlur(glow, (0, 0), reach * 0.5), (width, height), interpolation=cv2.INTER_LINEAR)
    field = cv2.multiply(field, _feathers_of(pose, layer, height, width), scale=1 / 200)
    return np.asarray(cv2.multiply(colour, cv2.merge([field] * 3), dtype=cv2.CV_8U), dtype=np.uint8)


def _feathers_of(pose: Pose, layer: Layer, height: int, width: int) -> npt.NDArray[np.float32]:
    """Return (h, w) feathers around 200, turned and scaled as the bird is."""
    back = np.linalg.inv(pose.matrix).T * FEATHERS_PER_UNIT
    start = back @ (np.array([layer.x, layer.y]) - pose.offset)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    affine = np.hstack([back, start[:, None]])
    laid = cv2.warpAffine(_feathers(), affine, (width, height), flags=how, borderMode=cv2.BORDER_WRAP)
    return laid.astype(np.float32)


@lru_cache(maxsize=1)
def _feathers() -> Pixels:
    """Return a (192, 192) texture of overlapping rounded feathers with mean near 200; it repeats seamlessly."""
    side, across = 192, 16
    y, x = np.mgrid[0:side, 0:side].astype(np.float64)
    shifted = x + (y // (across / 2) % 2) * across / 2
    u, v = shifted % across / across - 0.5, y % (across / 2) / (across / 2)
    edge = np.clip(1 - np.abs(v - (1 - 2.4 * u**2)) * 3.2, 0, 1)
    return np.rint(200 * (1.02 - 0.13 * edge + 0.03 * (1 - v))).astype(np.uint8)


def averaged(fine: Pixels) -> Pixels:
    """Return (h, w) or (h, w, 3) for (FINE h, FINE w, ...): the mean of each block."""
    size = (fine.shape[1] // FINE, fine.shape[0] // FINE)
    return np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _tinted(colour: Colour, tint: npt.NDArray[np.float64]) -> Colour:
    red, green, blue = (max(0, min(255, int(a * b))) for a, b in zip(colour, tint, strict=True))
    return red, green, blue


def _mixed(first: Colour, second: Colour) -> Colour:
    red, green, blue = ((2 * a + 3 * b) // 5 for a, b in zip(first, second, strict=True))
    return red, green, blue
