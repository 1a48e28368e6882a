import pytest
import torch

from fgvc.errors import UsageError
from fgvc.methods.pooling.gem import GeMPooling, generalised_mean


def positive(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype) * 3 + 0.01


@pytest.mark.parametrize("power", [1.0, 2.5, 3.0, 10.0])
def test_it_agrees_with_the_formula_in_float64(power):
    features = positive(2, 3, 4, 5)
    expected = [
        [(sum(x**power for x in map(float, c.flatten())) / 20) ** (1 / power) for c in image] for image in features
    ]
    torch.testing.assert_close(GeMPooling(3, power)(features), torch.tensor(expected))


def test_power_one_is_the_mean_and_a_large_power_tends_to_the_maximum():
    features = positive(2, 3, 4, 5)
    torch.testing.assert_close(GeMPooling(3, 1)(features), features.mean(dim=(2, 3)))
    torch.testing.assert_close(
        generalised_mean(features, torch.tensor(2000.0)), features.amax(dim=(2, 3)), rtol=2e-3, atol=0
    )


def test_gradients_of_features_and_power_are_those_of_finite_differences():
    features = positive(2, 3, 2, 3, dtype=torch.float64).requires_grad_()
    power = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(generalised_mean, (features, power))


def test_negative_zero_and_huge_features_stay_finite_with_their_gradients():
    features = torch.stack([torch.full((3, 4, 4), value) for value in (-5.0, 0.0, 1e30)]).requires_grad_()
    pooling = GeMPooling(3, power=8)
    pooled = pooling(features)
    pooled.sum().backward()
    torch.testing.assert_close(pooled[2], torch.full((3,), 1e30))
    assert (pooled[:2] <= 2e-6).all()
    assert features.grad.isfinite().all()
    assert pooling.power.grad.isfinite()


def test_half_precision_keeps_its_type_and_is_computed_in_float32_under_autocast():
    features = positive(2, 3, 4, 5).bfloat16() * 1000
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = GeMPooling(3)(features)
    assert pooled.dtype == torch.bfloat16
    expected = features.double().pow(3).mean(dim=(2, 3)).pow(1 / 3)
    torch.testing.assert_close(pooled.double(), expected, rtol=1 / 256, atol=0)


def test_the_power_is_learnt_or_fixed_and_never_falls_below_one():
    assert GeMPooling(3).power.requires_grad
    pooling = GeMPooling(3, learn_power=False)
    assert not pooling.power.requires_grad
    pooling.power.data.fill_(0.2)
    features = positive(1, 3, 2, 2)
    torch.testing.assert_close(pooling(features), features.mean(dim=(2, 3)))
    with pytest.raises(UsageError, match=r"power 0\.5; it must be at least 1"):
        GeMPooling(3, 0.5)
