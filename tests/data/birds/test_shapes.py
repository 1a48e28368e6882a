"""Generated birds: outlines."""

import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline

from fgvc.data.birds.anatomy import ANATOMIES
from fgvc.data.birds.shapes import (
    BEAKS,
    MARK_SHAPES,
    TAILS,
    MarkShape,
    beak_gape,
    beak_outline,
    mark_outlines,
    smooth,
    tail_outline,
    tail_point,
    turned,
)


def shoelace(points):
    x, y = points.T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def test_a_smooth_outline_is_the_hermite_spline_with_central_slopes():
    control = ((0.0, 0.0), (1.0, 0.2), (1.3, 1.0), (0.2, 1.4))
    around = np.array([control[-1], *control, control[0], control[1]])
    slopes = (around[2:] - around[:-2]) / 2
    spline = CubicHermiteSpline(np.arange(5), around[1:-1], slopes)
    assert np.allclose(smooth(control), spline(np.arange(32) / 8))


def test_an_open_curve_starts_and_ends_at_its_control_points():
    curve = smooth(((0.0, 0.0), (1.0, 1.0), (3.0, 0.0)), closed=False)
    assert np.allclose(curve[[0, 8, -1]], [[0, 0], [1, 1], [3, 0]])


def test_turning_is_multiplying_by_a_unit_complex_number():
    points = np.random.default_rng(0).normal(size=(9, 2))
    expected = (points[:, 0] + 1j * points[:, 1]) * np.exp(0.7j)
    assert np.allclose(turned(points, 0.7), np.stack([expected.real, expected.imag], 1))


@pytest.mark.parametrize("place", MARK_SHAPES)
def test_marks_of_all_places_have_the_same_area(place):
    shape, hole = MARK_SHAPES[place], 0.05
    core, whole = mark_outlines(shape, area=0.01, rim=1.5, hole=hole)
    free = np.pi * hole**2 if shape.ring else 0.0
    polygon = np.sin(2 * np.pi / 40) / (2 * np.pi / 40)  # area of a 40-gon over that of its circle
    assert shoelace(core) == pytest.approx((0.01 + free) * polygon)
    assert shoelace(whole) == pytest.approx((0.025 + free) * polygon)


def test_a_mark_has_its_proportions():
    core, _ = mark_outlines(MarkShape(0.0, 4.0), area=np.pi, rim=1.0, hole=0.0)
    assert np.ptp(core, axis=0) == pytest.approx([4.0, 1.0])


@pytest.mark.parametrize("beak", BEAKS)
def test_beaks_start_at_the_head_and_point_away_from_it(beak):
    for anatomy in ANATOMIES.values():
        base = np.array(anatomy.beak[0])
        gape, outline = beak_gape(anatomy, beak), beak_outline(anatomy, beak)
        assert np.linalg.norm(gape[0] - base) < anatomy.beak[3]
        assert gape[-1, 0] > base[0] + 0.15
        assert np.abs(outline - gape[-1]).sum(axis=1).min() < 1e-9, "the line ends at the tip"


@pytest.mark.parametrize("tail", TAILS)
def test_tails_turn_about_their_base(tail):
    anatomy = ANATOMIES["percher"]
    base = np.array(anatomy.tail[0])
    straight, lifted = (tail_outline(anatomy, tail, lift) - base for lift in (0.0, 0.3))
    assert np.allclose(np.linalg.norm(straight, axis=1), np.linalg.norm(lifted, axis=1))
    assert np.allclose(tail_point(anatomy, 0.0, 0.3), base)
    assert np.allclose(np.linalg.norm(tail_point(anatomy, 0.5, 0.3) - base), 0.5 * anatomy.tail[2])
