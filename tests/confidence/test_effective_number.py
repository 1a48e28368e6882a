from fractions import Fraction

import numpy as np
import pytest

from fgvc.confidence.effective_number import class_weights, effective_number
from fgvc.errors import UsageError


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999, 0.9999, 1.0])
def test_it_is_the_sum_of_the_powers_of_beta(beta):
    """The paper's own sum, E_n = 1 + beta + ... + beta^(n - 1), in fractions."""
    counts = [0, 1, 2, 30, 300]
    exact = Fraction(str(beta))
    wanted = [float(sum((exact**j for j in range(n)), Fraction(0))) for n in counts]
    np.testing.assert_allclose(effective_number(counts, beta), wanted, rtol=1e-12)


def test_it_stays_exact_where_beta_is_nearly_one():
    # n - n (n - 1) / 2 * eps, with the next term below 1e-13
    n, eps = 1000, 1e-12
    assert effective_number([n], 1 - eps)[0] == pytest.approx(n - n * (n - 1) / 2 * eps, rel=1e-9)


def test_weights_are_one_over_it_with_a_mean_of_one_over_the_classes_that_have_images():
    weights = class_weights([30, 0, 3, 1], 0.9)
    worth = [(1 - 0.9**n) / (1 - 0.9) for n in (30, 3, 1)]
    inverse = [1 / one for one in worth]
    scale = 3 / sum(inverse)
    np.testing.assert_allclose(weights, [inverse[0] * scale, 0, inverse[1] * scale, inverse[2] * scale])
    assert class_weights([0, 0], 0.9).tolist() == [0, 0]


@pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan")])
def test_a_beta_outside_its_range_is_refused(beta):
    with pytest.raises(UsageError, match=r"beta: .* from 0"):
        effective_number([1], beta)
