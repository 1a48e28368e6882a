import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from fgvc.errors import UsageError
from fgvc.images.resizing import EvalResize, resize_for_eval

NOISE = np.random.default_rng(0).integers(0, 256, (150, 201, 3), dtype=np.uint8)
SMOOTH = cv2.normalize(cv2.GaussianBlur(cv2.resize(NOISE, (402, 300)), (0, 0), 12), None, 0, 255, cv2.NORM_MINMAX)


@pytest.mark.parametrize("image", [NOISE, SMOOTH, NOISE[:40, :50]], ids=["noise", "smooth", "enlarged"])
@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_its_filters_are_pillows_to_one_grey_level(image, name, fit):
    pixels, view = resize_for_eval(image, EvalResize(64, fit, 0.9, name))
    height, width = image.shape[:2]
    left, top, right, bottom = (round(side) for side in view * [width, height, width, height])
    cut = Image.fromarray(np.ascontiguousarray(image[top:bottom, left:right]))
    wanted = np.asarray(cut.resize((64, 64), getattr(Image.Resampling, name.upper())))
    assert np.abs(pixels.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_a_smooth_picture_is_what_timms_own_evaluation_shows(name):
    """Timm resizes, then cuts; the cut here comes first, so that both differ by less than a pixel of the result."""
    timms = create_transform((3, 64, 64), interpolation=name, crop_pct=0.875, mean=(0,) * 3, std=(1,) * 3)
    wanted = 255 * timms(Image.fromarray(SMOOTH)).permute(1, 2, 0).numpy()
    pixels, _ = resize_for_eval(SMOOTH, EvalResize(64, "crop", 0.875, name))
    other, _ = resize_for_eval(SMOOTH, EvalResize(64, "crop", 1.0, name))
    assert np.abs(pixels - wanted).mean() < np.abs(other - wanted).mean() / 4


def test_the_filter_is_one_of_three_and_the_result_is_its_own():
    with pytest.raises(UsageError, match="interpolation: 'lanczos'; it is 'area', 'bilinear', 'bicubic'"):
        EvalResize(8, interpolation="lanczos").check()
    before = torch.get_num_threads()
    pixels, _ = resize_for_eval(SMOOTH, EvalResize(8, interpolation="bicubic"))
    assert pixels.flags["C_CONTIGUOUS"] and pixels.flags["OWNDATA"] and torch.get_num_threads() == before
