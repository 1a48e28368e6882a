"""Training augmentation. The only file that names albumentations.

Every draw is a function of the seed that is passed with the picture: albumentations 2.0.8 repeats its streams in
forked workers, and its own `seed` argument locks the decisions of different transforms together.
"""

import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fgvc.errors import UsageError
from fgvc.images.decoding import Pixels
from fgvc.images.resizing import Shown, resize_for_eval
from fgvc.images.sides import check_side

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import asks the network for a newer version otherwise
import albumentations as A

cv2.ocl.setUseOpenCL(False)

GREY = np.array([0.299, 0.587, 0.114])
"""The weights of red, green and blue in a grey picture (ITU-R BT.601)."""


@dataclass(frozen=True)
class Augmentation:
    """What training changes at random in a picture.

    Attributes:
        scale: smallest and largest share of the picture's area that the random crop keeps.
        ratio: smallest and largest width over height of the random crop.
        flip: probability of mirroring left and right.
        color_jitter: largest relative change of brightness, contrast and saturation.
        policy: how many operations of the policy are drawn for each picture (0: none), in the spirit of RandAugment
            (Cubuk et al., 2020): small rotation, shear, sharpness, blur, equalisation, solarisation, posterisation.
        erase: probability that one rectangle is filled with noise (Zhong et al., "Random Erasing", AAAI 2020).
        off: show photographs in training as in evaluation; the other keys then say nothing.
    """

    scale: tuple[float, float] = (0.35, 1.0)
    ratio: tuple[float, float] = (0.75, 1.3333)
    flip: float = 0.5
    color_jitter: float = 0.2
    policy: int = 0
    erase: float = 0.0
    off: bool = False

    def check(self) -> "Augmentation":
        """Return self, or raise UsageError for a value outside its range."""
        rules = {
            "scale": (0 < self.scale[0] <= self.scale[1] <= 1, "0 < smallest <= largest <= 1"),
            "ratio": (0 < self.ratio[0] <= self.ratio[1] < math.inf, "0 < smallest <= largest"),
            "flip": (0 <= self.flip <= 1, "a probability from 0 to 1"),
            "color_jitter": (0 <= self.color_jitter < math.inf, "0 or more"),
            "policy": (0 <= self.policy <= len(_policy()), f"from 0 to {len(_policy())}"),
            "erase": (0 <= self.erase <= 1, "a probability from 0 to 1"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise UsageError(f"data.augmentation.{name}: {getattr(self, name)}; it must be {rule}")
        return self


class TrainTransform:
    """Random crop to S x S, flip, colour jitter, policy.

    Args:
        size: S in pixels.
        augmentation: what is drawn.

    Attributes:
        at_least: pixels of a photograph's shorter side with which the smallest crop still has S a side, see `decode`.

    Raises:
        UsageError: a value outside its range.
    """

    def __init__(self, size: int, augmentation: Augmentation) -> None:
        check_side("data.image_size", size)
        steps = _steps(size, augmentation.check())
        narrowest, widest = augmentation.ratio
        self.at_least = math.ceil(size / math.sqrt(augmentation.scale[0] * min(narrowest, 1 / widest, 1)))
        self._compose = A.Compose(steps, save_applied_params=True, strict=True, is_check_shapes=False)

    def __call__(self, image: Pixels, seed: Sequence[int]) -> tuple[Pixels, npt.NDArray[np.float32]]:
        """Draw one version of a picture.

        Args:
            image: (H, W, 3) uint8.
            seed: numbers that decide every draw, e.g. (seed, epoch, index).

        Returns:
            (S, S, 3) uint8, and the view: (4,) float32 xyxy fractions of the picture, x1 > x2 where it is mirrored.
        """
        generator = np.random.default_rng(list(seed))
        self._compose.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        drawn = self._compose(image=image)
        return np.ascontiguousarray(drawn["image"]), _view(dict(drawn["applied_transforms"]), image.shape)


class EvalTransform:
    """The one evaluation resize, in the shape of a transform; nothing is drawn."""

    def __init__(self, how: Shown) -> None:
        self._how = how.check()
        self.at_least = how.at_least

    def __call__(self, image: Pixels, seed: Sequence[int]) -> tuple[Pixels, npt.NDArray[np.float32]]:
        """Image (H, W, 3) uint8 -> (S, S, 3) uint8, or a strip of squares, and the view (4,)."""
        return resize_for_eval(image, self._how)


class _Jitter(A.ColorJitter):  # type: ignore[misc]
    """The library's colour jitter in one pass over the pixels, not three: four times as fast, and rounded once."""

    def apply(self, img: Pixels, brightness: float, contrast: float, saturation: float, **params: Any) -> Pixels:
        """Image (S, S, 3) uint8 -> (S, S, 3) uint8; the hue stays."""
        matrix = color_matrix(cv2.mean(img)[:3], brightness, contrast, saturation)
        return np.asarray(cv2.transform(img, matrix), dtype=np.uint8)


def color_matrix(
    mean: Sequence[float], brightness: float, contrast: float, saturation: float
) -> npt.NDArray[np.float64]:
    """Return the (3, 4) matrix that turns (r, g, b, 1) into the changed colour.

    Brightness draws a colour towards black, contrast towards the mean grey of the picture, saturation towards its own
    grey. All three are linear and commute, so their order does not matter; colours are clipped once, at the end.

    Args:
        mean: (3,) of the picture.
        brightness, contrast, saturation: factors, 1 for no change.
    """
    linear, grey = brightness * contrast, float(GREY @ mean)
    matrix = np.empty((3, 4))
    matrix[:, :3] = linear * (1 - saturation) * GREY
    matrix[:, 3] = brightness * (1 - contrast) * grey
    matrix.flat[::5] += linear * saturation
    return matrix


def _steps(size: int, wanted: Augmentation) -> list[Any]:
    low, high = max(0.0, 1 - wanted.color_jitter), 1 + wanted.color_jitter
    steps: list[Any] = [
        A.RandomResizedCrop(
            (size, size),
            scale=wanted.scale,
            ratio=wanted.ratio,
            area_for_downscale="image",
            interpolation=cv2.INTER_CUBIC,
        )
    ]
    if wanted.flip:
        steps.append(A.HorizontalFlip(p=wanted.flip))
    if wanted.color_jitter:
        jitter = {"brightness": (low, high), "contrast": (low, high), "saturation": (low, high)}
        steps.append(_Jitter(**jitter, hue=(0, 0), p=1.0))
    if wanted.policy:
        steps.append(A.SomeOf(_policy(), n=wanted.policy, replace=False, p=1.0))
    if wanted.erase:
        steps.append(A.Erasing(scale=(0.02, 0.2), fill="random", p=wanted.erase))
    return steps


def _policy() -> list[Any]:
    reflect = {"border_mode": cv2.BORDER_REFLECT_101, "p": 1.0}
    return [
        A.Rotate(limit=(-15, 15), **reflect),
        A.Affine(shear=(-10, 10), **reflect),
        A.Sharpen(p=1.0),
        A.GaussianBlur(blur_limit=(3, 5), p=1.0),
        A.Equalize(p=1.0),
        A.AutoContrast(p=1.0),
        A.Posterize(num_bits=5, p=1.0),
        A.Solarize(threshold_range=(0.7, 0.95), p=1.0),
        A.ToGray(p=1.0),
    ]


def _view(applied: dict[str, Any], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    left, top, right, bottom = applied["RandomResizedCrop"]["crop_coords"]
    if "HorizontalFlip" in applied:
        left, right = right, left
    height, width = shape[:2]
    return np.array([left / width, top / height, right / width, bottom / height], dtype=np.float32)
