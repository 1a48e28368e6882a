"""What stands around an invented bird: blurred background, perch, water, ground, plants before and behind it.

Shape letters: S side of the picture. Colours are RGB.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fgvc.data.bird_species import Colour
from fgvc.images import Pixels

Rng = np.random.Generator
Points = npt.NDArray[np.float64]
Field = npt.NDArray[np.float32]

SHIFT = 4
"""Binary digits after the point that OpenCV's drawing functions are handed."""


@dataclass(frozen=True)
class Habitat:
    """Where an order lives: (top, middle, bottom) backgrounds to choose from, and the colours of blobs and plants."""

    backgrounds: tuple[tuple[Colour, Colour, Colour], ...]
    blobs: tuple[Colour, ...]
    plants: tuple[Colour, ...]


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
    ),
}


def pick(rng: Rng, choices: tuple[Colour, ...], spread: float = 14.0) -> Colour:
    """Return one of the colours, shifted a little."""
    colour = np.asarray(choices[int(rng.integers(len(choices)))]) + rng.normal(0, spread, 3)
    red, green, blue = np.clip(colour, 12, 243).astype(int).tolist()
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """Return a darker (below 1) or lighter (above 1) colour."""
    red, green, blue = (min(255, int(channel * factor)) for channel in colour)
    return red, green, blue


def fixed(points: Points, scale: float = 1.0) -> npt.NDArray[np.int32]:
    """Return (N, 2) points as the fixed-point numbers that OpenCV draws with."""
    return np.rint(points * (scale * 2**SHIFT)).astype(np.int32)


