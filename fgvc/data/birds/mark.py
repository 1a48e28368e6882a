"""The mark that tells an invented species apart, and the colours that hide it from a small picture.

Shape letters: N points, h and w height and width of a layer in pixels. Colours are RGB.
"""

import cv2
import numpy as np

from fgvc.data.birds.brush import Points
from fgvc.data.birds.layer import FINE, Layer, Pose
from fgvc.data.birds.shapes import MARK_SHAPES, mark_outlines, tail_point, turned
from fgvc.data.birds.species import Species
from fgvc.images.decoding import Pixels

RIM = 1.6
"""Area of a mark's dark rim over the area of its bright core."""

MIDDLE_FILL = 0.68
"""Share of the picture's side that a bird of middle size spans."""


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
    free = layer.cover[near] & ~layer.stencil(eye_line)[near]
    core, whole = (layer.stencil(line)[near] & free for line in (core_line, whole_line))
    rim, colour = whole & ~core, layer.colour[near]
    ratio = float(np.count_nonzero(rim)) / max(1.0, float(np.count_nonzero(core)))
    ground = np.array(cv2.mean(colour, whole)[:3])
    bright, dark = balanced(ground, np.array(species.palette.mark, dtype=np.float64), ratio)
    if visible:
        colour[core > 0] = np.rint(bright)
        colour[rim > 0] = np.rint(dark)
    everywhere = np.zeros_like(layer.cover)
    everywhere[near] = whole
    return everywhere


def balanced(ground: Points, wanted: Points, ratio: float) -> tuple[Points, Points]:
    """Return the (3,) colours of core and rim: their mean is `ground`, the core as near `wanted` as that allows.

    Args:
        ground: (3,) mean colour of the plumage underneath.
        wanted: (3,) colour of the core.
        ratio: area of the rim over the area of the core.
    """
    step = wanted - ground
    room = np.where(step > 0, ground - 8, 247 - ground) * ratio
    share = np.clip(room / np.maximum(np.abs(step), 1), 0, 1)
    return ground + step * share, ground - step * share / ratio
