import base64
import io

import numpy as np
from PIL import Image

from fgvc.images.thumbnails import address


def picture_of(text):
    head, _, body = text.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body, validate=True)))


def test_the_longer_side_is_cut_down_and_nothing_is_enlarged():
    ramp = np.tile(np.linspace(0, 255, 640).astype(np.uint8)[None, :, None], (320, 1, 3))
    assert picture_of(address(ramp, side=64)).size == (64, 32)
    assert picture_of(address(ramp[:20, :10], side=64)).size == (10, 20)
    small = np.asarray(picture_of(address(ramp, side=64)), dtype=int)[16, :, 0]
    assert abs(small - ramp[0, :, 0].reshape(64, 10).mean(axis=1)).max() < 6


def test_a_box_has_a_frame_and_the_rest_stays():
    grey = np.full((80, 80, 3), 128, dtype=np.uint8)
    far = abs(np.asarray(picture_of(address(grey, [(0.25, 0.25, 0.75, 0.75)])), dtype=int) - 128).max(axis=2)
    assert far[20, 40] > 60 and far[40, 40] < 16 and far[4, 4] < 16
