"""Multinomial logistic regression, solved to its minimum for all episodes at once.

Shape letters: E episodes, W ways, S support images, Q query images, D numbers of a vector.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.methods.few_shot.base import Episode, FewShotClassifier, assignments, check_above_zero, widened

NEWTON_STEPS, INNER_STEPS, HALVINGS = 100, 200, 30


class _Problem(NamedTuple):
    """Minimise c * cross-entropy + |B|^2 / 2; B (E, S, W) and the intercepts (E, 1, W) below it are one tensor theta.

    images: (E, S, S) the centred support images in coordinates of their own span.
    targets: (E, S, W) one-hot.
    c: (E, S, 1) weight of each image's cross-entropy.
    """

    images: Tensor
    targets: Tensor
    c: Tensor

    def scores(self, theta: Tensor) -> Tensor:
        """(E, S + 1, W) -> (E, S, W)."""
        return torch.baddbmm(theta[:, -1:], self.images, theta[:, :-1])

    def value(self, theta: Tensor) -> Tensor:
        """Return (E, 1, 1): what is minimised."""
        losses = -(self.c * self.targets * self.scores(theta).log_softmax(dim=2)).sum(dim=(1, 2))
        return (losses + theta[:, :-1].square().sum(dim=(1, 2)) / 2)[:, None, None]

    def gradient(self, theta: Tensor, pull: Tensor) -> Tensor:
        """Return the gradient (E, S + 1, W) of the penalty at theta and of a pull (E, S, W) on the scores."""
        # All intercepts may rise together for nothing; without this, rounding makes them wander.
        shift = pull.sum(dim=1, keepdim=True)
        shift = shift - shift.mean(dim=2, keepdim=True)
        return torch.cat([theta[:, :-1] + torch.bmm(self.images.transpose(1, 2), pull), shift], dim=1)


def logistic(support: Tensor, targets: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights (E, D, W) and intercepts (E, 1, W) with the least sum of c * cross-entropy + |weights|^2 / 2.

    Newton's method with conjugate gradients and a line search, each episode with its own step. The least weights are
    sums of support images, so it works on S numbers a way, not on D. In float64 where the device has it.

    Args:
        support: (E, S, D).
        targets: (E, S, W) one-hot.
        c: (E, S, 1) weight of the cross-entropy of each image; intercepts are free of the penalty.
    """
    middle = support.mean(dim=1, keepdim=True)
    centred = support - middle  # the intercept takes up the shift; the system is better conditioned
    wide = centred if centred.device.type == "mps" else centred.double()
    targets, c = targets.to(wide.dtype), c.to(wide.dtype)
    values, vectors = torch.linalg.eigh(torch.bmm(wide, wide.transpose(1, 2)))
    least = values[:, -1:] * wide.shape[1] * torch.finfo(support.dtype).eps ** 2  # below it, rounding and no direction
    images = vectors * torch.where(values > least, values, 0.0).clamp_min(0).sqrt().unsqueeze(1)
    problem = _Problem(images, targets, c)
    theta = _newton(problem)
    dual = c * (targets - problem.scores(theta).softmax(dim=2))  # where the gradient is 0
    weights = torch.bmm(wide.transpose(1, 2), dual)
    intercepts = theta[:, -1:] - torch.bmm(middle.to(wide.dtype), weights)
    return weights.to(support.dtype), intercepts.to(support.dtype)


def _newton(problem: _Problem) -> Tensor:
    images, targets, c = problem
    theta = images.new_zeros(len(images), images.shape[1] + 1, targets.shape[2])
    enough = torch.finfo(images.dtype).eps ** (2 / 3)
    first = None
    for _ in range(NEWTON_STEPS):
        chances = problem.scores(theta).softmax(dim=2)
        gradient = problem.gradient(theta, c * (chances - targets))
        size = gradient.square().sum(dim=(1, 2), keepdim=True).sqrt()
        first = size if first is None else first
        running = size > enough * first
        if not bool(running.any()):
            break
        # The more exactly solved the smaller the gradient: Newton's pace near the minimum.
        goal = torch.where(running, size * (size / first).sqrt().clamp_max(0.1), torch.inf)
        step = _conjugate_gradients(problem, chances, gradient, goal)
        theta = _line_search(problem, theta, step, (gradient * step).sum(dim=(1, 2), keepdim=True))
    return theta


def _conjugate_gradients(problem: _Problem, chances: Tensor, gradient: Tensor, goal: Tensor) -> Tensor:
    """Solve Hessian * step = gradient until what is left is as small as the goal (E, 1, 1)."""
    step = torch.zeros_like(gradient)
    residual = direction = gradient
    squared = residual.square().sum(dim=(1, 2), keepdim=True)
    for _ in range(INNER_STEPS):
        running = squared > goal.square()
        if not bool(running.any()):
            break
        moved = problem.scores(direction)
        weighed = chances * moved
        pull = problem.c * (weighed - chances * weighed.sum(dim=2, keepdim=True))
        image = problem.gradient(direction, pull)
        curvature = (direction * image).sum(dim=(1, 2), keepdim=True)
        rate = torch.where(running, squared / curvature, 0.0)
        step = step + rate * direction
        residual = residual - rate * image
        new = residual.square().sum(dim=(1, 2), keepdim=True)
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
    Image Classification: a Good Embedding Is All You Need?", ECCV 2020. Scores are log-odds. No
    gradient reaches the features of the support images.

    Args:
        in_channels: D.
        c: weight of the summed cross-entropy against half the squared weights: the less, the smoother.
        normalize: whether features are brought to length 1 first.
        balanced: whether every way weighs as much as every other, however many images it has; without it, ways with
            more images are likelier from the start. It changes nothing where ways have equally many.

    Raises:
        UsageError: c that is not above 0.
    """

    def __init__(self, in_channels: int, c: float = 10.0, normalize: bool = True, balanced: bool = True) -> None:
        super().__init__(in_channels)
        check_above_zero(c=c)
        self.c = c
        self.normalize = normalize
        self.balanced = balanced

    def forward(self, episode: Episode) -> Tensor:
        """Vectors of an episode -> scores (E, Q, W)."""
        with torch.autocast(episode.support.device.type, enabled=False):
            episode = widened(episode)
            support, query = episode.support, episode.query
            if self.normalize:
                support, query = normalize(support, dim=2), normalize(query, dim=2)
            with torch.no_grad():
                ones = assignments(episode)
                shares = ones / ones.sum(dim=1, keepdim=True) * (ones.shape[1] / ones.shape[2])
                each = shares.sum(dim=2, keepdim=True) if self.balanced else torch.ones_like(ones[:, :, :1])
                weights, intercepts = logistic(support, ones, self.c * each)
            return torch.bmm(query, weights) + intercepts
