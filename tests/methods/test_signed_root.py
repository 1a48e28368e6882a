import pytest
import torch
from torch.nn.functional import normalize

from fgvc.methods.signed_root import self_product, signed_root


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_root_and_gradient_are_those_of_autograd(eps):
    ours, theirs = (noise(4, 9).requires_grad_() for _ in range(2))
    found = signed_root(ours, eps)
    expected = normalize(theirs.sign() * (theirs.abs() + eps).sqrt(), dim=1)
    torch.testing.assert_close(found, expected)
    for answer in (found, expected):
        (answer * noise(4, 9, seed=1)).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_gradients_are_those_of_finite_differences():
    numbers = noise(3, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: signed_root(x, 0.01), (numbers,))
    assert torch.autograd.gradcheck(self_product, (noise(2, 3, 4).requires_grad_(),))


def test_zeros_stay_zeros_and_their_gradient_is_finite():
    numbers = torch.tensor([[0.0, 0.0, 0.0], [0.0, 4.0, -9.0], [1e30, 0.0, 0.0]]).requires_grad_()
    answer = signed_root(numbers, 1e-10)
    expected = torch.tensor([[0.0, 0.0, 0.0], [0.0, 2 / 13**0.5, -3 / 13**0.5], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(answer, expected)
    (answer * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert numbers.grad.isfinite().all() and torch.equal(numbers.grad[0], torch.zeros(3))


def test_a_map_times_itself_is_the_sum_of_outer_products():
    positions = noise(2, 3, 4)
    expected = sum(positions[:, :, i, None] * positions[:, None, :, i] for i in range(4))
    torch.testing.assert_close(self_product(positions), expected)


def test_the_answer_is_kept_once():
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        signed_root(noise(4, 1000).float().requires_grad_(), 1e-5)
    assert sum(kept.values()) == 4 * 4 * (1000 + 1)
