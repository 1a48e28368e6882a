"""Paint one invented bird in its habitat and return where its parts are.

Everything that varies is drawn from the generator that is handed in; the mark draws nothing, so that the same bird can
be painted without it. Shape letters: S side of the picture, N points. Colours are RGB.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fgvc.data.birds import scenery
from fgvc.data.birds.body import paint_bird, paint_eye, shaded
from fgvc.data.birds.brush import SHIFT, Rng, fixed
from fgvc.data.birds.layer import Layer, Pose, averaged, choose_pose
from fgvc.data.birds.mark import MIDDLE_FILL, paint_mark
from fgvc.data.birds.plants import perch
from fgvc.data.birds.scenery import HABITATS, Habitat
from fgvc.data.birds.shapes import beak_gape, tail_point
from fgvc.data.birds.species import Species
from fgvc.images.decoding import Pixels

PARTS: tuple[str, ...] = (
    *("eye", "beak", "crown", "cheek", "nape", "throat", "breast"),
    *("belly", "back", "shoulder", "wing", "rump", "tail", "leg"),
)
"""The body parts whose points are known, in the order they are stored in."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Painting:
    """A picture and what is known about it, in pixels.

    pixels: (S, S, 3) uint8.
    object_box: the whole bird above water. mark_box: the part of the mark that no plant hides.
    points: body part -> (x, y), for those that no plant hides.
    """

    pixels: Pixels
    object_box: Box
    mark_box: Box
    points: dict[str, tuple[float, float]]


def paint(species: Species, rng: Rng, size: int = 384, mark_size: float = 0.03, with_mark: bool = True) -> Painting:
    """Paint one bird of a species.

    Args:
        species: what to paint.
        rng: every random draw comes from it.
        size: side of the picture in pixels, S.
        mark_size: width of a round mark, rim included, over S, for a bird of middle size.
        with_mark: False leaves the mark out and changes nothing else.
    """
    pose = choose_pose(rng, species, size)
    habitat = HABITATS[pose.anatomy.habitat]
    canvas = scenery.background(rng, habitat, size)
    waterline = _surroundings(rng, canvas, habitat, pose)
    layer = Layer(pose, size)
    paint_bird(rng, layer, species, pose)
    width = mark_size / MIDDLE_FILL * float((pose.high - pose.low).max())
    mark = _on_picture(paint_mark(layer, species, pose, width, with_mark), layer, size)
    paint_eye(layer, pose)
    layer.cut_below(waterline)
    _lay(rng, canvas, layer, pose)
    scenery.ripples(rng, canvas, waterline, waterline + 0.06 * size, 8)
    cover = _on_picture(layer.cover, layer, size)
    hidden = _plants_in_front(rng, canvas, habitat, cover, mark)
    pixels = scenery.light(rng, canvas)
    free = np.where(hidden < 200, mark, 0)
    # A mark of two pixels may fill none of them well.
    seen = free > min(40, int(free.max()) - 1)
    return Painting(pixels, _box(cover > 100), _box(seen), _points(pose, species, cover, hidden))


def _surroundings(rng: Rng, canvas: Pixels, habitat: Habitat, pose: Pose) -> float:
    """Paint what the bird sits, stands or swims on; return the row of the waterline, or S where there is none."""
    size, unit = len(canvas), pose.unit
    if pose.anatomy.habitat == "water":
        x, waterline = pose.place([(-0.05, 0.2)])[0].tolist()
        scenery.ripples(rng, canvas, waterline - size * 0.25, size, int(rng.integers(40, 90)))
        scenery.plants_behind(rng, canvas, habitat)
        scenery.shadow(canvas, np.array([x, waterline + 0.08 * unit]), 0.95 * unit)
        return float(waterline)
    feet = pose.place([leg[2] for leg in pose.anatomy.legs])
    scenery.plants_behind(rng, canvas, habitat)
    if pose.anatomy.habitat == "branch":
        perch(rng, canvas, feet, unit * float(rng.uniform(0.05, 0.11)))
    else:
        horizon = float(feet[:, 1].min()) - size * float(rng.uniform(0.03, 0.2))
        scenery.pebbles(rng, canvas, horizon, int(rng.integers(15, 60)))
        scenery.shadow(canvas, feet.mean(axis=0), 0.5 * unit)
    return float(size)


def _lay(rng: Rng, canvas: Pixels, layer: Layer, pose: Pose) -> None:
    """Lay the bird onto (S, S, 3)."""
    cover = averaged(layer.cover)
    bird = shaded(rng, averaged(layer.colour), cover, layer, pose)
    window = canvas[layer.y : layer.y + cover.shape[0], layer.x : layer.x + cover.shape[1]]
    through = cv2.multiply(window, cv2.merge([255 - cover] * 3), scale=1 / 255)
    window[:] = cv2.add(through, bird)


def _on_picture(fine: Pixels, layer: Layer, size: int) -> Pixels:
    """Return (S, S) uint8 for a stencil of the layer."""
    small = averaged(fine)
    whole = np.zeros((size, size), np.uint8)
    whole[layer.y : layer.y + small.shape[0], layer.x : layer.x + small.shape[1]] = small
    return whole


def _plants_in_front(rng: Rng, canvas: Pixels, habitat: Habitat, cover: Pixels, mark: Pixels) -> Pixels:
    """Paint up to three plants over the bird, none that hides much of the mark; return (S, S) uint8: where they are."""
    size, hidden = len(cover), np.zeros_like(cover)
    ys, xs = np.nonzero(cover[::8, ::8])
    for _ in range(int(rng.choice(4, p=[0.35, 0.35, 0.2, 0.1]))):
        at = int(rng.integers(len(ys)))
        target = np.array([xs[at], ys[at]]) * 8.0 + rng.normal(0, 0.08 * size, 2)
        trial, stencil = canvas.copy(), hidden.copy()
        outlines = habitat.plant(rng, trial, target, size * float(rng.uniform(0.2, 0.4)), habitat.plants)
        for outline in outlines:
            cv2.fillPoly(stencil, [fixed(outline)], 255, cv2.LINE_AA, SHIFT)
        if np.count_nonzero(stencil[mark > 127]) <= 0.3 * np.count_nonzero(mark > 127):
            canvas[:], hidden = trial, stencil
    return hidden


def _points(pose: Pose, species: Species, cover: Pixels, hidden: Pixels) -> dict[str, tuple[float, float]]:
    anatomy = pose.anatomy
    local = anatomy.parts | {
        "beak": tuple(beak_gape(anatomy, species.beak)[-1]),
        "tail": tuple(tail_point(anatomy, 0.6, pose.lift)[0]),
    }
    names = [name for name in PARTS if name in local]
    visible = {}
    for name, (x, y) in zip(names, pose.place([local[name] for name in names]).tolist(), strict=True):
        row, column = min(int(y), len(cover) - 1), min(int(x), len(cover) - 1)
        near = cover[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4]
        if near.max() > 100 and hidden[row, column] < 128:
            visible[name] = (x, y)
    return visible


def _box(where: npt.NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
