"""The mean of many equal trials, such as few-shot episodes, with its interval.

Shape letters: E trials.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Mean(NamedTuple):
    """A mean, and half the width of its 95 % interval."""

    value: float
    half: float

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side of 0."""
        return abs(self.value) > self.half


def mean(trials: npt.NDArray[np.float64]) -> Mean:
    """Return the mean of (E,) trials with 1.96 standard errors; of one trial the interval is NaN.

    The normal interval is the one that few-shot tables hold. It tells chance in the drawing of the trials alone.
    """
    if len(trials) < 2:
        return Mean(float(trials.mean()), math.nan)
    return Mean(float(trials.mean()), 1.96 * float(trials.std(ddof=1)) / math.sqrt(len(trials)))


def paired(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> Mean:
    """Return the mean of second - first over the same (E,) trials."""
    return mean(second - first)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation (n - 1) of a few values, e.g. of trainings; of one value it is NaN."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
