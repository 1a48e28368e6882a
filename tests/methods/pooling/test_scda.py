import numpy as np
import pytest
import torch

from fgvc.methods.pooling.scda import SCDAPooling
from fgvc.methods.scda import object_masks


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_pooling_is_that_of_a_slow_loop():
    features = noise(4, 3, 6, 5)
    rows = []
    for image, mask in zip(features.numpy(), object_masks(features).numpy(), strict=True):
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
    assert torch.equal(reached, object_masks(features.detach()))


def test_gradients_are_those_of_finite_differences():
    assert torch.autograd.gradcheck(SCDAPooling(2), (noise(2, 2, 3, 4).double().requires_grad_(),))


@pytest.mark.parametrize("value", [0.0, 1.0, -2.0])
def test_a_map_of_one_value_selects_everything(value):
    features = torch.full((2, 3, 4, 4), value, requires_grad=True)
    pooled = SCDAPooling(3)(features)
    torch.testing.assert_close(pooled, torch.full((2, 6), np.sign(value) * 3**-0.5, dtype=torch.float32))
    pooled.sum().backward()
    assert features.grad.isfinite().all()
