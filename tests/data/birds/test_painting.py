"""Generated birds: whole pictures and what is known about them."""

import numpy as np
import pytest

from fgvc.data.birds.painting import PARTS, paint
from fgvc.data.birds.species import design

SPECIES = design(4, 2, 2, 4)


def pair(number, size=384, mark_size=0.04):
    """Return a painting and the same painting without its mark."""
    species = SPECIES[(number * 7) % len(SPECIES)]
    return [
        paint(species, np.random.default_rng([5, number]), size, mark_size, with_mark=visible)
        for visible in (True, False)
    ]


@pytest.mark.parametrize("number", range(24))
def test_the_mark_box_is_where_the_picture_changes_without_the_mark(number):
    painted, bare = pair(number)
    change = np.abs(painted.pixels.astype(int) - bare.pixels.astype(int)).max(axis=2)
    ys, xs = np.nonzero(change > 6)
    difference = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    assert np.abs(difference - painted.mark_box).max() <= 2
    assert change.max() > 40, "the mark is to be seen"
    assert painted.object_box == bare.object_box and painted.points == bare.points


@pytest.mark.parametrize("number", range(24))
def test_the_mark_lies_on_the_bird_and_the_bird_in_the_picture(number):
    painted, _ = pair(number)
    x1, y1, x2, y2 = painted.object_box
    assert 0 <= x1 < x2 <= 384 and 0 <= y1 < y2 <= 384
    assert 0.28 * 384 < max(x2 - x1, y2 - y1) < 0.9 * 384
    mx1, my1, mx2, my2 = painted.mark_box
    assert x1 - 1 <= mx1 < mx2 <= x2 + 1 and y1 - 1 <= my1 < my2 <= y2 + 1
    assert 4 <= max(mx2 - mx1, my2 - my1) <= 0.09 * 384
    for name, (x, y) in painted.points.items():
        assert name in PARTS
        assert x1 - 6 <= x <= x2 + 6 and y1 - 6 <= y <= y2 + 6


def test_a_mark_has_the_mean_colour_of_the_plumage_it_covers():
    means, peaks = [], []
    for number in range(24):
        painted, bare = pair(number)
        x1, y1, x2, y2 = map(int, painted.mark_box)
        change = painted.pixels[y1:y2, x1:x2].astype(float) - bare.pixels[y1:y2, x1:x2]
        means.append(np.abs(change.mean(axis=(0, 1))).max())
        peaks.append(np.abs(change).max())
    # Clipping by the edge of the body, light and shade leave a little.
    assert np.median(means) < 4 and max(means) < 30
    assert np.median(peaks) > 100


def test_a_picture_depends_on_its_generator_only():
    first, other = (paint(SPECIES[3], np.random.default_rng([0, i]), 128) for i in (1, 2))
    again = paint(SPECIES[3], np.random.default_rng([0, 1]), 128)
    assert (first.pixels == again.pixels).all() and first.points == again.points
    assert (first.pixels != other.pixels).mean() > 0.5


def test_the_smallest_marks_are_located_too():
    for number in range(16):
        x1, y1, x2, y2 = pair(number, size=64, mark_size=2 / 64)[0].mark_box
        assert 1 <= x2 - x1 <= 5 and 1 <= y2 - y1 <= 5


def test_pictures_vary_in_size_side_light_and_what_is_hidden():
    paintings = [paint(SPECIES[i % 4], np.random.default_rng([1, i]), 96) for i in range(60)]
    spans = [max(p.object_box[2] - p.object_box[0], p.object_box[3] - p.object_box[1]) / 96 for p in paintings]
    assert min(spans) < 0.56 and max(spans) > 0.78
    beaks = [p.points["beak"][0] > p.points["tail"][0] for p in paintings if {"beak", "tail"} <= set(p.points)]
    assert 0.25 < np.mean(beaks) < 0.75
    assert np.std([p.pixels.mean() for p in paintings]) > 10
    seen = [len(p.points) for p in paintings]
    assert max(seen) == len(PARTS) and min(seen) < len(PARTS)


@pytest.mark.parametrize("size", [64, 200, 512])
def test_pictures_of_other_sizes_can_be_painted(size):
    for number in range(4):
        painted, _ = pair(number, size=size)
        assert painted.pixels.shape == (size, size, 3) and painted.pixels.dtype == np.uint8
