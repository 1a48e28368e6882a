"""Generated birds: pose and layer."""

import dataclasses

import numpy as np
import pytest

from fgvc.data.birds.anatomy import ANATOMIES
from fgvc.data.birds.layer import FINE, Layer, Pose, averaged, choose_pose
from fgvc.data.birds.shapes import smooth, turned
from fgvc.data.birds.species import design


def test_a_pose_without_a_nod_is_a_plain_affine_map():
    anatomy = ANATOMIES["percher"]
    matrix = np.array([[0.0, 50.0], [-50.0, 0.0]])
    pose = Pose(anatomy, 0.0, 0.0, matrix, np.array([100.0, 80.0]), np.zeros(2), np.zeros(2))
    assert np.allclose(pose.place([(1.0, 0.0), (0.0, 2.0)]), [[100, 130], [0, 80]])
    assert pose.unit == pytest.approx(50)


def test_a_nod_turns_the_head_about_the_neck_and_leaves_the_feet():
    species, rng = design()[0], np.random.default_rng(1)
    still = dataclasses.replace(choose_pose(rng, species, 384), nod=0.0)
    nodding, anatomy = dataclasses.replace(still, nod=0.2), still.anatomy
    foot = [anatomy.legs[0][2]]
    assert np.allclose(nodding.place(foot), still.place(foot))
    head, neck = np.array([anatomy.head]), np.array(anatomy.neck)
    assert np.allclose(nodding.place(head), still.place(turned(head - neck, 0.2) + neck), atol=1e-6)


def test_whole_birds_of_many_sizes_fit_into_the_picture_looking_both_ways():
    spans, mirrored = [], 0
    for seed in range(200):
        species = design(4, 2, 1, 1)[seed % 8]
        pose = choose_pose(np.random.default_rng(seed), species, 300)
        assert (pose.low >= 0).all() and (pose.high <= 300).all()
        outline = pose.place(smooth(pose.anatomy.outline))
        assert (outline >= pose.low - 1e-6).all() and (outline <= pose.high + 1e-6).all()
        spans.append((pose.high - pose.low).max() / 300)
        mirrored += np.linalg.det(pose.matrix) < 0
    assert min(spans) < 0.53 and max(spans) > 0.83
    assert 60 < mirrored < 140


def test_a_layer_paints_where_the_picture_is_and_cuts_below_a_row():
    pose = choose_pose(np.random.default_rng(0), design()[0], 200)
    layer = Layer(pose, 200)
    x, y = layer.x + 10, layer.y + 8
    square = np.array([[x, y], [x + 20, y], [x + 20, y + 12], [x, y + 12]], float)
    layer.fill(square, (10, 200, 30))
    cover = averaged(layer.cover)
    assert cover.sum() / 255 == pytest.approx(20 * 12, rel=0.15)
    assert (averaged(layer.colour)[12, 14] == (10, 200, 30)).all()
    assert (layer.stencil(square) == layer.cover).all()
    layer.cut_below(y + 6)
    assert averaged(layer.cover).sum() / 255 == pytest.approx(20 * 6, rel=0.2)
    assert not layer.colour[FINE * 14 :].any()


def test_averaging_is_the_mean_of_blocks():
    fine = np.random.default_rng(0).integers(0, 256, (8, 12, 3)).astype(np.uint8)
    blocks = fine.reshape(4, FINE, 6, FINE, 3).mean(axis=(1, 3))
    assert np.abs(averaged(fine) - blocks).max() <= 0.5
