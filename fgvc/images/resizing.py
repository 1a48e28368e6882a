"""The one evaluation resize.

Shape letters: H, W a picture; S side of a square.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from fgvc.errors import UsageError
from fgvc.images.decoding import Pixels

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


def resize_for_eval(image: Pixels, how: EvalResize) -> tuple[Pixels, npt.NDArray[np.float32]]:
    """Cut and resize once. No filter aliases: all look at every pixel when shrinking.

    Args:
        image: (H, W, 3) uint8.
        how: size, fit and filter.

    Returns:
        (S, S, 3) uint8, and the view: (4,) float32 xyxy, the part shown as fractions of the photograph.
    """
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
