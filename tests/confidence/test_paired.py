import numpy as np
import pytest
from scipy.stats import binomtest

from fgvc.confidence.paired import bootstrap, mcnemar


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 1), (3, 3), (1, 9), (60, 35), (700, 800), (4000, 4100)])
def test_mcnemar_is_scipys_binomial_test(only_a, only_b):
    expected = binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-6)


def test_the_interval_is_that_of_a_slow_bootstrap_and_of_the_normal_formula():
    rng = np.random.default_rng(5)
    difference = rng.choice([-1, -0.5, 0, 0.5, 1], size=600, p=[0.05, 0.1, 0.6, 0.1, 0.15])
    found = bootstrap(difference)
    slow = [np.mean([difference[i] for i in rng.integers(600, size=600)]) for _ in range(1000)]
    error = difference.std() / 600**0.5
    assert found.mean == pytest.approx(difference.mean())
    assert [found.low, found.high] == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.25 * error)
    assert found.low == pytest.approx(difference.mean() - 1.96 * error, abs=0.08 * error)
    assert found.high == pytest.approx(difference.mean() + 1.96 * error, abs=0.08 * error)


def test_the_bootstrap_repeats_with_its_seed():
    difference = np.array([1.0, 0, 0, -1, 1, 0.5])
    assert bootstrap(difference, seed=1) == bootstrap(difference, seed=1)
