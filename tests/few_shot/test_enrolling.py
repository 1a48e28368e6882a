import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from fgvc.few_shot.enrolling import FALSE_NEW, leave_one_out, weigh
from fgvc.methods.few_shot.prototypes import PrototypeClassifier


class Bare(torch.nn.Module):
    """As much of an enrolled model as leaving one out needs."""

    def __init__(self, support, labels):
        super().__init__()
        self.support, self.support_labels = support, labels
        self.classifier = PrototypeClassifier(support.shape[1])

    def prepared(self, embedding):
        return embedding

    def ways(self):
        return torch.unique(self.support_labels, return_inverse=True)


def test_each_photograph_is_scored_by_the_others():
    support = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([4, 4, 4, 7, 7, 9, 7])
    rows, scores = leave_one_out(Bare(support, labels))
    assert rows.tolist() == [0, 1, 2, 3, 4, 6]  # 5 is alone of its class
    for row, found in zip(rows.tolist(), scores, strict=True):
        for way, label in enumerate((4, 7, 9)):
            others = [i for i in range(7) if i != row and labels[i] == label]
            wanted = -((support[row] - support[others].mean(dim=0)) ** 2).sum()
            torch.testing.assert_close(found[way], wanted, rtol=1e-4, atol=1e-4)


def test_single_photographs_have_nothing_to_be_left_out():
    rows, scores = leave_one_out(Bare(torch.randn(3, 4), torch.arange(3)))
    assert rows.tolist() == [] and scores.shape == (0, 3)


def drawn(seed=0):
    numbers = np.random.default_rng(seed)
    old_labels, new_labels = numbers.integers(0, 6, 200), numbers.integers(0, 2, 12)
    old = 4 * np.eye(6)[old_labels] + numbers.normal(size=(200, 6))
    new = 1.5 * numbers.normal(size=(12, 6)) + 1
    of_old = 0.1 * numbers.normal(size=(200, 2))
    of_new = 0.3 * np.eye(2)[new_labels] + 0.2 + 0.1 * numbers.normal(size=(12, 2))
    return [torch.from_numpy(x) for x in (old, old_labels, of_old, new, new_labels, of_new)]


def test_scale_and_shift_are_the_most_probable_ones_with_each_class_counting_alike():
    old, old_labels, of_old, new, new_labels, of_new = drawn()
    with torch.no_grad():
        found = weigh(*drawn())
    labels = np.concatenate([old_labels.numpy(), new_labels.numpy() + 6])
    weights = 1 / np.bincount(labels)[labels]

    def loss(free):
        logits = np.concatenate(
            [torch.cat([old, new]).numpy(), free[0] * torch.cat([of_old, of_new]).numpy() + free[1]], axis=1
        )
        return -(weights * log_softmax(logits, axis=1)[np.arange(len(labels)), labels]).sum()

    best = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-8, "fatol": 1e-10})
    assert found.from_photographs
    assert loss([found.scale, found.shift]) <= best.fun + 1e-3


def test_one_photograph_per_class_takes_no_more_than_the_stated_share_of_old_ones():
    old, old_labels, of_old, new, new_labels, of_new = drawn()
    found = weigh(old, old_labels, of_old, new[:0], new_labels[:0], of_new[:0])
    taken = (found.scale * of_old + found.shift).amax(dim=1) > old.amax(dim=1)
    assert not found.from_photographs
    assert 0 < taken.double().mean() <= FALSE_NEW + 1 / 200
