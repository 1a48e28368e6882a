import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit
from torchvision.ops import box_iou as their_iou
from torchvision.ops import masks_to_boxes, roi_align

from fgvc.images.regions import (
    bounded_boxes,
    box_area,
    box_iou,
    boxcar,
    boxes_of_masks,
    centred_boxes,
    crop_and_resize,
    downscale,
    erase,
    fitted,
    inside,
    overlap,
    whole,
    within,
)


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
    torch.testing.assert_close(within(boxes, views), torch.tensor(expected))


def tensor_of(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None]


def random_boxes(*shape: int, seed: int = 0) -> torch.Tensor:
    corners = torch.rand(*shape, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat((corners.amin(dim=-2), corners.amax(dim=-2)), dim=-1)


@pytest.mark.parametrize(
    "box", [(0.1, 0.2, 0.77, 0.9), (0.3, 0.3, 0.5, 0.6), (0.0, 0.0, 1.0, 1.0), (0.61, 0.0, 1.0, 0.4)]
)
@pytest.mark.parametrize("size", [24, 48])
def test_a_crop_is_the_one_that_pillow_cuts_from_noise(box, size):
    noise = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    pixels = (box[0] * 120, box[1] * 100, box[2] * 120, box[3] * 100)
    expected = np.asarray(Image.fromarray(noise).resize((size, size), Image.Resampling.BILINEAR, box=pixels))
    found = crop_and_resize(tensor_of(noise), torch.tensor([[box]]), size)
    assert found.shape == (1, 1, 3, size, size)
    assert np.abs(found[0, 0].permute(1, 2, 0).numpy() - expected.astype(float)).max() <= 1.01  # it rounds twice


def test_an_enlarged_crop_is_torchvisions_roi_align():
    image = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 255
    boxes = torch.tensor([[[0.25, 0.3, 0.5, 0.55], [0.1, 0.1, 0.3, 0.3]]])
    theirs = roi_align(image, [boxes[0] * 40], output_size=20, sampling_ratio=1, aligned=True)
    torch.testing.assert_close(crop_and_resize(image, boxes, 20)[0], theirs, atol=1e-3, rtol=1e-5)


def test_each_image_gets_its_own_boxes():
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.2, 0.1, 0.9, 0.6]], [[0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]])
    together = crop_and_resize(images, boxes, 12)
    for n in range(2):
        for k in range(2):
            alone = crop_and_resize(images[n : n + 1], boxes[n : n + 1, k : k + 1], 12)
            torch.testing.assert_close(together[n, k], alone[0, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sharpness", [None, 40.0])
def test_the_gradient_of_the_box_is_that_of_finite_differences(sharpness):
    y, x = torch.meshgrid(*[torch.linspace(0, 3, 64)] * 2, indexing="ij")
    image = torch.stack((torch.sin(x) * torch.cos(2 * y), torch.sin(y + x), x * y / 9))[None]
    weight = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))

    def value(box: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if sharpness is None:
            return (crop_and_resize(image, box[None, None], 16)[0, 0] * weight).sum()
        # The published gradient: the mask moves, the sampling stands still.
        axis = (torch.arange(64) + 0.5) / 64
        moved = [boxcar(mask[i], mask[i + 2], axis, sharpness) for i in (1, 0)]
        masked = image * (moved[0][:, None] * moved[1])
        return (crop_and_resize(masked, box[None, None], 16)[0, 0] * weight).sum()

    start = torch.tensor([0.22, 0.31, 0.74, 0.83])
    box = start.clone().requires_grad_()
    (crop_and_resize(image, box[None, None], 16, sharpness)[0, 0] * weight).sum().backward()
    for i in range(4):
        step = torch.zeros(4)
        step[i] = 2e-3
        ends = [value(start if sharpness else start + d, start + d) for d in (step, -step)]
        assert box.grad[i].item() == pytest.approx((ends[0] - ends[1]).item() / 4e-3, rel=0.02, abs=0.05)


def test_the_mask_pulls_each_edge_in_the_right_direction():
    """Where more of a bright surrounding helps, the box grows on that side; the far side feels nothing."""
    image = torch.zeros(1, 1, 60, 60)
    image[..., :24] = 255  # light on the left
    box = torch.tensor([[[0.4, 0.2, 0.8, 0.8]]], requires_grad=True)
    crop_and_resize(image, box, 20, sharpness=90.0).mean().backward()
    left, top, right, bottom = box.grad[0, 0].tolist()
    assert left < 0  # moving the left edge to the left lets light in
    assert abs(right) < 1e-3 * abs(left) and abs(top) < abs(left) and abs(bottom) < abs(left)


def test_the_boxcar_rises_as_sharply_as_is_said():
    places = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    mask = boxcar(torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.9, dtype=torch.float64), places, 90.0)
    rise = places[(mask > 0.1) & (mask < 0.9) & (places < 0.6)]
    assert (rise[-1] - rise[0]).item() == pytest.approx(4.394 / 90, rel=1e-3)
    assert mask[60_000].item() == pytest.approx(1, abs=1e-6) and mask[0].item() < 1e-6


