"""Intervals of a share that was counted on N images."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fgvc.errors import UsageError

Codes = npt.NDArray[np.int64]


def precision_interval(right: int, answered: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a precision; (0, 1) where there is no answer.

    Clopper, Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial", 1934.

    Raises:
        UsageError: confidence outside (0, 1), or more right answers than answers.
    """
    one_sided = (1 + checked_share("confidence", confidence)) / 2
    upper = precision_upper(right, answered, one_sided)
    return 1 - precision_upper(answered - right, answered, one_sided), upper


def precision_upper(right: int, answered: int, confidence: float = 0.95) -> float:
    """Return the exact one-sided upper bound of a precision; see `precision_interval`."""
    checked_share("confidence", confidence)
    if not 0 <= right <= answered:
        raise UsageError(f"right: {right} of {answered} answers; give 0 to {answered}")
    from scipy.special import betaincinv  # 0.1 s to load, and the report of a run asks for `wilson` alone

    return 1.0 if right == answered else float(betaincinv(right + 1, answered - right, confidence))


def checked_share(name: str, share: float) -> float:
    """Return a share that lies between 0 and 1; raises UsageError with its name for any other number."""
    if not 0 < share < 1:
        raise UsageError(f"{name}: {share}; it must lie between 0 and 1")
    return share


class Share(NamedTuple):
    """How many of a number of images are right."""

    name: str
    right: int
    total: int

    @property
    def value(self) -> float:
        """The share; NaN of nothing."""
        return self.right / self.total if self.total else math.nan


def share(name: str, truth: Codes, answer: Codes) -> Share:
    """Count the answers (N,) that are right, among those whose truth (N,) is known."""
    return Share(name, int(((truth >= 0) & (truth == answer)).sum()), int((truth >= 0).sum()))


def wilson(right: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the interval of a share (E. B. Wilson, "Probable Inference", 1927); of nothing, it is all of 0 to 1.

    Args:
        right, total: how many of how many.
        z: width in standard deviations; 1.96 gives 95 %.
    """
    if not total:
        return 0.0, 1.0
    share, extra = right / total, z * z / total
    middle = share + extra / 2
    reach = z * math.sqrt(share * (1 - share) / total + extra / (4 * total))
    return max(0.0, (middle - reach) / (1 + extra)), min(1.0, (middle + reach) / (1 + extra))
