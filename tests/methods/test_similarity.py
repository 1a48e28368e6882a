import math

import numpy as np
import pytest
import torch
from PIL import Image

from fgvc.methods.similarity import fitted_similarity, frames_of, misfit, times, warped


def umeyama(source, target, weights):
    """Return the 2 x 3 similarity transform without mirroring, by the SVD of the weighted covariance, in float64.

    Shinji Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991.
    """
    w = weights / weights.sum()
    ms, mt = w @ source, w @ target
    covariance = (target - mt).T @ (w[:, None] * (source - ms))
    u, d, vt = np.linalg.svd(covariance)
    sign = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ sign @ vt
    scale = np.trace(np.diag(d) @ sign) / (w @ ((source - ms) ** 2).sum(axis=1))
    return np.column_stack([scale * rotation, mt - scale * rotation @ ms])


@pytest.mark.parametrize("seed", range(5))
def test_the_transform_is_the_procrustes_solution(seed):
    rng = np.random.default_rng(seed)
    source, target, weights = rng.random((7, 2)), rng.random((7, 2)), rng.random(7)
    weights[2] = 0
    by_svd = umeyama(np.delete(source, 2, 0), np.delete(target, 2, 0), np.delete(weights, 2))
    source[2] = np.nan
    a, b = fitted_similarity(*(torch.from_numpy(x) for x in (source, target, weights)))
    np.testing.assert_allclose(
        by_svd, [[float(a[0]), -float(a[1]), float(b[0])], [float(a[1]), float(a[0]), float(b[1])]], atol=1e-9
    )
    left = ((source @ by_svd[:, :2].T + by_svd[:, 2] - target) ** 2).sum(axis=1)
    expected = np.nansum(left * weights) / weights.sum()
    assert float(misfit(*(torch.from_numpy(x) for x in (np.nan_to_num(source), target, weights)))) == pytest.approx(
        expected
    )


def test_a_known_turn_is_found_and_a_mirrored_shape_is_not_fitted():
    source = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.5]])
    angle, scale = 0.7, 1.6
    turn = scale * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    target = source @ turn.T + torch.tensor([0.3, -0.2])
    a, b = fitted_similarity(source, target, torch.ones(3))
    torch.testing.assert_close(a, scale * torch.tensor([math.cos(angle), math.sin(angle)]))
    torch.testing.assert_close(b, torch.tensor([0.3, -0.2]))
    assert misfit(source, target, torch.ones(3)) < 1e-10
    mirrored = source * torch.tensor([-1.0, 1.0])
    assert misfit(source, mirrored, torch.ones(3)) > 0.01
    bounded, moved = fitted_similarity(source, target, torch.ones(3), longest=0.8)
    assert float(bounded.norm()) == pytest.approx(0.8)
    torch.testing.assert_close(times(bounded, source.mean(0)) + moved, target.mean(0))  # still about the middle


def test_one_point_alone_is_moved_and_nothing_fits_none():
    one = torch.tensor([[0.2, 0.3], [math.nan, math.nan]])
    a, b = fitted_similarity(one, one + 0.1, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(a, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(b, torch.tensor([0.1, 0.1]))
    assert misfit(one.nan_to_num(), one.nan_to_num(), torch.tensor([1.0, 0.0])) == math.inf
    a, b = fitted_similarity(one, one, torch.zeros(2))
    assert a.tolist() == [1, 0] and b.tolist() == [0, 0]  # the whole image


def test_a_warped_crop_is_what_pillow_makes_of_the_same_transform():
    coarse = np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((96, 96), Image.BICUBIC)
    images = torch.from_numpy(np.array(picture)).view(1, 1, 96, 96)
    a = torch.tensor([[[0.4, 0.2], [0.3, -0.25]]])
    b = torch.tensor([[[0.3, 0.2], [0.3, 0.5]]])
    crops = warped(images, a, b, 64)
    for k in range(2):
        (c, s), (x, y) = a[0, k].tolist(), b[0, k].tolist()
        data = [c * 96 / 64, -s * 96 / 64, x * 96, s * 96 / 64, c * 96 / 64, y * 96]
        by_pillow = np.asarray(picture.transform((64, 64), Image.AFFINE, data, resample=Image.BILINEAR), dtype=float)
        np.testing.assert_allclose(crops[0, k, 0].numpy()[2:-2, 2:-2], by_pillow[2:-2, 2:-2], atol=1.01)  # cut


def test_a_crop_that_shows_many_pixels_is_not_aliased():
    stripes = torch.zeros(1, 1, 128, 128)
    stripes[..., ::2] = 200.0
    crop = warped(stripes, torch.tensor([[[0.9, 0.0]]]), torch.tensor([[[0.05, 0.05]]]), 32)
    assert (crop - 100).abs().max() < 15  # grey, as a small copy of stripes is


def test_the_frame_holds_the_turned_crop():
    root = math.sqrt(0.5)
    frame = frames_of(torch.tensor([0.5 * root, 0.5 * root]), torch.tensor([0.5, 0.1]))  # 45 degrees, side 0.5
    half = 0.5 * root
    torch.testing.assert_close(frame, torch.tensor([0.5 - half, 0.1, 0.5 + half, 0.1 + 2 * half]))


def test_points_that_all_but_coincide_turn_nothing():
    """A part that was not found has its points in one place: rounding must not decide which way its crop is turned."""
    rng = torch.Generator().manual_seed(0)
    sources = torch.rand(20, 5, 2, generator=rng)
    targets = 0.5 + 1e-4 * torch.randn(20, 5, 2, generator=rng)
    a, b = fitted_similarity(sources, targets, torch.ones(20, 5), shortest=0.1, longest=2.0)
    assert torch.allclose(a, torch.tensor([0.1, 0.0]).expand(20, 2))
    middles = times(a, sources.mean(dim=1)) + b
    assert torch.allclose(middles, targets.mean(dim=1), atol=1e-6)