def background(rng: Rng, habitat: Habitat, size: int) -> Pixels:
    """Return (S, S, 3): a gradient with out-of-focus blobs and twigs, painted small and enlarged."""
    small = max(24, size // 6)
    stops = np.asarray(habitat.backgrounds[int(rng.integers(len(habitat.backgrounds)))], dtype=np.float32)
    stops = stops + rng.normal(0, 10, (1, 3)) + rng.normal(0, 4, (3, 3))
    rows = np.interp(np.linspace(0, 2, small), [0, 1, 2], [0, 1, 2])[:, None]
    column = np.stack([np.interp(rows[:, 0], [0, 1, 2], stops[:, c]) for c in range(3)], axis=1)
    canvas = np.repeat(np.clip(column, 0, 255).astype(np.uint8)[:, None], small, axis=1)
    for _ in range(int(rng.integers(1, 6))):
        _blurred_twig(rng, canvas, habitat)
    canvas = cv2.GaussianBlur(canvas, (0, 0), small * 0.03)
    for _ in range(int(rng.integers(6, 26))):
        layer = canvas.copy()
        centre, radius = rng.uniform(0, small, 2), rng.uniform(0.02, 0.13) * small
        cv2.circle(
            layer, tuple(fixed(centre)), round(radius * 2**SHIFT), pick(rng, habitat.blobs), -1, cv2.LINE_AA, SHIFT
        )
        strength = float(rng.uniform(0.15, 0.6))
        canvas = np.asarray(cv2.addWeighted(layer, strength, canvas, 1 - strength, 0), dtype=np.uint8)
    canvas = cv2.GaussianBlur(canvas, (0, 0), small * float(rng.uniform(0.008, 0.03)))
    return np.asarray(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def _blurred_twig(rng: Rng, canvas: Pixels, habitat: Habitat) -> None:
    small = len(canvas)
    ends = fixed(rng.uniform(-0.1, 1.1, (2, 2)) * small)
    colour, width = pick(rng, habitat.blobs), max(1, round(small * rng.uniform(0.01, 0.06)))
    cv2.line(canvas, tuple(ends[0]), tuple(ends[1]), colour, width, cv2.LINE_AA, SHIFT)


def leaf(rng: Rng, canvas: Pixels, base: Points, length: float, angle: float, colour: Colour) -> Points:
    """Paint a leaf with a midrib onto (S, S, 3); return its (N, 2) outline."""
    t = np.linspace(0, 1, 12)
    half = np.sin(np.pi * t**0.8) * float(rng.uniform(0.16, 0.3))
    bend = float(rng.uniform(-0.25, 0.25)) * t**2
    along = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * length
    outline = np.concatenate([np.stack([t, bend + half], 1), np.stack([t, bend - half], 1)[::-1]]) @ along + base
    middle = np.stack([t, bend], 1) @ along + base
    cv2.fillPoly(canvas, [fixed(outline)], colour, cv2.LINE_AA, SHIFT)
    cv2.fillPoly(canvas, [fixed(np.concatenate([outline[:12], middle[::-1]]))], shade(colour, 0.84), cv2.LINE_AA, SHIFT)
    cv2.polylines(canvas, [fixed(middle)], False, shade(colour, 1.2), 1, cv2.LINE_AA, SHIFT)
    return outline


def plants_behind(rng: Rng, canvas: Pixels, habitat: Habitat, kind: str) -> None:
    """Paint sharp plants behind the bird: leaves on twigs, or blades of grass and reed."""
    size = len(canvas)
    for _ in range(int(rng.integers(0, 5))):
        start = np.array([rng.uniform(0, size), size * (1.02 if kind != "branch" else rng.uniform(0, 1))])
        if kind == "branch":
            twig(rng, canvas, habitat, start, float(rng.uniform(0, 2 * np.pi)), size * float(rng.uniform(0.15, 0.4)))
        else:
            blade(rng, canvas, start, size * float(rng.uniform(0.2, 0.7)), pick(rng, habitat.plants))


def twig(rng: Rng, canvas: Pixels, habitat: Habitat, start: Points, angle: float, length: float) -> list[Points]:
    """Paint a thin twig with leaves; return the outlines painted."""
    size = len(canvas)
    t = np.linspace(0, 1, 8)
    bends = angle + np.cumsum(rng.normal(0, 0.12, 8))
    spine = start + np.cumsum(np.stack([np.cos(bends), np.sin(bends)], 1) * length / 8, axis=0)
    width = size * float(rng.uniform(0.003, 0.008))
    side = np.stack([-np.sin(bends), np.cos(bends)], 1) * (width * (1.2 - t))[:, None]
    bark = np.concatenate([spine + side, (spine - side)[::-1]])
    cv2.fillPoly(canvas, [fixed(bark)], pick(rng, ((92, 72, 54), (110, 92, 74), (74, 62, 52))), cv2.LINE_AA, SHIFT)
    outlines = [bark]
    colour = pick(rng, habitat.plants)
    for step in range(1, 8, int(rng.integers(1, 4))):
        turn = bends[step] + float(rng.choice([-1, 1]) * rng.uniform(0.4, 1.1))
        outlines.append(leaf(rng, canvas, spine[step], size * float(rng.uniform(0.05, 0.12)), turn, colour))
    return outlines


def blade(rng: Rng, canvas: Pixels, foot: Points, length: float, colour: Colour) -> Points:
    """Paint a blade of grass or reed that rises from `foot`; return its (N, 2) outline."""
    t = np.linspace(0, 1, 10)
    lean, sway = rng.uniform(-0.3, 0.3), rng.uniform(-0.4, 0.4)
    spine = foot + length * np.stack([lean * t + sway * t**3, -t], 1)
    half = len(canvas) * float(rng.uniform(0.003, 0.009)) * (1 - t**2)[:, None] * [1.0, 0.0]
    outline = np.concatenate([spine - half, (spine + half)[::-1]])
    cv2.fillPoly(canvas, [fixed(outline)], colour, cv2.LINE_AA, SHIFT)
    cv2.polylines(canvas, [fixed(spine)], False, shade(colour, 0.8), 1, cv2.LINE_AA, SHIFT)
    return outline


def perch(rng: Rng, canvas: Pixels, feet: Points, thickness: float) -> None:
    """Paint a branch through the (N, 2) feet, from one edge of the picture to the other."""
    size = len(canvas)
    centre, slope = feet.mean(axis=0), float(rng.uniform(-0.25, 0.25))
    if len(feet) > 1 and abs(feet[1, 0] - feet[0, 0]) > 1:
        slope = float((feet[1, 1] - feet[0, 1]) / (feet[1, 0] - feet[0, 0]))
    x = np.linspace(-0.05, 1.05, 16) * size
    wave = np.cumsum(rng.normal(0, 0.006, 16)) * size
    middle = centre[1] + slope * (x - centre[0]) + wave - np.interp(centre[0], x, wave) + thickness * 0.9
    half = thickness * (1 + 0.12 * rng.normal(0, 1, 16))
    colour = pick(rng, ((104, 84, 64), (126, 108, 88), (84, 72, 62), (116, 112, 104)))
    for share, tone in ((1.0, 0.62), (0.6, 0.85), (0.2, 1.05), (-0.35, 1.2)):
        lower = middle + half * share
        band = np.concatenate([np.stack([x, middle - half], 1), np.stack([x, lower], 1)[::-1]])
        cv2.fillPoly(canvas, [fixed(band)], shade(colour, tone), cv2.LINE_AA, SHIFT)
    for _ in range(int(rng.integers(6, 18))):
        at = int(rng.integers(0, 14))
        share = float(rng.uniform(-0.8, 0.8))
        crack = np.stack([x[at : at + 3], (middle + half * share)[at : at + 3]], 1)
        cv2.polylines(canvas, [fixed(crack)], False, shade(colour, 0.7), 1, cv2.LINE_AA, SHIFT)


def ripples(rng: Rng, canvas: Pixels, top: float, count: int) -> None:
    """Paint light and dark water lines below `top`, wider towards the viewer."""
    size = len(canvas)
    for _ in range(count):
        depth = float(rng.uniform(0, 1)) ** 1.5
        x, y = rng.uniform(0, size), top + depth * (size - top)
        reach = size * (0.03 + 0.14 * depth) * float(rng.uniform(0.5, 1.5))
        x1, x2, row = int(max(0, x - reach)), int(min(size, x + reach)), int(y)
        thick = 1 + int(size * 0.008 * depth)
        if row + thick < size and x2 > x1:
            patch = canvas[row : row + thick, x1:x2]
            patch[:] = np.clip(patch.astype(np.int16) + int(rng.normal(0, 14)), 0, 255)


def pebbles(rng: Rng, canvas: Pixels, top: float, count: int) -> None:
    """Paint stones and tufts on the ground below `top`."""
    size = len(canvas)
    for _ in range(count):
        depth = float(rng.uniform(0, 1))
        centre = np.array([rng.uniform(0, size), top + depth * (size - top)])
        radius = size * (0.004 + 0.016 * depth) * float(rng.uniform(0.5, 1.4))
        axes = fixed(np.array([radius, radius * 0.55]))
        colour = pick(rng, ((120, 110, 98), (150, 138, 120), (92, 86, 80), (134, 118, 92)))
        cv2.ellipse(
            canvas, tuple(fixed(centre + [0, radius * 0.2])), tuple(axes), 0, 0, 360, shade(colour, 0.6), -1, 16, SHIFT
        )
        cv2.ellipse(canvas, tuple(fixed(centre)), tuple(axes), 0, 0, 360, colour, -1, 16, SHIFT)


def light(rng: Rng, canvas: Pixels) -> Pixels:
    """Return (S, S, 3) under another light: dappled shadow, brightness, colour cast, and the camera's noise."""
    size = len(canvas)
    dapple = rng.uniform(0.8, 1.2, (5, 5)).astype(np.float32) * float(rng.uniform(0.82, 1.2))
    cast = rng.normal(1, 0.05, 3).astype(np.float32)
    field = cv2.resize(dapple, (size, size), interpolation=cv2.INTER_CUBIC)
    lit = canvas * (field[:, :, None] * cast)
    lit += _noise()[:size, :size, None] * float(rng.uniform(1.0, 4.0))
    return np.clip(lit, 0, 255).astype(np.uint8)


def _noise() -> Field:
    global _NOISE
    if _NOISE is None:
        _NOISE = np.random.default_rng(0).standard_normal((512, 512), dtype=np.float32)
    return _NOISE


_NOISE: Field | None = None
