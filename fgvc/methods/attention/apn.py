"""The attention proposal network of RA-CNN: two layers that answer with a box.

Shape letters: N images, C channels, h, w grid of the map, g grid after pooling.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, smooth_l1_loss

from fgvc.errors import UsageError
from fgvc.images.regions import bounded_boxes, centred_boxes, fitted
from fgvc.methods.attention.base import Attention
from fgvc.methods.backbone import Backbone
from fgvc.methods.cells import EVEN, Cells
from fgvc.methods.object_mask import selected_boxes


def peak_boxes(features: Tensor, side: float, cells: Cells = EVEN) -> Tensor:
    """Return squares around the strongest place of each map: where RA-CNN's attention starts.

    Args:
        features: (N, C, h, w).
        side: of the square, as a fraction of the image.
        cells: where the cells lie.

    Returns:
        (N, 4) xyxy, moved into the image.
    """
    height, width = features.shape[2:]
    place = features.float().sum(dim=1).flatten(1).argmax(dim=1)
    column, row = place % width, place.div(width, rounding_mode="floor")
    centre = [cells.points((one + 0.5) / number, number) for one, number in ((column, width), (row, height))]
    return centred_boxes(torch.stack(centre, dim=1), side)


def spread_boxes(features: Tensor, spread: float, side_min: float, square: bool, cells: Cells = EVEN) -> Tensor:
    """Return boxes around the mean place of each map, reaching `spread` standard deviations to every side.

    The map is read as weights: the sum of its positive channels. Unlike a mask's box, its sides are no
    multiples of a cell, which matters on the 5 x 5 grid of a small picture.

    Args:
        features: (N, C, h, w).
        spread: in standard deviations.
        side_min, square: see `regions.fitted`.
        cells: where the cells lie.

    Returns:
        (N, 4) xyxy inside 0..1.
    """
    weights = features.clamp_min(0).sum(dim=1) + torch.finfo(features.dtype).tiny
    weights = weights / weights.sum(dim=(1, 2), keepdim=True)
    ends = []
    for line in (weights.sum(dim=1), weights.sum(dim=2)):  # along x, along y
        edges = cells.edges(line.shape[1], line)
        places, lengths = (edges[1:] + edges[:-1]) / 2, edges[1:] - edges[:-1]
        line = line * lengths  # an even map has its mean in the middle of the image, wherever its cells look
        line = line / line.sum(dim=1, keepdim=True)
        mean = (line * places).sum(dim=1)
        reach = spread * (line * (places - mean[:, None]) ** 2).sum(dim=1).sqrt()
        ends.append((mean - reach, mean + reach))
    (left, right), (top, bottom) = ends
    return fitted(torch.stack((left, top, right, bottom), dim=1).clamp(0, 1), side_min, square)


class APN(Attention):
    """Map -> pooled to a grid -> (optional 1 x 1 convolution) -> fully connected, tanh -> fully connected -> box.

    Jianlong Fu, Heliang Zheng, Tao Mei, "Look Closer to See Better: Recurrent Attention Convolutional Neural Network
    for Fine-grained Image Recognition", CVPR 2017. The answer is bounded by construction: the box lies inside the
    image and its sides lie between two bounds, so nothing is clamped and the gradient never stops.

    Args:
        backbone: see Attention.
        hidden: width of the hidden layer.
        reduce_to: channels after a 1 x 1 convolution before it; 0 leaves the convolution out, as published.
        grid: g, the side to which the map is pooled.
        square: one side for width and height, as published, or two.
        side_min, side_max: bounds of the sides, as fractions of the image.
        start: where learning starts: `peak`, a square of side `start_side` around the strongest place of the map, as
            published; `mask`, the box around SCDA's mask; or `spread`, see `spread_boxes`.
        start_side: side of that square.
        start_spread: reach of the box of `spread`, in standard deviations.

    Raises:
        UsageError: bounds outside 0 < min < max <= 1, or a width below 1.
    """

    def __init__(
        self,
        backbone: Backbone,
        hidden: int = 1024,
        reduce_to: int = 0,
        grid: int = 7,
        square: bool = True,
        side_min: float = 1 / 3,
        side_max: float = 1.0,
        start: Literal["peak", "mask", "spread"] = "peak",
        start_side: float = 0.5,
        start_spread: float = 1.5,
    ) -> None:
        super().__init__(backbone)
        if not 0 < side_min < side_max <= 1:
            raise UsageError(f"APN: sides from {side_min} to {side_max}; 0 < side_min < side_max <= 1 is needed")
        if min(hidden, grid) < 1 or reduce_to < 0:
            raise UsageError(f"APN: hidden {hidden} and grid {grid} must be 1 or more, reduce_to {reduce_to} 0 or more")
        channels = reduce_to or backbone.channels
        self.grid, self.square = grid, square
        self.side_min, self.side_max = side_min, side_max
        self.start, self.start_side, self.start_spread = start, start_side, start_spread
        self.reduce = nn.Conv2d(backbone.channels, channels, 1) if reduce_to else nn.Identity()
        self.hidden = nn.Linear(channels * grid * grid, hidden)
        self.box = nn.Linear(hidden, 3 if square else 4)
        nn.init.zeros_(self.box.weight)  # every picture starts from the middle, at the middle size
        nn.init.zeros_(self.box.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, 4) xyxy inside 0..1."""
        pooled = adaptive_avg_pool2d(self.reduce(features), self.grid)
        raw = self.box(self.hidden(pooled.flatten(1)).tanh())
        return bounded_boxes(raw, self.side_min, self.side_max)

    def start_boxes(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, 4): where learning starts."""
        if self.start == "peak":
            return peak_boxes(features, self.start_side, self.cells)
        if self.start == "spread":
            return spread_boxes(features, self.start_spread, self.side_min, self.square, self.cells)
        return selected_boxes(features, self.side_min, self.square, cells=self.cells)

    def start_loss(self, boxes: Tensor, features: Tensor) -> Tensor:
        """Return the smooth L1 distance between boxes (N, 4) and `start_boxes`."""
        return smooth_l1_loss(boxes, self.start_boxes(features), beta=0.1)
