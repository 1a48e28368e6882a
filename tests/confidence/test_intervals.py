import math

import numpy as np
import pytest
from scipy.stats import binomtest

from fgvc.confidence.intervals import precision_interval, precision_upper, share, wilson
from fgvc.errors import UsageError


def test_intervals_are_scipys_exact_ones():
    for right, answered in [(0, 7), (7, 7), (3, 10), (180, 200), (1999, 2000)]:
        for confidence in (0.8, 0.95):
            exact = binomtest(right, answered).proportion_ci(confidence, method="exact")
            assert precision_interval(right, answered, confidence) == pytest.approx((exact.low, exact.high))
            upper = binomtest(right, answered, alternative="less").proportion_ci(confidence, method="exact").high
            assert precision_upper(right, answered, confidence) == pytest.approx(upper)
    assert precision_interval(0, 0) == (0, 1)


def test_numbers_outside_their_range_are_refused():
    for value in (0, 1, -0.1, math.nan):
        with pytest.raises(UsageError, match=f"confidence: {value}; it must lie"):
            precision_interval(1, 2, value)
    with pytest.raises(UsageError, match="right: 3 of 2 answers"):
        precision_interval(3, 2)


@pytest.mark.parametrize(("right", "total"), [(0, 1), (1, 1), (3, 7), (780, 1194), (0, 40), (9999, 10_000)])
def test_the_interval_is_scipys(right, total):
    expected = binomtest(right, total).proportion_ci(0.95, method="wilson")
    assert wilson(right, total) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_of_no_image_nothing_is_known():
    assert wilson(0, 0) == (0, 1)
    nothing = np.array([], dtype=np.int64)
    assert math.isnan(share("species", nothing, nothing).value)


def test_unknown_truths_are_not_counted():
    truth, answer = np.array([0, 1, -1, 2]), np.array([0, 2, 1, 2])
    assert share("species", truth, answer) == ("species", 2, 3)
