"""Paint one invented bird onto a layer: tail, legs, body, wing, beak and eye, then light and feathers.

Shape letters: N points, h and w height and width of a layer in pixels. Colours are RGB.
"""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from fgvc.data.birds.brush import SHIFT, Points, Rng, shade
from fgvc.data.birds.layer import FINE, Layer, Pose
from fgvc.data.birds.shapes import beak_gape, beak_outline, smooth, tail_outline, tail_point
from fgvc.data.birds.species import Colour, Species
from fgvc.images.decoding import Pixels

FEATHERS_PER_UNIT = 160
"""Pixels of the feather texture per unit of a bird's own coordinates."""


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
    for _ in range(2):
        cv2.blur(coat, (reach, reach), dst=coat)
    stencil = layer.stencil(pose.place(smooth(pose.anatomy.outline)))
    cv2.copyTo(coat, stencil, layer.colour)
    cv2.copyTo(stencil, stencil, layer.cover)


def _wing(layer: Layer, pose: Pose, colour: Colour, coverts: Colour) -> None:
    """Paint the folded wing: its shadow, the coverts at the shoulder, and the long flight feathers."""
    top, low = (smooth(edge, closed=False) for edge in (pose.anatomy.wing_top, pose.anatomy.wing_low))
    steps, unit = len(top), pose.unit
    shares = np.linspace(0, 1, 9)[:, None, None]
    rows = pose.place((top * (1 - shares) + low * shares).reshape(-1, 2)).reshape(9, steps, 2)
    outline = np.concatenate([rows[0], rows[-1][::-1]])
    layer.fill(outline + np.array([0.0, 0.025 * unit]), shade(colour, 0.5))
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


def shaded(rng: Rng, colour: Pixels, cover: Pixels, layer: Layer, pose: Pose) -> Pixels:
    """Return (h, w, 3): the flat bird (h, w, 3) with cover (h, w) under the light of a round body, with feathers."""
    height, width = cover.shape
    small = (max(1, width // 3), max(1, height // 3))
    reach = max(1.0, 0.03 * pose.unit)
    flat = cv2.resize(cover, small, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    relief = cv2.GaussianBlur(flat, (0, 0), reach, borderType=cv2.BORDER_CONSTANT)
    across, down = (np.asarray(cv2.Sobel(relief, cv2.CV_32F, *axes)) for axes in ((1, 0), (0, 1)))
    glow = 1 + np.clip(0.22 * reach * (across * float(rng.uniform(-0.7, 0.7)) + down), -0.4, 0.25)
    soft = cv2.GaussianBlur(glow, (0, 0), reach * 0.5)
    field = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
    light = cv2.multiply(field, _feathers_of(pose, layer, height, width), scale=1 / 200)
    return np.asarray(cv2.multiply(colour, cv2.merge([light] * 3), dtype=cv2.CV_8U), dtype=np.uint8)


def _feathers_of(pose: Pose, layer: Layer, height: int, width: int) -> npt.NDArray[np.float32]:
    """Return (h, w) feathers around 200, turned and scaled as the bird is."""
    texture = _feathers()
    back = np.linalg.inv(pose.matrix).T * FEATHERS_PER_UNIT
    start = back @ (np.array([layer.x, layer.y]) - pose.offset) + len(texture) / 2
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    affine = np.hstack([back, start[:, None]])
    laid = cv2.warpAffine(texture, affine, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(laid, dtype=np.float32)


@lru_cache(maxsize=1)
def _feathers() -> Pixels:
    """Return a (768, 768) texture of overlapping rounded feathers with mean near 200; larger than any bird."""
    across = 16
    y, x = np.mgrid[0:768, 0:768].astype(np.float64)
    shifted = x + (y // (across / 2) % 2) * across / 2
    u, v = shifted % across / across - 0.5, y % (across / 2) / (across / 2)
    edge = np.clip(1 - np.abs(v - (1 - 2.4 * u**2)) * 3.2, 0, 1)
    return np.asarray(np.rint(200 * (1.02 - 0.13 * edge + 0.03 * (1 - v))), dtype=np.uint8)


def _tinted(colour: Colour, tint: npt.NDArray[np.float64]) -> Colour:
    red, green, blue = (max(0, min(255, int(a * b))) for a, b in zip(colour, tint, strict=True))
    return red, green, blue


def _mixed(first: Colour, second: Colour) -> Colour:
    red, green, blue = ((2 * a + 3 * b) // 5 for a, b in zip(first, second, strict=True))
    return red, green, blue
