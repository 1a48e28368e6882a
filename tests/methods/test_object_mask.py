import numpy as np
import pytest
import torch
from scipy.ndimage import label

from fgvc.methods.object_mask import largest_component, selected_boxes, selection_masks


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def largest_by_scipy(mask: np.ndarray) -> np.ndarray:
    """Of equally large components, take the one whose last cell comes last in reading order."""
    parts, number = label(mask, structure=np.ones((3, 3)))
    rank = [(np.count_nonzero(parts == i), np.flatnonzero(parts == i)[-1], i) for i in range(1, number + 1)]
    return parts == max(rank)[2] if rank else np.zeros_like(mask)


@pytest.mark.parametrize("density", [0.0, 0.1, 0.3, 0.45, 0.6, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 7), (14, 11), (28, 28)])
def test_the_largest_component_is_that_of_scipy(density, shape):
    masks = np.random.default_rng(0).random((20, *shape)) < density
    expected = np.stack([largest_by_scipy(mask) for mask in masks])
    assert np.array_equal(largest_component(torch.from_numpy(masks)).numpy(), expected)


def test_a_winding_component_is_followed_to_its_end():
    snake = np.zeros((15, 15), dtype=bool)
    snake[::2] = True
    snake[1::4, -1] = snake[3::4, 0] = True
    assert label(snake, structure=np.ones((3, 3)))[1] == 1
    assert np.array_equal(largest_component(torch.from_numpy(snake)[None])[0].numpy(), snake)


def test_masks_and_boxes_are_those_of_numpy():
    features = noise(8, 5, 9, 12)
    totals = features.double().numpy().sum(axis=1)
    for total, mask, box in zip(totals, selection_masks(features), selected_boxes(features), strict=True):
        expected = largest_by_scipy(total > total.mean())
        assert np.array_equal(mask.numpy(), expected)
        rows, columns = np.nonzero(expected)
        edges = [columns.min() / 12, rows.min() / 9, (columns.max() + 1) / 12, (rows.max() + 1) / 9]
        np.testing.assert_allclose(box.numpy(), edges, atol=1e-6)


def test_the_mean_is_taken_in_float32():
    features = 100 + torch.arange(64).view(1, 1, 8, 8) / 64  # bfloat16 has one value in two there
    assert torch.equal(selection_masks(features.bfloat16()), selection_masks(features.bfloat16().double()))


@pytest.mark.parametrize("value", [0.0, 1.0, -2.0])
def test_the_box_of_a_map_of_one_value_is_the_whole_image(value):
    features = torch.full((2, 3, 4, 4), value)
    assert torch.equal(selected_boxes(features), torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(2, 4))
