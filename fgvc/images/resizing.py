"""The one evaluation resize.

Shape letters: H, W a picture; S side of a square.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from fgvc.errors import UsageError
from fgvc.images.decoding import Pixels
from fgvc.images.sides import MAX_SIDE

if TYPE_CHECKING:
    from torch import Tensor

INTERPOLATIONS = ("area", "bilinear", "bicubic")


class EvalResize(NamedTuple):
    """How a photograph becomes the square that the model sees when nothing is random.

    size: side of the square in pixels.
    fit: `crop` cuts a centred square, `squash` keeps the whole picture and changes its proportions.
    crop_fraction: side of the centred cut over the shorter side (`crop`) or over each side (`squash`), in (0, 1].
    interpolation: `area` averages over areas when shrinking and is bicubic when growing; `bilinear` and `bicubic` are
        Pillow's filters, which are widened when shrinking, and with which most timm weights were trained.
    """

    size: int
    fit: str = "crop"
    crop_fraction: float = 1.0
    interpolation: str = "area"

    @property
    def at_least(self) -> int:
        """The shorter side, for `decode`, of a photograph whose cut has 2 x size pixels a side.

        Twice, because a second reduction by less than 2 blurs what the first one left.
        """
        return math.ceil(2 * self.size / self.crop_fraction)

    def check(self) -> "EvalResize":
        """Return self, or raise UsageError for values outside their range."""
        if self.fit not in ("crop", "squash"):
            raise UsageError(f"fit: {self.fit!r}; it is 'crop' or 'squash'")
        if self.interpolation not in INTERPOLATIONS:
            raise UsageError(f"interpolation: {self.interpolation!r}; it is {', '.join(map(repr, INTERPOLATIONS))}")
        if self.size < 1 or not 0 < self.crop_fraction <= 1:
            raise UsageError(
                f"eval resize: size {self.size} must be 1 or more, crop_fraction {self.crop_fraction} in (0, 1]"
            )
        return self


class Strip(NamedTuple):
    """Several squares of one photograph, side by side, for models that see it in unlike ways.

    squares: at least two, all unlike. They share the upper edge; what lies below the smaller ones is black.
    """

    squares: tuple[EvalResize, ...]

    @property
    def size(self) -> int:
        """The side of the largest square, in pixels."""
        return max(one.size for one in self.squares)

    @property
    def at_least(self) -> int:
        """See `EvalResize.at_least`."""
        return max(one.at_least for one in self.squares)

    def check(self) -> "Strip":
        """Return self, or raise UsageError for values outside their range."""
        for one in self.squares:
            one.check()
        if self.size * sum(one.size for one in self.squares) > MAX_SIDE**2:
            raise UsageError(
                f"eval resize: {len(self.squares)} squares of up to {self.size} pixels; too many to show at once"
            )
        return self


Shown = EvalResize | Strip
"""How a photograph is shown when nothing is random: as one square, or as several side by side."""


def shown_together(squares: Sequence[EvalResize]) -> tuple[Shown, list[int]]:
    """Return what shows a photograph in several ways, each way once, and for each of them its place there."""
    unlike = list(dict.fromkeys(squares))
    shown = unlike[0] if len(unlike) == 1 else Strip(tuple(unlike))
    return shown, [unlike.index(one) for one in squares]


def cut_strip(images: "Tensor", shown: Shown) -> "tuple[Tensor, ...]":
    """Cut squares that lie side by side apart.

    Args:
        images: (N, 3, H, W), H the largest side and W the sum of sides; or single squares (N, 3, S, S).
        shown: what was shown.

    Returns:
        The squares (N, 3, S, S) in their order; single ones as they are.

    Raises:
        UsageError: images of other sides.
    """
    height, width = images.shape[2:]
    if height == width:
        return (images,)
    sides = [one.size for one in shown.squares] if isinstance(shown, Strip) else [shown.size]
    if (height, width) != (max(sides), sum(sides)):
        raise UsageError(f"images of {height} x {width}; give squares, or {max(sides)} x {sum(sides)} for {sides}")
    lefts = [sum(sides[:i]) for i in range(len(sides))]
    return tuple(images[:, :, :side, left : left + side] for side, left in zip(sides, lefts, strict=True))


def laid_side_by_side(squares: "Sequence[Tensor]") -> "Tensor":
    """Squares (N, 3, S, S) of any sides -> (N, 3, H, W), what `cut_strip` cuts; a single one stays as it is."""
    if len(squares) == 1:
        return squares[0]
    first, height = squares[0], max(one.shape[2] for one in squares)
    strip = first.new_zeros(*first.shape[:2], height, sum(one.shape[3] for one in squares))
    left = 0
    for one in squares:
        strip[:, :, : one.shape[2], left : left + one.shape[3]] = one
        left += one.shape[3]
    return strip


def resize_for_eval(image: Pixels, how: Shown) -> tuple[Pixels, npt.NDArray[np.float32]]:
    """Cut and resize once. No filter aliases: all look at every pixel when shrinking.

    Args:
        image: (H, W, 3) uint8.
        how: size, fit and filter; of a strip those of each square.

    Returns:
        (S, S, 3) uint8, of a strip the largest side by the sum of sides; and the view: (4,) float32 xyxy, the part
        shown as fractions of the photograph, of a strip that of its first square.
    """
    if isinstance(how, Strip):
        seen = [resize_for_eval(image, one) for one in how.squares]
        strip = np.zeros((how.size, sum(one.size for one in how.squares), 3), dtype=np.uint8)
        left = 0
        for pixels, _ in seen:
            strip[: len(pixels), left : left + len(pixels)] = pixels
            left += len(pixels)
        return strip, seen[0][1]
    height, width = image.shape[:2]
    if how.fit == "crop":
        side = max(1, round(min(height, width) * how.crop_fraction))
        cut_h = cut_w = side
    else:
        cut_h, cut_w = (max(1, round(side * how.crop_fraction)) for side in (height, width))
    top, left = (height - cut_h) // 2, (width - cut_w) // 2
    cut = image[top : top + cut_h, left : left + cut_w]
    pixels = _resized(cut, how.size, how.size, how.interpolation)
    view = np.array([left / width, top / height, (left + cut_w) / width, (top + cut_h) / height], dtype=np.float32)
    return pixels, view


def resize_uncut(image: Pixels, how: EvalResize) -> Pixels:
    """Shrink a whole photograph (H, W, 3) uint8 until its shorter side has `size` pixels; its proportions stay.

    A smaller one stays as it is. Of `how`, size and filter count.
    """
    factor = how.size / min(image.shape[:2])
    if factor >= 1:
        return np.ascontiguousarray(image)
    height, width = (max(how.size, round(side * factor)) for side in image.shape[:2])
    return _resized(image, height, width, how.interpolation)


def _resized(image: Pixels, height: int, width: int, interpolation: str) -> Pixels:
    return resize(image, height, width) if interpolation == "area" else _filtered(image, height, width, interpolation)


def resize(image: Pixels, height: int, width: int) -> Pixels:
    """Resize (H, W, 3) uint8: area averages when the area shrinks, bicubic when it grows."""
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    shrinks = image.shape[0] * image.shape[1] > height * width
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(resized, dtype=np.uint8)


def _filtered(image: Pixels, height: int, width: int, interpolation: str) -> Pixels:
    """Resize (H, W, 3) uint8 as Pillow does, to one grey level; several times as fast."""
    import torch  # here: whoever averages over areas, as `data verify` and contact sheets do, loads no torch

    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    filtered = torch.nn.functional.interpolate(pixels, (height, width), mode=interpolation, antialias=True)
    return np.ascontiguousarray(filtered[0].permute(1, 2, 0).numpy())
