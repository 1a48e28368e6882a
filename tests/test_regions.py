import numpy as np
import pytest
import torch
from PIL import Image

from fgvc.regions import downscale, to_photograph


def smooth(size: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return np.array(Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("source", "size"), [(96, 32), (96, 41), (64, 63)])
def test_downscale_agrees_with_pillows_antialiased_bilinear(source, size):
    picture = smooth(source)
    expected = np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR), dtype=float)
    images = torch.from_numpy(picture).permute(2, 0, 1)[None]
    for given in (images, images.double()):
        found = downscale(given, size)
        assert found.dtype == torch.float32
        assert np.abs(found[0].permute(1, 2, 0).numpy() - expected).max() <= 1.5


def test_a_fine_checkerboard_turns_grey():
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255
    found = downscale(board.to(torch.uint8).expand(1, 3, 64, 64), 20)
    assert (found - 127.5).abs().max() < 15


def test_images_of_the_wanted_side_are_left_alone():
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    assert downscale(images, 8) is images


def test_autocast_does_not_reach_the_resampling():
    images = torch.rand(1, 3, 32, 32) * 255
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(downscale(images, 10), downscale(images, 10).float())
        inside = downscale(images, 10)
    assert torch.equal(inside, downscale(images, 10))
    assert inside.dtype == torch.float32


def test_boxes_return_to_the_photograph_from_plain_and_mirrored_views():
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.25, 0.5, 0.5, 1.0]]]).repeat(3, 1, 1)
    views = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.2, 0.4, 0.6, 0.8], [0.6, 0.4, 0.2, 0.8]])
    expected = [
        [[0, 0, 1, 1], [0.25, 0.5, 0.5, 1]],
        [[0.2, 0.4, 0.6, 0.8], [0.3, 0.6, 0.4, 0.8]],
        [[0.2, 0.4, 0.6, 0.8], [0.4, 0.6, 0.5, 0.8]],  # mirrored: a quarter from the right is 0.6 - 0.25 * 0.4
    ]
    torch.testing.assert_close(to_photograph(boxes, views), torch.tensor(expected))
