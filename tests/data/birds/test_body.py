"""Generated birds: the painted body."""

import numpy as np
import pytest
from scipy.ndimage import label

from fgvc.data.birds.body import paint_bird, paint_eye, shaded
from fgvc.data.birds.layer import FINE, Layer, averaged, choose_pose
from fgvc.data.birds.species import design

KINDS = design(4, 4, 1, 1)


def bird(species, seed):
    rng = np.random.default_rng(seed)
    pose = choose_pose(rng, species, 256)
    layer = Layer(pose, 256)
    paint_bird(rng, layer, species, pose)
    return rng, pose, layer


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_a_bird_is_one_piece_and_reaches_where_its_pose_says(kind):
    _, pose, layer = bird(KINDS[kind], kind)
    _, pieces = label(layer.cover, np.ones((3, 3)))
    assert pieces == 1
    ys, xs = np.nonzero(layer.cover)
    low, high = np.array([xs.min(), ys.min()]) / FINE, np.array([xs.max(), ys.max()]) / FINE
    corner = np.array([layer.x, layer.y])
    assert np.allclose(low + corner, pose.low, atol=0.16 * pose.unit)
    assert np.allclose(high + corner, pose.high, atol=0.16 * pose.unit)
    assert not layer.colour[layer.cover == 0].any()


def test_orders_families_and_genera_look_different_in_the_same_pose():
    pictures = {}
    for species in design(4, 2, 2, 1):
        _, _, layer = bird(species, 5)
        pictures[species.path[:3]] = averaged(layer.colour).tobytes()
    assert len(set(pictures.values())) == len(pictures)


def test_the_eye_is_dark_with_a_highlight():
    _, pose, layer = bird(KINDS[0], 1)
    before = layer.colour.copy()
    paint_eye(layer, pose)
    new = layer.colour[(layer.colour != before).any(axis=2)].mean(axis=1)
    assert new.min() < 20 and new.max() > 230
    centre = pose.place([pose.anatomy.parts["eye"]])[0]
    x, y = (FINE * (centre - (layer.x, layer.y))).astype(int)
    assert layer.colour[y, x].max() < 60


def test_shading_is_brighter_above_than_below_and_leaves_nothing_outside():
    rng, pose, layer = bird(KINDS[4], 2)
    cover = averaged(layer.cover)
    grey = np.repeat((cover // 2)[:, :, None], 3, axis=2)
    lit = shaded(rng, grey, cover, layer, pose).astype(float)
    assert not lit[cover == 0].any()
    rows = [np.flatnonzero(cover[:, x] == 255) for x in range(cover.shape[1])]
    tops = [lit[row[2:6], x].mean() for x, row in enumerate(rows) if len(row) > 40]
    lows = [lit[row[-6:-2], x].mean() for x, row in enumerate(rows) if len(row) > 40]
    assert np.mean(tops) > np.mean(lows) + 20
