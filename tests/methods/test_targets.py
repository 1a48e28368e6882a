import pytest
import torch

from fgvc.methods.targets import mean_of_known, scores_of


def test_scores_are_those_of_the_targets():
    scores = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([3, 0, 2, 2, 1])
    assert scores_of(targets, scores).tolist() == [scores[i, target].item() for i, target in enumerate(targets)]
    assert scores_of(torch.tensor([-1, 1]), scores[:2])[1] == scores[1, 1]


@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 2, 2)])
def test_unknown_images_count_neither_in_the_sum_nor_in_the_number(shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    known = torch.tensor([True, False, True, True, False, True])
    torch.testing.assert_close(mean_of_known(values, known), values[[0, 2, 3, 5]].mean(dim=0))
    values[1] = torch.nan
    values.requires_grad_()
    mean_of_known(values, known).sum().backward()
    torch.testing.assert_close(values.grad.flatten(1)[:, 0] if len(shape) > 1 else values.grad, known / 4)
    assert torch.equal(mean_of_known(values, torch.zeros(6, dtype=torch.bool)), torch.zeros(shape[1:]))
