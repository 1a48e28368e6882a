import numpy as np
import pytest
import torch
from scipy.ndimage import label

from fgvc.methods.object_mask import largest_component, selected_boxes, selection_masks
from fgvc.methods.pooling.scda import SCDAPooling


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


def test_the_pooling_is_that_of_a_slow_loop():
    features = noise(4, 3, 6, 5)
    rows = []
    for image, mask in zip(features.numpy(), selection_masks(features).numpy(), strict=True):
        chosen = [image[:, y, x] for y in range(6) for x in range(5) if mask[y, x]]
        mean, highest = sum(chosen) / len(chosen), np.max(chosen, axis=0)
        rows.append(np.concatenate([mean / np.linalg.norm(mean), highest / np.linalg.norm(highest)]))
    pooling = SCDAPooling(3)
    torch.testing.assert_close(pooling(features), torch.from_numpy(np.stack(rows)))
    assert pooling(features).shape == (4, pooling.out_features)


def test_the_gradient_reaches_the_selected_places_and_no_other():
    features = noise(4, 3, 6, 5).requires_grad_()
    (SCDAPooling(3)(features) * noise(4, 6, seed=1)).sum().backward()
    reached = (features.grad != 0).any(dim=1)
    assert torch.equal(reached, selection_masks(features.detach()))


def test_gradients_are_those_of_finite_differences():
    assert torch.autograd.gradcheck(SCDAPooling(2), (noise(2, 2, 3, 4).double().requires_grad_(),))


@pytest.mark.parametrize("value", [0.0, 1.0, -2.0])
def test_a_map_of_one_value_selects_everything(value):
    features = torch.full((2, 3, 4, 4), value, requires_grad=True)
    assert torch.equal(selected_boxes(features), torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(2, 4))
    pooled = SCDAPooling(3)(features)
    torch.testing.assert_close(pooled, torch.full((2, 6), np.sign(value) * 3**-0.5, dtype=torch.float32))
    pooled.sum().backward()
    assert features.grad.isfinite().all()
