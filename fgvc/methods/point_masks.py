"""Masks made of points: what lies between the points of a part, or close to one of them.

Shape letters: N images, P points, Q places.
"""

import math

import torch
from torch import Tensor


def covered(points: Tensor, places: Tensor, reach: Tensor) -> Tensor:
    """Return (N, Q) bool: whether a place lies in the convex hull of an image's known points, or near one of them.

    A place lies in the hull if no half-plane through it holds all points: if the directions to them leave no gap of
    more than half a turn.

    Args:
        points: (N, P, 2), NaN where they are not known.
        places: (N, Q, 2), in the same unit.
        reach: (N,) the distance up to which a place is near a point.
    """
    known = ~points.isnan().any(dim=2)
    has_some = known.any(dim=1)
    first = known.long().argmax(dim=1)
    stand_in = points[torch.arange(len(points), device=points.device), first]
    filled = torch.where(known[..., None], points, stand_in[:, None]).nan_to_num()
    ways = filled[:, None] - places[:, :, None]  # (N, Q, P, 2)
    near = ways.norm(dim=3).amin(dim=2) <= reach[:, None]
    turns = torch.atan2(ways[..., 1], ways[..., 0]).sort(dim=2).values
    gaps = torch.cat((turns.diff(dim=2), turns[..., :1] + 2 * math.pi - turns[..., -1:]), dim=2)
    between = gaps.amax(dim=2) <= math.pi
    masks: Tensor = (near | between) & has_some[:, None]
    return masks


def cell_centres(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return (N, h w, 2): the centres of the cells of a grid over boxes (N, 4), in reading order."""
    y = (torch.arange(height, device=boxes.device) + 0.5) / height
    x = (torch.arange(width, device=boxes.device) + 0.5) / width
    steps = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
    return boxes[:, None, :2] + steps * (boxes[:, None, 2:] - boxes[:, None, :2])
