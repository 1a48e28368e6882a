"""Annotations in what is shown of a photograph: cut, moved and mirrored with it.

Shape letters: P body parts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fgvc.data.sources.base import Annotations, DataSource
from fgvc.datatypes import Places
from fgvc.images.boxes import Box

SHOWN_AT_LEAST = 0.05
"""A box of which less than this share is shown counts as unknown: what is left of it says nothing of the object."""

_SIDES = {"left": "right", "right": "left"}


class ShownPlaces:
    """What is annotated of the records of a split.

    Args:
        source: where the annotations come from.
        split: the source's name of the split.
        positions: of the records in it, -1 for one of which it knows nothing; None for all, in their order.
        names: of the P points.
    """

    def __init__(
        self, source: DataSource, split: str, positions: npt.NDArray[np.int64] | None, names: Sequence[str]
    ) -> None:
        self._source, self._split, self._positions, self._names = source, split, positions, tuple(names)

    def __call__(self, index: int, view: npt.NDArray[np.float32]) -> Places:
        """Return the box (4,) and the points (P, 2) of a record in its view (4,)."""
        row = index if self._positions is None else int(self._positions[index])
        known = Annotations() if row < 0 else self._source.annotations(self._split, row)
        return shown(known, view, self._names)


def shown(known: Annotations, view: npt.NDArray[np.floating[Any]], names: Sequence[str]) -> Places:
    """Return annotations as fractions of a part of the photograph; see `Places`.

    Args:
        known: as fractions of the upright photograph.
        view: (4,) xyxy, the part; x1 > x2 where it is mirrored.
        names: of the P points, in the order wanted.
    """
    corners: npt.NDArray[np.float64] = np.asarray(view, dtype=np.float64)
    origin, extent = corners[:2], corners[2:] - corners[:2]
    points = np.full((len(names), 2), np.nan)
    for row, name in enumerate(names):
        wanted = other_side(name) if extent[0] < 0 else name
        if wanted in known.points:
            points[row] = (np.asarray(known.points[wanted]) - origin) / extent
    points[((points < 0) | (points > 1)).any(axis=1)] = np.nan
    box = _cut(known.boxes["object"], origin, extent) if "object" in known.boxes else np.full(4, np.nan)
    return Places(torch.from_numpy(box).float(), torch.from_numpy(points).float())


def other_side(name: str) -> str:
    """Return the name of the mirrored part: `right eye` of `left eye`, `wing_left` of `wing_right`, else the same."""
    words = name.replace("_", " ").replace("-", " ").split()
    swapped = {word for word in words if word in _SIDES}
    if len(swapped) != 1:
        return name
    word = swapped.pop()
    return name.replace(word, _SIDES[word])


def _cut(box: Box, origin: npt.NDArray[np.float64], extent: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    corners = (np.asarray(box).reshape(2, 2) - origin) / extent
    low, high = corners.min(axis=0), corners.max(axis=0)
    inner = np.concatenate([low.clip(0, 1), high.clip(0, 1)])
    left = (inner[2:] - inner[:2]).prod()
    whole = (high - low).prod()
    return inner if whole > 0 and left >= SHOWN_AT_LEAST * whole else np.full(4, np.nan)
