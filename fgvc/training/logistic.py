"""Multinomial logistic regression on features that were computed once, in full batch.

Least is: mean cross-entropy over the images + penalty * (sum of squared weights; biases are free). The features are
standardised by mean and deviation of the images that are fitted; of very many, some at a time, and no copy is kept.

Shape letters: N images, M of them, D width of a feature, K classes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fgvc.errors import FgvcError
from fgvc.files.bars import bar

AT_ONCE = 1 << 24
"""How many numbers a chunk of features or of logits holds at most: 64 MiB."""
KEPT = 1 << 28
"""How many standardised numbers are kept at most, 1 GiB; of more, each look at them standardises them anew."""
STEPS = 400
TOLERANCE = 1e-7
"""A fit ends where a step lowers the cost by less than this share of the cost that it began with."""


class Linear(NamedTuple):
    """A linear classifier of raw features. weight: (K, D). bias: (K,)."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Features (N, D) -> (N, K)."""
        return features @ self.weight.T + self.bias


class Fitted(NamedTuple):
    """What is fitted.

    features: (N, D) float32. labels: (N,) int64, 0 .. K-1 in the rows that are taken. rows: (M,) int64, those.
    mean: (D,) float32 of the rows. scale: (D,) float32, their standard deviation; infinite where a feature never
    changes, so that it is 0 when standardised. kept: (M, D) float32 and (M,) int64, the rows standardised and their
    labels; None where they are too many.
    """

    features: Tensor
    labels: Tensor
    rows: Tensor
    mean: Tensor
    scale: Tensor
    kept: tuple[Tensor, Tensor] | None = None

    def chunks(self, num_classes: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield standardised features (m, D) and labels (m,), so many that their logits take little memory too."""
        size = max(1, AT_ONCE // max(num_classes, self.features.shape[1]))
        if self.kept is not None:
            yield from zip(*(torch.split(one, size) for one in self.kept), strict=True)
            return
        for some in torch.split(self.rows, size):
            yield (self.features[some] - self.mean) / self.scale, self.labels[some]

    def folded(self, weights: Tensor) -> Linear:
        """Return the classifier of raw features that weights (D + 1, K) of standardised ones, bias last, make."""
        weight = weights[:-1].double().T / self.scale.double()
        bias = weights[-1].double() - weight @ self.mean.double()
        return Linear(weight.float(), bias.float())


def standardised(features: Tensor, labels: Tensor, rows: Tensor) -> Fitted:
    """Measure mean and deviation of the rows (M,) of features (N, D); labels (N,).

    Raises:
        FgvcError: a feature is no number.
    """
    rows = rows.to(features.device)
    plain = Fitted(features, labels, rows, features.new_zeros(()), features.new_ones(()))
    mean = sum((x.double().sum(dim=0) for x, _ in plain.chunks(1)), torch.zeros(())) / len(rows)
    square = sum(((x - mean).double().square().sum(dim=0) for x, _ in plain.chunks(1)), torch.zeros(())) / len(rows)
    if not bool(square.isfinite().all()):
        raise FgvcError("the features hold what is no number (NaN or infinite); embed again with --overwrite")
    constant = square.sqrt() <= 1e-6 * mean.abs()  # float32 resolves no less
    scale = torch.where(constant, torch.inf, square.sqrt())
    found = plain._replace(mean=mean.float(), scale=scale.float())
    if len(rows) * features.shape[1] > KEPT:
        return found
    return found._replace(kept=((features[rows] - found.mean) / found.scale, labels[rows]))


def fit(
    given: Fitted,
    num_classes: int,
    penalty: float,
    start: Tensor | None = None,
    tolerance: float = TOLERANCE,
    doing: str = "fitting",
) -> Tensor:
    """Return the weights (D + 1, K) of standardised features, bias last, for which the cost is least.

    L-BFGS with a line search (D. C. Liu, J. Nocedal, "On the limited memory BFGS method for large scale optimization",
    1989).

    Args:
        given: features and labels.
        num_classes: K.
        penalty: of the squared weights, 0 or more.
        start: (D + 1, K), weights to begin with; a fit with a larger penalty is near.
        tolerance: see TOLERANCE.
        doing: words for the progress bar.
    """
    weights = given.mean.new_zeros(len(given.mean) + 1, num_classes) if start is None else start.clone()
    weights.requires_grad_(True)
    least = tolerance * cost(given, weights.detach(), penalty)[0]
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe",
        tolerance_grad=1e-8, tolerance_change=least,
    )  # fmt: skip
    with bar(doing, unit=" looks at all images") as moving:

        def closure() -> float:
            value, weights.grad = cost(given, weights.detach(), penalty)
            moving.update()
            return value

        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()


def cost(given: Fitted, weights: Tensor, penalty: float) -> tuple[float, Tensor]:
    """Return the cost of weights (D + 1, K), and its gradient (D + 1, K)."""
    gradient = torch.zeros_like(weights)
    total = torch.zeros((), dtype=torch.float64, device=weights.device)
    for x, y in given.chunks(weights.shape[1]):
        log_p = torch.addmm(weights[-1], x, weights[:-1]).log_softmax(dim=1)
        total -= log_p.gather(1, y[:, None]).double().sum()
        off = log_p.exp_()
        off[torch.arange(len(y), device=y.device), y] -= 1
        gradient[:-1] += x.T @ off
        gradient[-1] += off.sum(dim=0)
    gradient /= len(given.rows)
    gradient[:-1] += 2 * penalty * weights[:-1]
    return float(total / len(given.rows) + penalty * weights[:-1].double().square().sum()), gradient


class Reached(NamedTuple):
    """How good a classifier is. right: share of right answers. loss: mean cross-entropy."""

    right: float
    loss: float


def reached(linear: Linear, features: Tensor, labels: Tensor, rows: Tensor) -> Reached:
    """Score the rows (M,) of features (N, D) whose labels (N,) are 0 .. K-1."""
    right, loss = 0, 0.0
    size = max(1, AT_ONCE // max(linear.weight.shape))
    for some in torch.split(rows.to(features.device), size):
        logits, y = linear.logits(features[some]), labels[some]
        right += int((logits.argmax(dim=1) == y).sum())
        loss += float(cross_entropy(logits, y, reduction="sum"))
    return Reached(right / max(len(rows), 1), loss / max(len(rows), 1))
