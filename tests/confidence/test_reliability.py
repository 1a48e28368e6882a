import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from fgvc.confidence.reliability import reliability, risk_coverage


@pytest.mark.parametrize("images", [1, 7, 500])
def test_the_calibration_error_is_torchmetrics(images):
    rng = np.random.default_rng(images)
    confidence = rng.random(images).clip(0.01, 0.99)
    right = rng.random(images) < confidence**2
    found = reliability(confidence, right)
    # torchmetrics takes the probability of "yes"; with answers that are always "yes" it is the confidence.
    expected = binary_calibration_error(
        torch.from_numpy(confidence), torch.from_numpy(right.astype(np.int64)), n_bins=15, norm="l1"
    )
    assert found.ece == pytest.approx(float(expected), abs=1e-6)
    assert found.counts.sum() == images
    for b, count in enumerate(found.counts):
        inside = [i for i in range(images) if b / 15 <= confidence[i] < (b + 1) / 15]
        assert count == len(inside)
        if inside:
            assert found.confidence[b] == pytest.approx(np.mean(confidence[inside]))
            assert found.accuracy[b] == pytest.approx(np.mean(right[inside]))
        else:
            assert math.isnan(found.accuracy[b])


def test_probabilities_of_0_and_1_lie_in_the_outer_bins():
    found = reliability(np.array([0.0, 1.0, 1.0]), np.array([False, True, False]), bins=4)
    assert found.counts.tolist() == [1, 0, 0, 2]
    assert found.ece == pytest.approx(2 / 3 * 0.5)


def test_the_risk_is_the_share_of_mistakes_among_the_surest():
    rng = np.random.default_rng(0)
    confidence, right = rng.random(60), rng.random(60) < 0.7
    found = risk_coverage(confidence, right)
    surest = sorted(range(60), key=lambda i: -confidence[i])
    expected = [sum(not right[i] for i in surest[:n]) / n for n in range(1, 61)]
    assert found.risk.tolist() == pytest.approx(expected)
    assert found.aurc == pytest.approx(sum(expected) / 60)
    good = sorted(right, reverse=True)
    assert found.best.tolist() == pytest.approx([sum(not one for one in good[:n]) / n for n in range(1, 61)])


def test_the_order_of_equally_sure_images_does_not_matter():
    confidence = np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.1])
    right = np.array([True, False, False, True, True, False])
    found = risk_coverage(confidence, right)
    turned = risk_coverage(confidence[::-1].copy(), right[::-1].copy())
    assert found.risk.tolist() == pytest.approx(turned.risk.tolist())
    # Of the four in the middle two are wrong: half a mistake for each.
    assert found.risk.tolist() == pytest.approx([0, 0.5 / 2, 1 / 3, 1.5 / 4, 2 / 5, 3 / 6])
