"""How far probabilities can be trusted: reliability in bins, risk against coverage.

Shape letters: N images, B bins.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]

BINS = 15
"""How many bins of equal width a reliability diagram has; torchmetrics' own number."""


class Reliability(NamedTuple):
    """Confidence against accuracy: ece, the expected calibration error, and per bin (B,), NaN where it is empty."""

    ece: float
    confidence: Numbers
    accuracy: Numbers
    counts: Codes


class RiskCoverage(NamedTuple):
    """risk (N,): share of mistakes among the 1 ... N surest images; aurc: its mean; best (N,): in an ideal order."""

    risk: Numbers
    aurc: float
    best: Numbers


def reliability(confidence: Numbers, right: Flags, bins: int = BINS) -> Reliability:
    """Compare confidence with accuracy, in bins of equal width.

    Source: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks", 2017.

    Args:
        confidence: (N,) probabilities of the answers, N at least 1.
        right: (N,) whether they are right.
        bins: B.
    """
    place = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, weights=values, minlength=bins) for values in (confidence, right))
    mean, share = (np.divide(one, counts, out=np.full(bins, np.nan), where=counts > 0) for one in sums)
    ece = np.nansum(counts * np.abs(mean - share)) / len(confidence)
    return Reliability(float(ece), mean, share, counts)


def risk_coverage(confidence: Numbers, right: Flags) -> RiskCoverage:
    """Return the share of mistakes among the surest images, for every number of images.

    Source: Y. Geifman, R. El-Yaniv, "Selective Classification for Deep Neural Networks", 2017. Among equally sure
    images the mistakes are spread evenly, so that the order of the rows does not matter.

    Args:
        confidence: (N,) probabilities of the answers, N at least 1.
        right: (N,) whether they are right.
    """
    order = np.argsort(-confidence, kind="stable")
    many = np.arange(1, len(order) + 1)
    ends = np.append(np.flatnonzero(np.diff(confidence[order])), len(order) - 1)
    mistakes = np.interp(many, np.append(0, many[ends]), np.append(0, np.cumsum(~right[order])[ends]))
    risk = mistakes / many
    return RiskCoverage(risk, float(risk.mean()), np.maximum(0, many - right.sum()) / many)
