import math

import numpy as np
import pytest
from scipy import stats

from fgvc.confidence.means import mean, paired, spread


def test_the_interval_is_that_of_scipy():
    trials = np.random.default_rng(0).random(500)
    found = mean(trials)
    low, high = stats.norm.interval(0.95, trials.mean(), stats.sem(trials))
    assert found.value == pytest.approx((low + high) / 2)
    assert found.half == pytest.approx((high - low) / 2, rel=1e-4)


def test_a_paired_difference_is_narrower_where_trials_go_together():
    numbers = np.random.default_rng(0)
    hard = numbers.random(400)
    first, second = hard + 0.05 * numbers.random(400), hard + 0.02 + 0.05 * numbers.random(400)
    found = paired(first, second)
    assert found.value == pytest.approx((second - first).mean())
    assert found.half < mean(first).half / 5 and found.excludes_zero
    assert not paired(first, first[::-1]).excludes_zero


def test_one_trial_has_no_interval():
    assert math.isnan(mean(np.array([0.5])).half) and mean(np.array([0.5])).value == 0.5


def test_spread_over_trainings():
    assert spread([0.5, 0.6, 0.7]) == (pytest.approx(0.6), pytest.approx(0.1))
    assert math.isnan(spread([0.5])[1])