def test_an_erased_box_is_filled_with_soft_edges():
    image = torch.rand(2, 3, 50, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 255
    boxes = torch.tensor([[0.25, 0.2, 0.75, 0.6], [0.0, 0.0, 1.0, 1.0]], requires_grad=True)
    fill = torch.tensor([10.0, 20.0, 30.0]).view(1, 3, 1, 1)
    painted = erase(image, boxes, fill, sharpness=200.0)
    for n, c, y, x in ((0, 0, 20, 20), (0, 2, 2, 2), (1, 1, 25, 20), (0, 1, 25, 10)):
        left, top, right, bottom = boxes[n].tolist()
        u, v = (x + 0.5) / 40, (y + 0.5) / 50
        share = (expit(200 * (u - left)) - expit(200 * (u - right))) * (
            expit(200 * (v - top)) - expit(200 * (v - bottom))
        )
        expected = image[n, c, y, x].item() * (1 - share) + fill[0, c, 0, 0].item() * share
        assert painted[n, c, y, x].item() == pytest.approx(expected, abs=1e-2)
    (painted[0] - fill[0]).abs().mean().backward()
    assert boxes.grad[0, 0] > 0 and boxes.grad[0, 2] < 0  # a smaller box leaves more of the image


@pytest.mark.parametrize("numbers", [3, 4])
def test_bounded_boxes_stay_inside_whatever_is_asked(numbers):
    raw = torch.randn(1000, numbers, generator=torch.Generator().manual_seed(0)) * 20
    boxes = bounded_boxes(raw, 0.3, 0.9)
    assert (boxes >= -1e-6).all() and (boxes <= 1 + 1e-6).all()
    sides = boxes[:, 2:] - boxes[:, :2]
    assert (sides >= 0.3 - 1e-5).all() and (sides <= 0.9 + 1e-5).all()
    assert ((sides[:, 0] - sides[:, 1]).abs() < 1e-5).all() == (numbers == 3)
    middle = bounded_boxes(torch.zeros(numbers), 1 / 3, 1.0)
    torch.testing.assert_close(middle, torch.tensor([1 / 6, 1 / 6, 5 / 6, 5 / 6]))


def test_bounded_boxes_keep_a_gradient_for_every_number():
    raw = torch.randn(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    jacobian = torch.autograd.functional.jacobian(lambda r: bounded_boxes(r, 0.2, 1.0), raw)
    assert torch.linalg.matrix_rank(jacobian) == 4


def test_fitted_boxes_grow_about_their_centre_and_move_inside():
    boxes = torch.tensor([[0.4, 0.4, 0.5, 0.6], [0.0, 0.8, 0.1, 1.0], [0.2, 0.2, 0.8, 0.6]])
    expected = torch.tensor([[0.3, 0.35, 0.6, 0.65], [0.0, 0.7, 0.3, 1.0], [0.2, 0.2, 0.8, 0.6]])
    torch.testing.assert_close(fitted(boxes, side_min=0.3), expected)
    torch.testing.assert_close(fitted(boxes[2], square=True), torch.tensor([0.2, 0.1, 0.8, 0.7]))
    torch.testing.assert_close(fitted(boxes[0], margin=0.5), torch.tensor([0.35, 0.3, 0.55, 0.7]))
    torch.testing.assert_close(centred_boxes(torch.tensor([[0.5, 0.9]]), 0.5), torch.tensor([[0.25, 0.5, 0.75, 1.0]]))


def test_boxes_of_masks_agree_with_torchvision():
    masks = torch.rand(20, 9, 13, generator=torch.Generator().manual_seed(0)) > 0.9
    masks = masks[masks.flatten(1).any(dim=1)]
    theirs = masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])  # they name the last cell, we its far edge
    torch.testing.assert_close(boxes_of_masks(masks), theirs / torch.tensor([13, 9, 13, 9]))
    assert boxes_of_masks(torch.zeros(4, 5, dtype=torch.bool)).tolist() == [0, 0, 1, 1]


def test_box_arithmetic_agrees_with_torchvision():
    first, second = random_boxes(50), random_boxes(50, seed=1)
    torch.testing.assert_close(box_iou(first, second), their_iou(first, second).diagonal())
    shared = overlap(first, second)
    union = box_area(first) + box_area(second) - shared
    torch.testing.assert_close(shared / union, their_iou(first, second).diagonal())
    assert box_iou(torch.zeros(4), torch.zeros(4)) == 0


def test_inside_counts_the_edge():
    points = torch.tensor([[0.2, 0.2], [0.5, 0.5], [0.81, 0.5], [0.5, 0.19]])
    assert inside(points, torch.tensor([0.2, 0.2, 0.8, 0.8])).tolist() == [True, True, False, False]


def test_a_box_within_a_box_is_where_two_crops_in_turn_end():
    picture = tensor_of(smooth(200)).float()
    outer, inner = torch.tensor([[0.2, 0.1, 0.8, 0.7]]), torch.tensor([[[0.25, 0.5, 0.75, 0.9]]])
    twice = crop_and_resize(crop_and_resize(picture, outer[:, None], 120)[:, 0], inner, 40)
    once = crop_and_resize(picture, within(inner, outer), 40)
    assert (twice - once).abs().mean() < 1.5
    torch.testing.assert_close(within(inner, whole(picture)[:, 0]), inner)


def test_crops_are_cut_in_float32_under_autocast():
    image, box = torch.rand(1, 3, 40, 40) * 255, torch.tensor([[[0.1, 0.1, 0.7, 0.7]]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside_it = crop_and_resize(image, box.bfloat16().float(), 20)
    assert inside_it.dtype == torch.float32
    assert torch.equal(inside_it, crop_and_resize(image, box.bfloat16().float(), 20))
