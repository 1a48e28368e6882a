import torch
from torch.nn.functional import one_hot

from fgvc.methods.by_class import stacked_by_class


def test_each_way_has_its_images_in_order_and_zeros_behind():
    labels = torch.tensor([[1, 0, 1, 1, 2], [2, 2, 0, 1, 2]])
    values = torch.arange(1.0, 11).view(2, 5, 1)
    stacked, there = stacked_by_class(values, one_hot(labels).float())
    assert stacked.squeeze(3).tolist() == [[[2, 0, 0], [1, 3, 4], [5, 0, 0]], [[8, 0, 0], [9, 0, 0], [6, 7, 10]]]
    assert there.tolist() == [[[x > 0 for x in way] for way in episode] for episode in stacked.squeeze(3).tolist()]


def test_the_gradient_of_each_image_is_its_own():
    values = torch.zeros(1, 3, 1, requires_grad=True)
    stacked, _ = stacked_by_class(values, one_hot(torch.tensor([[1, 0, 1]])).float())
    (stacked * torch.tensor([[[[2.0], [3]], [[4], [5]]]])).sum().backward()
    assert values.grad.flatten().tolist() == [4, 2, 5]
