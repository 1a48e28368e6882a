"""Leaves, twigs, branches and blades of grass around an invented bird.

Shape letters: S side of the picture, N points. Colours are RGB.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from fgvc.data.birds.brush import SHIFT, Points, Rng, fill, fixed, pick, shade
from fgvc.data.birds.species import Colour
from fgvc.images.decoding import Pixels

BARK: tuple[Colour, ...] = ((104, 84, 64), (126, 108, 88), (84, 72, 62), (116, 112, 104))


def leaf(rng: Rng, canvas: Pixels, base: Points, length: float, angle: float, colour: Colour) -> Points:
    """Paint a leaf with a midrib onto (S, S, 3); return its (N, 2) outline."""
    t = np.linspace(0, 1, 10)
    half = np.sin(np.pi * t**0.8) * float(rng.uniform(0.16, 0.3))
    bend = float(rng.uniform(-0.25, 0.25)) * t**2
    along = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * length
    upper, lower, middle = (np.stack([t, bend + side], 1) @ along + base for side in (half, -half, 0.0))
    outline = np.concatenate([upper, lower[::-1]])
    fill(canvas, outline, colour)
    fill(canvas, np.concatenate([upper, middle[::-1]]), shade(colour, 0.84))
    cv2.polylines(canvas, [fixed(middle)], False, shade(colour, 1.2), 1, cv2.LINE_AA, SHIFT)
    return outline


def twig(
    rng: Rng, canvas: Pixels, start: Points, angle: float, length: float, colours: Sequence[Colour]
) -> list[Points]:
    """Paint a thin twig with leaves from (2,) pixels on; return the outlines that were filled."""
    size = len(canvas)
    bends = angle + np.cumsum(rng.normal(0, 0.12, 8))
    spine = start + np.cumsum(np.stack([np.cos(bends), np.sin(bends)], 1) * length / 8, axis=0)
    half = size * float(rng.uniform(0.003, 0.008)) * np.linspace(1.2, 0.3, 8)
    side = np.stack([-np.sin(bends), np.cos(bends)], 1) * half[:, None]
    outlines = [np.concatenate([spine + side, (spine - side)[::-1]])]
    fill(canvas, outlines[0], pick(rng, BARK))
    colour = pick(rng, colours)
    for step in range(1, 8, int(rng.integers(1, 4))):
        turn = float(bends[step]) + float(rng.choice([-1, 1]) * rng.uniform(0.4, 1.1))
        outlines.append(leaf(rng, canvas, spine[step], size * float(rng.uniform(0.05, 0.12)), turn, colour))
    return outlines


def blade(rng: Rng, canvas: Pixels, foot: Points, length: float, colours: Sequence[Colour]) -> list[Points]:
    """Paint a blade of grass or reed that rises from (2,) pixels; return the outline that was filled."""
    t = np.linspace(0, 1, 10)
    lean, sway = float(rng.uniform(-0.3, 0.3)), float(rng.uniform(-0.4, 0.4))
    spine = foot + length * np.stack([lean * t + sway * t**3, -t], 1)
    half = len(canvas) * float(rng.uniform(0.003, 0.009)) * np.stack([1 - t**2, 0 * t], 1)
    colour = pick(rng, colours)
    fill(canvas, np.concatenate([spine - half, (spine + half)[::-1]]), colour)
    fill(canvas, np.concatenate([spine, (spine + half)[::-1]]), shade(colour, 0.8))
    return [np.concatenate([spine - half, (spine + half)[::-1]])]


def perch(rng: Rng, canvas: Pixels, feet: Points, thickness: float) -> None:
    """Paint a branch under the (2, 2) feet, from one edge of the picture to the other."""
    size = len(canvas)
    (x1, y1), (x2, y2) = feet.tolist()
    slope = (y2 - y1) / (x2 - x1) if abs(x2 - x1) > 1 else 0.0
    slope = min(0.35, max(-0.35, slope + 0.08 * float(rng.normal())))
    x = np.linspace(-0.05, 1.05, 16) * size
    wave = np.cumsum(rng.normal(0, 0.006, 16)) * size
    foot = (x1 + x2) / 2
    middle = (y1 + y2) / 2 + slope * (x - foot) + wave - np.interp(foot, x, wave) + thickness * 0.9
    half = thickness * (1 + 0.12 * rng.normal(0, 1, 16))
    colour = pick(rng, BARK)
    for share, tone in ((1.0, 0.62), (0.6, 0.85), (0.2, 1.05), (-0.35, 1.2)):
        lower = np.stack([x, middle + half * share], 1)
        fill(canvas, np.concatenate([np.stack([x, middle - half], 1), lower[::-1]]), shade(colour, tone))
    for _ in range(int(rng.integers(6, 18))):
        at = int(rng.integers(0, 14))
        crack = np.stack([x, middle + half * float(rng.uniform(-0.8, 0.8))], 1)[at : at + 3]
        cv2.polylines(canvas, [fixed(crack)], False, shade(colour, 0.7), 1, cv2.LINE_AA, SHIFT)
