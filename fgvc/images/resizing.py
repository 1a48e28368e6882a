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


class EvalResize(NamedTuple):
    """How a photograph becomes the square that the model sees when nothing is random.

    size: side of the square in pixels.
    fit: `crop` cuts a centred square, `squash` keeps the whole picture and changes its proportions.
    crop_fraction: side of the centred cut over the shorter side (`crop`) or over each side (`squash`), in (0, 1].
    """

    size: int
    fit: str = "crop"
    crop_fraction: float = 1.0

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
        if self.size < 1 or not 0 < self.crop_fraction <= 1:
            raise UsageError(
                f"eval resize: size {self.size} must be 1 or more, crop_fraction {self.crop_fraction} in (0, 1]"
            )
        return self


def resize_for_eval(image: Pixels, how: EvalResize) -> tuple[Pixels, npt.NDArray[np.float32]]:
    """Cut and resize once, averaging over areas when shrinking (OpenCV's other filters alias).

    Args:
        image: (H, W, 3) uint8.
        how: size and fit.

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
    pixels = resize(image[top : top + cut_h, left : left + cut_w], how.size, how.size)
    view = np.array([left / width, top / height, (left + cut_w) / width, (top + cut_h) / height], dtype=np.float32)
    return pixels, view


def resize(image: Pixels, height: int, width: int) -> Pixels:
    """Resize (H, W, 3) uint8: area averages when the area shrinks, bicubic when it grows."""
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    shrinks = image.shape[0] * image.shape[1] > height * width
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(resized, dtype=np.uint8)
