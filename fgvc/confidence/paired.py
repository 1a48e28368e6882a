"""Is B better than A on the same photographs? Paired differences, their interval and their test.

Shape letters: N photographs.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000


class Interval(NamedTuple):
    """A mean difference and its 95 % interval, all as fractions."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def bootstrap(difference: npt.NDArray[np.float64], resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Return the mean of (N,) differences per photograph and its percentile interval over resampled photographs.

    Source: Efron, Bootstrap Methods: Another Look at the Jackknife, 1979.
    """
    # N draws with replacement among few distinct values are one multinomial draw of how often each comes up.
    values, counts = np.unique(difference, return_counts=True)
    size = len(difference)
    drawn = np.random.default_rng(seed).multinomial(size, counts / size, size=resamples)
    low, high = np.quantile(drawn @ values / size, [0.025, 0.975])
    return Interval(float(difference.mean()), float(low), float(high))


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the exact two-sided p of McNemar's test.

    Source: McNemar, Note on the Sampling Error of the Difference Between Correlated Proportions or Percentages, 1947.

    Args:
        only_a: photographs that A alone names rightly.
        only_b: photographs that B alone names rightly.
    """
    trials = only_a + only_b
    term = tail = 1
    for k in range(min(only_a, only_b)):
        term = term * (trials - k) // (k + 1)
        tail += term
    return float(min(1.0, 2 * tail / 2**trials))
