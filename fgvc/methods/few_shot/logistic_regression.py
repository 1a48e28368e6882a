"""Multinomial logistic regression, solved to its minimum for all episodes at once.

Shape letters: E episodes, W ways, S support images, Q query images, D numbers of a vector.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from fgvc.methods.few_shot.base import Episode, FewShotClassifier, assignments, check_above_zero, widened

NEWTON_STEPS, INNER_STEPS, HALVINGS = 100, 200, 30


class _Problem(NamedTuple):
    """Minimise c * cross-entropy + |B|^2 / 2, where B = X^T A: A (E, S, W) and the intercepts (E, 1, W) are one tensor.

    kernel: (E, S, S) products of centred support images.
    targets: (E, S, W) one-hot.
    c: weight of the cross-entropy.
    """

    kernel: Tensor
    targets: Tensor
    c: float

    def scores(self, theta: Tensor) -> Tensor:
        """(E, S + 1, W) -> (E, S, W)."""
        return torch.bmm(self.kernel, theta[:, :-1]) + theta[:, -1:]

    def inner(self, left: Tensor, right: Tensor) -> Tensor:
        """Return (E, 1, 1): the products of the weights that A stands for, and of the intercepts."""
        products = (left[:, :-1] * torch.bmm(self.kernel, right[:, :-1])).sum(dim=(1, 2))
        return (products + (left[:, -1] * right[:, -1]).sum(dim=1))[:, None, None]

    def value(self, theta: Tensor) -> Tensor:
        """Return (E, 1, 1): what is minimised."""
        losses = cross_entropy(self.scores(theta).transpose(1, 2), self.targets.transpose(1, 2), reduction="none")
        weights = theta.clone()
        weights[:, -1] = 0
        return self.c * losses.sum(dim=1)[:, None, None] + self.inner(weights, weights) / 2

    def gradient(self, theta: Tensor, pull: Tensor) -> Tensor:
        """Return penalty and pull (E, S, W) on the scores as a gradient by `inner`, in the coefficients of theta."""
        return torch.cat([theta[:, :-1] + pull, pull.sum(dim=1, keepdim=True)], dim=1)


def logistic(support: Tensor, targets: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """Return the weights (E, D, W) and intercepts (E, 1, W) with the least c * cross-entropy + |weights|^2 / 2.

    Newton's method with conjugate gradients and a line search, each episode with its own step. The least weights are
    sums of support images, so it works on S numbers a way, not on D. In float64 where the device has it.

    Args:
        support: (E, S, D).
        targets: (E, S, W) one-hot.
        c: weight of the summed cross-entropy; intercepts are free of the penalty.
    """
    middle = support.mean(dim=1, keepdim=True)
    centred = support - middle  # the intercept takes up the shift; the system is better conditioned
    wide = centred if centred.device.type == "mps" else centred.double()
    problem = _Problem(torch.bmm(wide, wide.transpose(1, 2)), targets.to(wide.dtype), c)
    theta = _newton(problem)
    weights = torch.bmm(wide.transpose(1, 2), theta[:, :-1])
    intercepts = theta[:, -1:] - torch.bmm(middle.to(wide.dtype), weights)
    return weights.to(support.dtype), intercepts.to(support.dtype)


def _newton(problem: _Problem) -> Tensor:
    kernel, targets, c = problem
    theta = kernel.new_zeros(len(kernel), kernel.shape[1] + 1, targets.shape[2])
    precision = torch.finfo(kernel.dtype).eps
    first = None
    for _ in range(NEWTON_STEPS):
        chances = problem.scores(theta).softmax(dim=2)
        gradient = problem.gradient(theta, c * (chances - targets))
        size = problem.inner(gradient, gradient).clamp_min(0).sqrt()
        first = size if first is None else first
        if bool((size <= 100 * precision * (1 + first)).all()):
            break
        step = _conjugate_gradients(problem, chances, gradient, size)
        theta = _line_search(problem, theta, step, problem.inner(gradient, step))
    return theta


def _conjugate_gradients(problem: _Problem, chances: Tensor, gradient: Tensor, size: Tensor) -> Tensor:
    """Solve Hessian * step = gradient, the more exactly the smaller the gradient: Newton's pace near the minimum."""
    goal = size * size.sqrt().clamp_max(0.1)
    step = torch.zeros_like(gradient)
    residual = direction = gradient
    squared = problem.inner(residual, residual)
    for _ in range(INNER_STEPS):
        running = squared > goal.square()
        if not bool(running.any()):
            break
        moved = problem.scores(direction)
        weighed = chances * moved
        pull = problem.c * (weighed - chances * weighed.sum(dim=2, keepdim=True))
        image = problem.gradient(direction, pull)
        rate = torch.where(running, squared / problem.inner(direction, image), 0.0)
        step = step + rate * direction
        residual = residual - rate * image
        new = problem.inner(residual, residual)
        direction = residual + torch.where(running, new / squared, 0.0) * direction
        squared = new
    return step


def _line_search(problem: _Problem, theta: Tensor, step: Tensor, slope: Tensor) -> Tensor:
    """Halve the step of each episode until what is minimised falls by enough of what the slope promises."""
    before = problem.value(theta)
    slack = 10 * torch.finfo(before.dtype).eps * before.abs()
    rate = torch.ones_like(before)
    for _ in range(HALVINGS):
        short = problem.value(theta - rate * step) > before - 1e-4 * rate * slope + slack
        if not bool(short.any()):
            break
        rate = torch.where(short, rate / 2, rate)
    return theta - rate * step


class LogisticClassifier(FewShotClassifier):
    """Logistic regression over all ways with a squared penalty, on frozen features: the linear probe of few images.

    The control of Yonglong Tian, Yue Wang, Dilip Krishnan, Joshua B. Tenenbaum, Phillip Isola, "Rethinking Few-Shot
    Image Classification: a Good Embedding Is All You Need?", ECCV 2020. Scores are log-odds with the prior of the
    support set: ways with more images have a larger intercept. No gradient reaches the features of the support images.

    Args:
        in_channels: D.
        c: weight of the summed cross-entropy against half the squared weights: the less, the smoother.
        normalize: whether features are brought to length 1 first.

    Raises:
        UsageError: c that is not above 0.
    """

    def __init__(self, in_channels: int, c: float = 10.0, normalize: bool = True) -> None:
        super().__init__(in_channels)
        check_above_zero(c=c)
        self.c = c
        self.normalize = normalize

    def forward(self, episode: Episode) -> Tensor:
        """Vectors of an episode -> scores (E, Q, W)."""
        with torch.autocast(episode.support.device.type, enabled=False):
            episode = widened(episode)
            support, query = episode.support, episode.query
            if self.normalize:
                support, query = normalize(support, dim=2), normalize(query, dim=2)
            with torch.no_grad():
                weights, intercepts = logistic(support, assignments(episode), self.c)
            return torch.bmm(query, weights) + intercepts
