"""Where an invented bird is: blurred background, ground, water, shadow and light.

Shape letters: S side of the picture. Colours are RGB.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from fgvc.data.birds.brush import SHIFT, Points, Rng, fixed, pick, shade
from fgvc.data.birds.plants import blade, twig
from fgvc.data.birds.species import Colour
from fgvc.images.decoding import Pixels


@dataclass(frozen=True)
class Habitat:
    """Where an order lives: (top, middle, bottom) backgrounds to choose from, and the colours of blobs and plants."""

    backgrounds: tuple[tuple[Colour, Colour, Colour], ...]
    blobs: tuple[Colour, ...]
    plants: tuple[Colour, ...]
    plant: Callable[[Rng, Pixels, Points, float, Sequence[Colour]], list[Points]]


def leafy_twig(rng: Rng, canvas: Pixels, target: Points, length: float, colours: Sequence[Colour]) -> list[Points]:
    """Paint a twig across (2,) pixels, in any direction; return the outlines that were filled."""
    angle = float(rng.uniform(0, 2 * np.pi))
    start = target - length * 0.8 * np.array([np.cos(angle), np.sin(angle)])
    return twig(rng, canvas, start, angle, length, colours)


def tall_blade(rng: Rng, canvas: Pixels, target: Points, length: float, colours: Sequence[Colour]) -> list[Points]:
    """Paint a blade from the lower edge up towards (2,) pixels; return the outline that was filled."""
    foot = np.array([target[0], len(canvas) * 1.02])
    return blade(rng, canvas, foot, max(length, foot[1] - float(target[1])), colours)


HABITATS = {
    "branch": Habitat(
        (
            ((150, 176, 146), (116, 148, 104), (84, 112, 76)),
            ((176, 200, 216), (164, 190, 186), (112, 142, 100)),
            ((196, 172, 122), (160, 132, 84), (104, 88, 60)),
            ((112, 124, 112), (78, 96, 84), (52, 68, 58)),
            ((206, 206, 200), (178, 180, 172), (128, 132, 116)),
        ),
        ((70, 104, 58), (146, 168, 88), (190, 196, 146), (120, 92, 58), (206, 176, 96), (60, 76, 60), (186, 206, 214)),
        ((74, 112, 50), (104, 134, 58), (142, 148, 62), (164, 112, 52), (54, 84, 50)),
        leafy_twig,
    ),
    "shore": Habitat(
        (
            ((186, 202, 206), (150, 170, 176), (158, 142, 112)),
            ((146, 164, 168), (120, 138, 142), (118, 106, 88)),
            ((208, 196, 176), (182, 172, 154), (150, 128, 100)),
            ((122, 142, 120), (112, 130, 132), (104, 98, 82)),
        ),
        ((116, 132, 96), (168, 152, 116), (126, 148, 158), (94, 84, 66), (196, 196, 180)),
        ((112, 124, 66), (152, 142, 80), (88, 106, 60), (130, 112, 70)),
        tall_blade,
    ),
    "water": Habitat(
        (
            ((126, 150, 164), (94, 124, 144), (74, 104, 124)),
            ((112, 134, 110), (86, 112, 100), (62, 90, 88)),
            ((170, 164, 146), (126, 132, 130), (92, 104, 110)),
            ((92, 118, 140), (68, 96, 120), (50, 76, 98)),
        ),
        ((84, 110, 84), (140, 150, 110), (60, 84, 100), (150, 170, 180), (100, 96, 70)),
        ((96, 120, 60), (130, 134, 72), (76, 104, 58), (104, 128, 92)),
        tall_blade,
    ),
}


def background(rng: Rng, habitat: Habitat, size: int) -> Pixels:
    """Return (S, S, 3): a gradient with out-of-focus twigs and blobs, painted small and enlarged."""
    small = max(24, size // 6)
    canvas = _gradient(rng, habitat, small)
    for _ in range(int(rng.integers(1, 6))):
        start, end = fixed(rng.uniform(-0.1, 1.1, (2, 2)) * small).tolist()
        width = max(1, round(small * float(rng.uniform(0.01, 0.06))))
        cv2.line(canvas, start, end, pick(rng, habitat.blobs), width, cv2.LINE_AA, SHIFT)
    canvas = _blurred(canvas, small * 0.03)
    for _ in range(int(rng.integers(6, 26))):
        layer, strength = canvas.copy(), float(rng.uniform(0.15, 0.6))
        centre = fixed(rng.uniform(0, small, 2)).tolist()
        radius = round(small * float(rng.uniform(0.02, 0.13)) * 2**SHIFT)
        cv2.circle(layer, centre, radius, pick(rng, habitat.blobs), -1, cv2.LINE_AA, SHIFT)
        cv2.addWeighted(layer, strength, canvas, 1 - strength, 0, dst=canvas)
    canvas = _blurred(canvas, small * float(rng.uniform(0.008, 0.03)))
    return np.asarray(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def _gradient(rng: Rng, habitat: Habitat, size: int) -> Pixels:
    stops = np.asarray(habitat.backgrounds[int(rng.integers(len(habitat.backgrounds)))], dtype=np.float64)
    stops = stops * float(rng.normal(1, 0.1)) + rng.normal(0, 4, (3, 3))
    heights = np.linspace(0, 2, size)
    column = np.stack([np.interp(heights, [0, 1, 2], stops[:, channel]) for channel in range(3)], axis=1)
    return np.repeat(np.clip(column, 0, 255).astype(np.uint8)[:, None], size, axis=1)


def _blurred(canvas: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), sigma), dtype=np.uint8)


def plants_behind(rng: Rng, canvas: Pixels, habitat: Habitat) -> None:
    """Paint up to four sharp plants onto (S, S, 3)."""
    size = len(canvas)
    for _ in range(int(rng.integers(0, 5))):
        target = np.array([rng.uniform(0, size), rng.uniform(0.1 * size, size)])
        habitat.plant(rng, canvas, target, size * float(rng.uniform(0.15, 0.4)), habitat.plants)


def ripples(rng: Rng, canvas: Pixels, top: float, bottom: float, count: int) -> None:
    """Paint light and dark water lines onto rows `top` to `bottom`, wider towards the viewer."""
    size = len(canvas)
    depths, xs, reaches = rng.uniform(0, 1, count) ** 1.5, rng.uniform(0, size, count), rng.uniform(0.5, 1.5, count)
    for depth, x, reach, tone in zip(depths, xs, reaches, rng.normal(1, 0.12, count), strict=True):
        row, half = int(max(0, top + depth * (bottom - top))), size * (0.03 + 0.12 * depth) * reach
        patch = canvas[row : row + 1 + int(size * 0.008 * depth), int(max(0, x - half)) : int(x + half)]
        patch[:] = np.clip(patch * tone, 0, 255)


def pebbles(rng: Rng, canvas: Pixels, top: float, count: int) -> None:
    """Paint stones on the ground below row `top`, larger towards the viewer."""
    size = len(canvas)
    for depth in np.sort(rng.uniform(0, 1, count)).tolist():
        centre = np.array([rng.uniform(0, size), top + depth * (size - top)])
        radius = size * (0.004 + 0.016 * depth) * float(rng.uniform(0.5, 1.4))
        axes = fixed(np.array([radius, radius * 0.55])).tolist()
        colour = pick(rng, ((120, 110, 98), (150, 138, 120), (92, 86, 80), (134, 118, 92)))
        for drop, tone in ((0.2, 0.6), (0.0, 1.0)):
            at = fixed(centre + np.array([0, radius * drop])).tolist()
            cv2.ellipse(canvas, at, axes, 0, 0, 360, shade(colour, tone), -1, cv2.LINE_AA, SHIFT)


def shadow(canvas: Pixels, centre: Points, reach: float) -> None:
    """Darken a soft flat ellipse around (2,) pixels: what a bird throws on ground or water."""
    size = len(canvas)
    x1, x2 = max(0, int(centre[0] - reach)), min(size, int(centre[0] + reach))
    y1, y2 = max(0, int(centre[1] - reach * 0.25)), min(size, int(centre[1] + reach * 0.25))
    u, v = (np.arange(x1, x2) - centre[0]) / reach, (np.arange(y1, y2) - centre[1]) / (reach * 0.25)
    dark = 1 - 0.5 * np.clip(1 - u[None] ** 2 - v[:, None] ** 2, 0, 1)
    canvas[y1:y2, x1:x2] = (canvas[y1:y2, x1:x2] * dark[:, :, None]).astype(np.uint8)


def light(rng: Rng, canvas: Pixels) -> Pixels:
    """Return (S, S, 3) under another light: dappled shadow, brightness, colour cast, and the camera's noise."""
    size = len(canvas)
    dapple = rng.uniform(0.82, 1.18, (5, 5, 1)) * float(rng.uniform(0.82, 1.2)) * rng.normal(1, 0.04, 3)
    field = cv2.resize(dapple.astype(np.float32), (48, 48), interpolation=cv2.INTER_CUBIC)
    field = cv2.resize(field, (size, size), interpolation=cv2.INTER_LINEAR)
    lit = cv2.multiply(canvas, field, dtype=cv2.CV_8U)
    grain = float(rng.uniform(0.02, 0.1))
    return np.asarray(cv2.addWeighted(lit, 1.0, _noise(size), grain, -128 * grain), dtype=np.uint8)


@lru_cache(maxsize=4)
def _noise(size: int) -> Pixels:
    grey = np.random.default_rng(0).normal(128, 40, (size, size, 1)).clip(0, 255).astype(np.uint8)
    return np.repeat(grey, 3, axis=2)
