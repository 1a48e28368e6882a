"""Generated birds: leaves, twigs, blades and perches."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation

from fgvc.data.birds import plants

GREEN = ((80, 130, 60),)


def blank():
    return np.full((160, 160, 3), 200, np.uint8)


def filled(outlines):
    """Fill the outlines with another library."""
    picture = Image.new("L", (160, 160))
    for outline in outlines:
        ImageDraw.Draw(picture).polygon([tuple(point) for point in outline.tolist()], fill=1, outline=1)
    return np.asarray(picture, bool)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_painted_lies_within_the_outlines_that_are_returned(seed):
    rng, canvas = np.random.default_rng(seed), blank()
    if seed % 2:
        outlines = plants.twig(rng, canvas, np.array([80.0, 80.0]), 0.4, 60.0, GREEN)
    else:
        outlines = plants.blade(rng, canvas, np.array([80.0, 150.0]), 90.0, GREEN)
    changed, region = (canvas != 200).any(axis=2), filled(outlines)
    assert changed.sum() > 30
    # The two libraries round edges differently, and edges are smooth: three pixels at a leaf's thin tip.
    assert (changed & ~binary_dilation(region, iterations=3)).sum() <= 3
    assert (changed & region).sum() > 0.9 * region.sum()


def test_a_leaf_starts_at_its_base_and_has_its_length():
    outline = plants.leaf(np.random.default_rng(0), blank(), np.array([40.0, 80.0]), 50.0, 0.0, GREEN[0])
    assert np.allclose(outline[0], [40, 80])
    assert np.ptp(outline[:, 0]) == pytest.approx(50, abs=8)


def test_a_perch_runs_right_under_both_feet_from_edge_to_edge():
    canvas, feet = blank(), np.array([[70.0, 90.0], [88.0, 93.0]])
    plants.perch(np.random.default_rng(3), canvas, feet, 9.0)
    changed = (canvas != 200).any(axis=2)
    assert changed.any(axis=0).all()
    for x, y in feet.astype(int):
        assert changed[y + 8, x]
        assert not changed[: y - 12, x].any()
