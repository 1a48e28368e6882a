"""Generated birds: the mark."""

import numpy as np
import pytest

from fgvc.data.birds.body import paint_bird
from fgvc.data.birds.layer import FINE, Layer, choose_pose
from fgvc.data.birds.mark import balanced, mark_at, paint_mark
from fgvc.data.birds.species import MARKS, design

BY_MARK = {one.mark: one for one in design(3, 2, 2, 4)}


def bird(species, seed=0):
    rng = np.random.default_rng(seed)
    pose = choose_pose(rng, species, 384)
    layer = Layer(pose, 384)
    paint_bird(rng, layer, species, pose)
    return layer, pose


def test_core_and_rim_together_have_the_colour_of_the_plumage():
    rng = np.random.default_rng(0)
    for _ in range(300):
        ground, wanted, ratio = rng.uniform(20, 230, 3), rng.uniform(0, 255, 3), rng.uniform(0.5, 3)
        core, rim = balanced(ground, wanted, ratio)
        assert np.allclose((core + ratio * rim) / (1 + ratio), ground)
        assert min(core.min(), rim.min()) >= -1e-9 and max(core.max(), rim.max()) <= 255 + 1e-9


def test_the_core_is_what_was_wanted_where_the_rim_can_make_up_for_it():
    core, rim = balanced(np.full(3, 120.0), np.array([180.0, 120.0, 60.0]), 1.0)
    assert np.allclose(core, [180, 120, 60]) and np.allclose(rim, [60, 120, 180])


@pytest.mark.parametrize("mark", MARKS)
def test_a_painted_mark_leaves_the_mean_colour_of_its_place(mark):
    layer, pose = bird(BY_MARK[mark])
    before = layer.colour.copy()
    where = paint_mark(layer, BY_MARK[mark], pose, 16.0) > 0
    assert np.abs(layer.colour[where].mean(axis=0) - before[where].mean(axis=0)).max() < 1.0
    assert (layer.colour[~where] == before[~where]).all()
    assert np.abs(layer.colour[where].astype(int) - before[where].astype(int)).max() > 40


@pytest.mark.parametrize("mark", MARKS)
def test_marks_of_all_places_cover_the_same_area_of_the_bird(mark):
    layer, pose = bird(BY_MARK[mark])
    where = paint_mark(layer, BY_MARK[mark], pose, 16.0)
    area = (where > 0).sum() / FINE**2
    foreshortened = abs(np.linalg.det(pose.matrix)) / pose.unit**2
    # Forked tails and the edge of the head may cut a little off; drawn outlines are half a fine pixel fatter.
    assert area == pytest.approx(np.pi * 8**2 * foreshortened, rel=0.25)


def test_an_invisible_mark_changes_nothing_and_is_still_located():
    layer, pose = bird(BY_MARK["rump"])
    before = layer.colour.copy()
    where = paint_mark(layer, BY_MARK["rump"], pose, 16.0, visible=False)
    assert (layer.colour == before).all() and where.any()


def test_a_mark_sits_at_its_body_part_and_follows_the_lifted_tail():
    for mark, species in BY_MARK.items():
        layer, pose = bird(species, seed=3)
        core, whole, _ = mark_at(species, pose, 16.0)
        if mark != "tail":
            assert np.allclose(core.mean(axis=0), pose.place([pose.anatomy.parts[mark]])[0], atol=1.5)
        ys, xs = np.nonzero(paint_mark(layer, species, pose, 16.0))
        assert abs(xs.mean() / FINE + layer.x - whole[:, 0].mean()) < 4
        assert abs(ys.mean() / FINE + layer.y - whole[:, 1].mean()) < 4
