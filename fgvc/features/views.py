"""What a network is shown of one photograph: the square, its mirror image, the box of the object, or all of it uncut.

Shape letters: H, W the photograph, S side of the square.
"""

import math

import numpy as np

from fgvc.errors import UsageError, did_you_mean
from fgvc.images.boxes import Box
from fgvc.images.decoding import Limits, Pixels, decode_with_warning
from fgvc.images.resizing import EvalResize, resize_for_eval, resize_uncut

VIEWS = ("whole", "flip", "box", "uncut")
"""whole: the evaluation square. flip: its mirror image. box: the smallest square that holds the box `object`, moved
into the photograph where it would stand out, whole, as far as the photograph reaches.
uncut: the photograph with its proportions, its shorter side S pixels or less, as SCDA's authors have it; no square."""


def check_views(views: tuple[str, ...]) -> tuple[str, ...]:
    """Return the views, each once, or raise UsageError for a word that is none."""
    for view in views:
        if view not in VIEWS:
            raise UsageError(f"views: {view!r}; there are {', '.join(VIEWS)}{did_you_mean(view, VIEWS)}")
    if not views:
        raise UsageError(f"views: none is named; there are {', '.join(VIEWS)}")
    return tuple(dict.fromkeys(views))


def squares(
    path: str, views: tuple[str, ...], how: EvalResize, limits: Limits, box: Box | None
) -> tuple[dict[str, Pixels], str | None]:
    """Read a photograph once, for `box` a second time with the pixels that a part of it needs.

    Args:
        path: the file.
        views: which are wanted.
        how: the evaluation resize.
        limits: which files are read.
        box: of the object, xyxy as fractions of the upright photograph; needed for the view `box` alone.

    Returns:
        view -> (S, S, 3) uint8, `uncut` with its own sides; and what is wrong with a file that can be read all the
        same, or None.

    Raises:
        ImageError: it cannot be read.
    """
    found: dict[str, Pixels] = {}
    warning = None
    if {"whole", "flip", "uncut"} & set(views):
        photograph, warning = decode_with_warning(path, at_least=how.at_least, limits=limits)
        if "uncut" in views:
            found["uncut"] = resize_uncut(photograph, how)
        whole, _ = resize_for_eval(photograph, how)
        found["whole"], found["flip"] = whole, np.ascontiguousarray(whole[:, ::-1])
    if "box" in views and box is not None:
        share = max(min(box[2] - box[0], box[3] - box[1]), 1e-3)
        photograph, warning = decode_with_warning(path, at_least=math.ceil(how.at_least / share), limits=limits)
        all_of_it = how._replace(fit="squash", crop_fraction=1.0)
        found["box"], _ = resize_for_eval(cut(photograph, square_around(box, photograph)), all_of_it)
    return {view: found[view] for view in views}, warning


def square_around(box: Box, photograph: Pixels) -> Box:
    """Return the smallest square of pixels that holds a box, moved into the photograph (H, W, 3) and cut at its sides.

    A box that is longer than the photograph is high, or higher than it is wide, gives a part that is no square.
    """
    height, width = photograph.shape[:2]
    side = max((box[2] - box[0]) * width, (box[3] - box[1]) * height)
    across, up = min(side / width, 1.0), min(side / height, 1.0)
    left = min(max((box[0] + box[2] - across) / 2, 0.0), 1.0 - across)
    top = min(max((box[1] + box[3] - up) / 2, 0.0), 1.0 - up)
    return left, top, left + across, top + up


def cut(photograph: Pixels, box: Box) -> Pixels:
    """Return the pixels (h, w, 3) of a photograph (H, W, 3) that a box touches, at least one."""
    height, width = photograph.shape[:2]
    left, right = _side(box[0], box[2], width)
    top, bottom = _side(box[1], box[3], height)
    return photograph[top:bottom, left:right]


def _side(low: float, high: float, pixels: int) -> tuple[int, int]:
    first = min(max(math.floor(low * pixels + 1e-3), 0), pixels - 1)
    return first, min(max(math.ceil(high * pixels - 1e-3), first + 1), pixels)
