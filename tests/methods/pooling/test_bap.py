import math

import pytest
import torch

from fgvc.errors import UsageError
from fgvc.methods.pooling.bap import BAPPooling, bilinear_attention


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(features: torch.Tensor, maps: torch.Tensor) -> list[list[float]]:
    answer = []
    for f, a in zip(features.tolist(), maps.tolist(), strict=True):
        row = []
        for attention in a:
            for channel in f:
                pairs = [(x, y) for r, q in zip(attention, channel, strict=True) for x, y in zip(r, q, strict=True)]
                mean = sum(x * y for x, y in pairs) / len(pairs)
                row.append(math.copysign(math.sqrt(abs(mean)), mean))
        length = math.hypot(*row)
        answer.append([x / length for x in row])
    return answer


def test_it_agrees_with_a_slow_loop():
    features, maps = noise(2, 3, 4, 5), noise(2, 6, 4, 5, seed=1).relu()
    expected = torch.tensor(by_hand(features, maps), dtype=torch.float64)
    torch.testing.assert_close(bilinear_attention(features, maps), expected, atol=1e-5, rtol=1e-5)


def test_channels_last_makes_no_difference():
    features, maps = noise(2, 3, 4, 5), noise(2, 6, 4, 5, seed=1).relu()
    other = [x.to(memory_format=torch.channels_last) for x in (features, maps)]
    torch.testing.assert_close(bilinear_attention(*other), bilinear_attention(features, maps))


def test_gradients_are_those_of_finite_differences():
    features = noise(2, 3, 2, 3).requires_grad_()
    maps = (noise(2, 2, 2, 3, seed=1).abs() + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(bilinear_attention, (features, maps))


def test_maps_of_zeros_and_huge_features_stay_finite_with_their_gradients():
    features = torch.stack([torch.full((3, 2, 2), value) for value in (0.0, 1.0, 1e30)]).requires_grad_()
    maps = torch.ones(3, 2, 2, 2)
    maps[1] = 0
    pooled = bilinear_attention(features, maps)
    assert torch.equal(pooled[:2], torch.zeros(2, 6))
    torch.testing.assert_close(pooled[2], torch.full((6,), 6**-0.5))
    pooled.sum().backward()
    assert features.grad.isfinite().all()


def test_autocast_does_not_reach_it():
    features, maps = noise(2, 3, 4, 5).bfloat16(), noise(2, 6, 4, 5, seed=1).relu().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = bilinear_attention(features, maps)
    assert found.dtype == torch.float32
    expected = bilinear_attention(features.double(), maps.double())
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


def test_the_pooling_learns_maps_that_are_not_negative():
    pooling = BAPPooling(3, num_attentions=5)
    features = noise(4, 3, 6, 7).float()
    maps = pooling.maps(features)
    assert maps.shape == (4, 5, 6, 7) and maps.min() == 0 and maps.max() > 0
    torch.testing.assert_close(pooling(features), bilinear_attention(features, maps))
    assert pooling(features).shape == (4, pooling.out_features) == (4, 15)
    pooling(features)[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in pooling.parameters())


def test_no_map_is_refused():
    with pytest.raises(UsageError, match="num_attentions 0; give 1 or more"):
        BAPPooling(3, num_attentions=0)
