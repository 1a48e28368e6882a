"""Tau-normalisation: long rows of a trained classifier are shortened, because frequent classes have the longest.

It is a part of calibration and no option of a head: it is fitted to images that were not trained on, when the training
is over, and what it leaves behind are weights. So predicting, embedding and exporting need not know of it.

Shape letters: N images, K leaves, D width of the embedding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fgvc.errors import UsageError
from fgvc.methods.recognizers.base import Recognizer
from fgvc.methods.recognizers.whole_image import WholeImage

TAUS = tuple(round(0.05 * i, 2) for i in range(21))
"""The exponents that are tried: 0 changes nothing, 1 makes all rows equally long."""


class TriedTau(NamedTuple):
    """An exponent and what it reaches.

    tau: the exponent; mean_per_class: the mean accuracy of the classes that occur; top1: of the images.
    """

    tau: float
    mean_per_class: float
    top1: float


def row_scales(weight: Tensor, tau: float) -> Tensor:
    """Return (K,) float64: what each row is multiplied with, (g / its length)^tau, with g the geometric mean length.

    Bingyi Kang and others, "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020, divide
    by length^tau and drop the biases. Here biases stay as they are, so tau 0 is the classifier that was trained; g
    keeps the size of the logits beside them, and with it the temperature.

    Args:
        weight: (K, D); a row of zeros stays.
        tau: the exponent.
    """
    lengths = weight.detach().double().norm(dim=1)
    positive = lengths > 0
    if not bool(positive.any()):
        return torch.ones_like(lengths)
    mean = lengths[positive].log().mean().exp()
    return torch.where(positive, (mean / lengths.clamp_min(1e-300)) ** tau, torch.ones_like(lengths))


def try_taus(
    logits: Tensor, labels: Tensor, weight: Tensor, bias: Tensor | None, taus: Sequence[float] = TAUS
) -> list[TriedTau]:
    """Return what each exponent reaches on images that were not trained on.

    Args:
        logits: (N, K) of the classifier as it was trained: features times weight, plus bias.
        labels: (N,) int64 leaves; any that is none is left out.
        weight, bias: (K, D), (K,) or None, of the classifier.
        taus: the exponents.

    Raises:
        UsageError: no image whose leaf is known.
    """
    known = (labels >= 0) & (labels < logits.shape[1])
    targets = labels[known]
    if not len(targets):
        raise UsageError("tau_norm: no image of a known class to choose tau on; hold out some, or give another --split")
    offset = torch.zeros(logits.shape[1], dtype=torch.float64) if bias is None else bias.detach().cpu().double()
    scores = logits[known].double() - offset
    seen = torch.bincount(targets, minlength=logits.shape[1])
    found = []
    for tau in taus:
        answers = (scores * row_scales(weight.cpu(), tau) + offset).argmax(dim=1)
        right = torch.bincount(targets[answers == targets], minlength=logits.shape[1])
        recall = right[seen > 0] / seen[seen > 0]
        found.append(TriedTau(tau, float(recall.double().mean()), float(right.sum() / len(targets))))
    return found


def best_tau(tried: Sequence[TriedTau]) -> TriedTau:
    """Return the exponent with the best mean accuracy of the classes; of equal ones the smallest."""
    return max(tried, key=lambda one: (one.mean_per_class, -one.tau))


def leaf_rows(recognizer: Recognizer) -> tuple[Tensor, Tensor | None]:
    """Return weight (K, D) and bias (K,) of the classifier that answers.

    Raises:
        UsageError: the answer is not that of one linear classifier.
    """
    rows = list(recognizer.head.rows()) if isinstance(recognizer, WholeImage) else []
    if not rows or rows[-1][1] is None:
        kind = type(recognizer.head if isinstance(recognizer, WholeImage) else recognizer).__name__
        raise UsageError(f"tau_norm: {kind} has no linear classifier whose rows could be rescaled")
    return rows[-1]


def rescale(recognizer: Recognizer, tau: float) -> None:
    """Rescale the rows of the classifier that answers, in place; see `leaf_rows` for what is raised."""
    weight, _ = leaf_rows(recognizer)
    with torch.no_grad():
        weight.mul_(row_scales(weight, tau).to(weight)[:, None])


def told(tried: Sequence[TriedTau], images: int, split: str) -> str:
    """Return a line on what was chosen."""
    best, plain = best_tau(tried), tried[0]
    return (
        f"tau-normalisation: tau {best.tau:g} of {plain.tau:g} to {tried[-1].tau:g}, chosen on {images:,} {split} "
        f"images: mean accuracy of the classes {100 * plain.mean_per_class:.1f} -> {100 * best.mean_per_class:.1f} %, "
        f"of the images {100 * plain.top1:.1f} -> {100 * best.top1:.1f} %"
    )
