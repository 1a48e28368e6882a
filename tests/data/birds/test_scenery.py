"""Generated birds: background, ground, water, light."""

import numpy as np
import pytest

from fgvc.data.birds import scenery


@pytest.mark.parametrize("habitat", scenery.HABITATS)
def test_backgrounds_are_soft_and_differ_from_seed_to_seed(habitat):
    first, again, other = (
        scenery.background(np.random.default_rng(seed), scenery.HABITATS[habitat], 128) for seed in (0, 0, 1)
    )
    assert first.shape == (128, 128, 3) and first.dtype == np.uint8
    assert (first == again).all() and (first != other).any()
    assert np.abs(np.diff(first.astype(int), axis=0)).max() < 40


def test_a_shadow_darkens_its_ellipse_and_nothing_else():
    canvas = np.full((100, 100, 3), 180, np.uint8)
    scenery.shadow(canvas, np.array([90.0, 50.0]), 40.0)
    assert canvas[50, 90, 0] == pytest.approx(90, abs=3)
    y, x = np.mgrid[0:100, 0:100]
    outside = ((x - 90) / 40) ** 2 + ((y - 50) / 10) ** 2 > 1
    assert (canvas[outside] == 180).all() and (canvas <= 180).all()


def test_ripples_stay_between_their_rows_and_pebbles_below_the_horizon():
    for paint in (
        lambda canvas: scenery.ripples(np.random.default_rng(0), canvas, 60.0, 100.0, 80),
        lambda canvas: scenery.pebbles(np.random.default_rng(0), canvas, 68.0, 60),
    ):
        canvas = np.full((128, 128, 3), 120, np.uint8)
        paint(canvas)
        rows = np.flatnonzero((canvas != 120).any(axis=(1, 2)))
        assert len(rows) > 8 and rows.min() >= 60
    canvas = np.full((128, 128, 3), 120, np.uint8)
    scenery.ripples(np.random.default_rng(0), canvas, 128.0, 140.0, 8)
    assert (canvas == 120).all(), "no waterline: nothing to paint"


def test_light_changes_brightness_smoothly_and_keeps_black_dark():
    grey = np.full((96, 96, 3), 120, np.uint8)
    lit = [scenery.light(np.random.default_rng(seed), grey).astype(float) for seed in range(20)]
    means = [picture.mean() for picture in lit]
    assert min(means) < 110 and max(means) > 125
    assert all(picture[..., 0].std() < 25 for picture in lit)
    assert scenery.light(np.random.default_rng(0), np.zeros((96, 96, 3), np.uint8)).max() < 20


def test_plants_behind_are_painted_for_some_seeds():
    changed = 0
    for seed in range(12):
        canvas = np.full((96, 96, 3), 250, np.uint8)
        scenery.plants_behind(np.random.default_rng(seed), canvas, scenery.HABITATS["branch"])
        changed += bool((canvas != 250).any())
    assert 4 < changed <= 12
