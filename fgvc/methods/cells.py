"""Where the cells of a feature map lie in the image.

A convolution that pads and strides does not keep its cells in place. With equal borders, a stride of 2 over an even
side leaves the last border unread: the map of five such layers looks half a cell further left and up than its grid
suggests. With TensorFlow's `same`, which pads the right and the lower side only, it looks half a cell further right and
down. A box or a heat map that takes cell i of n for i / n to (i + 1) / n of the image is off by as much.

Shape letters: N images, h, w grid, s side wanted, n cells along a side.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate


class Cells(NamedTuple):
    """Where the cells of a map lie along both sides of a square image, as fractions of its side.

    displacement: of the middle of the map from the middle of the image; above 0 to the right and down.
    pitch: from one cell to the next; None where n cells share the side evenly, 1 / n.
    """

    displacement: float = 0.0
    pitch: float | None = None

    def points(self, nominal: Tensor, number: int) -> Tensor:
        """Return where points (...) lie that are given as if n = `number` cells shared the side evenly; inside 0..1."""
        return nominal if self == EVEN else self._moved(nominal, number).clamp(0, 1)

    def edges(self, number: int, like: Tensor) -> Tensor:
        """Return (n + 1,), of the kind of `like`, where the stretches of n cells begin and end.

        What lies beyond the outermost cells is theirs: they are the nearest.
        """
        nominal = torch.arange(number + 1, device=like.device, dtype=like.dtype) / number
        return self._stretched(nominal, number)

    def boxes(self, nominal: Tensor, height: int, width: int) -> Tensor:
        """Return boxes (..., 4) xyxy whose edges are given as if h x w cells shared the image evenly.

        An edge at the end of the map stays at the end of the image, see `edges`: a box around all cells is the whole.
        """
        sides = zip(nominal.unbind(-1), (width, height) * 2, strict=True)
        return torch.stack([self._stretched(x, number) for x, number in sides], dim=-1)

    def resampled(self, maps: Tensor, size: int) -> Tensor:
        """Maps (N, h, w) -> (N, s, s) float32 over the image, linear between the middles of cells, constant beyond."""
        wide = maps[:, None].float()
        if self == EVEN:
            return interpolate(wide, (size, size), mode="bilinear", align_corners=False)[:, 0]
        places = (torch.arange(size, device=maps.device) + 0.5) / size
        columns, rows = (self._grid_places(places, number) for number in (maps.shape[2], maps.shape[1]))
        grid = torch.stack((columns.expand(size, size), rows[:, None].expand(size, size)), dim=-1)
        grid = grid.expand(len(maps), size, size, 2)
        return grid_sample(wide, grid, mode="bilinear", padding_mode="border", align_corners=False)[:, 0]

    def _stretched(self, nominal: Tensor, number: int) -> Tensor:
        if self == EVEN:
            return nominal
        return torch.where((nominal > 0) & (nominal < 1), self._moved(nominal, number).clamp(0, 1), nominal)

    def _moved(self, nominal: Tensor, number: int) -> Tensor:
        scale = 1.0 if self.pitch is None else self.pitch * number
        return (nominal - 0.5) * scale + (0.5 + self.displacement)

    def _grid_places(self, places: Tensor, number: int) -> Tensor:
        """Return where places (s,) of the image lie on a map of n cells, -1 to 1, as `grid_sample` counts."""
        scale = 1.0 if self.pitch is None else self.pitch * number
        return 2 * (places - (0.5 + self.displacement)) / scale


EVEN = Cells()
"""Cells that share the image evenly: those of patches, and of what has no place of its own."""
