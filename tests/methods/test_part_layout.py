import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from fgvc.methods.part_layout import (
    WIDEST,
    LayoutPrior,
    best_windows,
    box_around,
    clustered,
    inside_object,
    layouts,
    placed,
    window_labels,
)

NAN = math.nan


def boxes(number, seed):
    draw = torch.Generator().manual_seed(seed)
    corners = torch.rand(number, 2, 2, generator=draw, dtype=torch.float64).sort(dim=1).values
    return torch.cat((corners[:, 0], corners[:, 1] + 0.05), dim=1)


def test_a_box_holds_the_known_points_and_no_more():
    points = torch.tensor(
        [[[0.2, 0.3], [0.5, 0.4], [NAN, NAN]], [[NAN, NAN]] * 3, [[0.98, 0.5], [NAN, NAN], [NAN, NAN]]]
    )
    found = box_around(points)
    torch.testing.assert_close(found[0], torch.tensor([0.2, 0.3, 0.5, 0.4]))
    assert found[1].isnan().all()
    torch.testing.assert_close(box_around(points, side_min=0.1)[2], torch.tensor([0.9, 0.45, 1.0, 0.55]))


def test_a_layout_put_back_into_its_object_is_the_box_again():
    parts, objects = boxes(20, 0), boxes(20, 1)
    torch.testing.assert_close(placed(layouts(parts, objects), objects), parts)
    inner = layouts(torch.tensor([0.25, 0.5, 0.5, 0.75]), torch.tensor([0.0, 0.0, 0.5, 1.0]))
    torch.testing.assert_close(inner, torch.tensor([0.75, 0.625, math.log(0.5), math.log(0.25)]))


def test_the_prior_is_the_mixture_that_scipy_makes_of_the_same_clusters():
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(centre, 0.05, (n, 4)) for centre, n in ((0.2, 60), (0.8, 30), (-1.0, 10))])
    prior = LayoutPrior(gaussians=3, windows=16)
    prior.fit(torch.from_numpy(rows))
    weights, means, covariances = clustered(rows, 3)
    assert sorted(weights.round(3)) == [0.1, 0.3, 0.6]
    asked = rng.normal(0.3, 0.6, (40, 4))
    for found, at in zip(prior.log_density(torch.from_numpy(asked).float()).tolist(), asked, strict=True):
        by_hand = sum(
            w * multivariate_normal.pdf(at, m, c) for w, m, c in zip(weights, means, covariances, strict=True)
        )
        if by_hand > 1e-30:
            assert found == pytest.approx(math.log(by_hand), abs=2e-2, rel=1e-3)
    for weight, mean in zip(weights, means, strict=True):
        own = rows[np.abs(rows - mean).max(axis=1) < 0.4]
        assert len(own) == round(weight * 100)
        np.testing.assert_allclose(own.mean(axis=0), mean)
    cluster = int(weights.argmax())
    np.testing.assert_allclose(covariances[cluster], np.cov(rows[:60].T, bias=True) + WIDEST * np.eye(4))
    assert {tuple(row) for row in prior.samples.tolist()} <= {tuple(row) for row in rows.astype(np.float32).tolist()}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_prior_of_next_to_no_photographs_has_finite_densities(number):
    prior = LayoutPrior(gaussians=4, windows=5)
    prior.fit(torch.full((number, 4), 0.3) + torch.arange(number)[:, None])
    assert prior.log_density(torch.rand(7, 4)).isfinite().all()


def test_the_best_window_is_that_of_a_slow_loop():
    draw = torch.Generator().manual_seed(0)
    detected, prior = (-5 * torch.rand(30, 12, generator=draw) for _ in range(2))
    allowed = torch.rand(30, 12, generator=draw) < 0.4
    allowed[3] = False
    for strength in (0.0, 0.1, 2.0):
        found = best_windows(detected, prior, allowed, strength)
        for row in range(30):
            best, highest = -1, -math.inf
            for m in range(12):
                score = float(detected[row, m]) + strength * float(prior[row, m])
                if (bool(allowed[row, m]) or row == 3) and score > highest:
                    best, highest = m, score
            assert int(found[row]) == best


def test_a_part_may_leave_its_object_by_the_slack():
    whole = torch.tensor([0.2, 0.2, 0.6, 0.4])
    windows = torch.tensor(
        [[0.17, 0.2, 0.3, 0.3], [0.15, 0.2, 0.3, 0.3], [0.3, 0.3, 0.5, 0.415], [0.3, 0.3, 0.5, 0.43]]
    )
    assert inside_object(windows, whole, 0.1).tolist() == [True, False, True, False]


def test_windows_are_right_wrong_or_undecided_by_their_overlap():
    known = torch.tensor([[0.0, 0.0, 0.4, 0.4], [NAN] * 4])
    windows = torch.tensor([[0.0, 0.0, 0.4, 0.3], [0.0, 0.0, 0.4, 0.16], [0.0, 0.0, 0.4, 0.1]]).expand(2, 3, 4)
    labels = window_labels(windows, known)  # overlaps of 0.75, 0.4 and 0.25
    assert labels[0, 0] == 1 and labels[0, 1].isnan() and labels[0, 2] == 0
    assert labels[1].isnan().all()
