import numpy as np
import pytest
from fakes.tiny_run import make_photos

from fgvc.data.datamodule import FineGrainedData
from fgvc.data.sources.image_folder import ImageFolder
from fgvc.errors import UsageError
from fgvc.features import whitening as module
from fgvc.features.embedding import embed
from fgvc.features.network import Wishes, read_network
from fgvc.features.whitening import WhitenedFolder, whitening


def vectors(n=200, d=6, seed=0):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, d)) * np.geomspace(10, 0.01, d) @ rng.normal(size=(d, d))
    return (mixed + 5 * rng.normal(size=d)).astype(np.float32)


def by_svd(x, width):
    """Return whitened rows in float64, by the singular vectors of the centred features."""
    centred = x.astype(np.float64) - x.astype(np.float64).mean(axis=0)
    left, _, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :width] * np.sqrt(len(x))


def assert_same_but_for_signs(found, wanted, atol):
    signs = np.sign((found * wanted).sum(axis=0))
    np.testing.assert_allclose(found, wanted * signs, atol=atol)


@pytest.mark.parametrize("width", [1, 3, 6])
@pytest.mark.parametrize("together", [7, 4096])
def test_it_is_that_of_numpys_svd_in_float64(monkeypatch, width, together):
    monkeypatch.setattr(module, "_TOGETHER", together)
    x = vectors()
    assert_same_but_for_signs(whitening(x, width).apply(x), by_svd(x, width), 1e-3)


def test_what_it_was_learned_on_has_no_covariance_left():
    x = vectors()
    white = whitening(x).apply(x).astype(np.float64)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(white.T @ white / len(x), np.eye(6), atol=1e-3)


def test_distances_between_others_are_those_of_mahalanobis():
    x, others = vectors(), vectors(4, seed=1)
    found = whitening(x).apply(others).astype(np.float64)
    inverse = np.linalg.inv(np.cov(x.astype(np.float64).T, bias=True))
    for i in range(4):
        for j in range(4):
            gap = others[i].astype(np.float64) - others[j]
            assert np.sum((found[i] - found[j]) ** 2) == pytest.approx(gap @ inverse @ gap, rel=1e-2, abs=1e-6)


def test_fewer_photographs_than_numbers_span_less():
    x = vectors(5, 9)
    assert whitening(x).projection.shape == (9, 4)
    white = whitening(x).apply(x).astype(np.float64)
    np.testing.assert_allclose(white.T @ white / 5, np.eye(4), atol=1e-3)
    with pytest.raises(UsageError, match="width 5; give 1 to 4: so many directions vary"):
        whitening(x, 5)


def test_a_number_that_never_changes_is_left_out():
    x = vectors()
    x[:, 2] = 7
    assert whitening(x).projection.shape == (6, 5)


@pytest.mark.parametrize(
    ("features", "told"),
    [
        (np.zeros((3, 2, 4, 4), np.float32), "it takes vectors"),
        (vectors(1), "1 photographs; it takes at least 2"),
        (np.ones((4, 3), np.float32), "give 1 to 0"),
        (np.full((4, 3), np.nan, np.float32), "hold what is no number"),
    ],
)
def test_what_cannot_be_whitened_is_refused(features, told):
    with pytest.raises(UsageError, match=told):
        whitening(features)


def test_a_folder_is_whitened_where_it_is_read(tmp_path):
    photos = make_photos(tmp_path / "photos", train=6, val=0, test=2)
    data = FineGrainedData(ImageFolder(str(photos), ["genus", "species"]), val_fraction=0)
    network = read_network("test_resnet", Wishes(weights="none", image_size=32))
    folder = embed(network, data, tmp_path / "f", device="cpu")
    white = WhitenedFolder(folder, width=4)
    train, test = white.part("train"), white.part("test")
    assert train.features.shape == (18, 4) and test.paths == folder.part("test").paths
    assert_same_but_for_signs(train.features, by_svd(folder.part("train").features, 4), 5e-3)
    with pytest.raises(UsageError, match="no features of split 'val'"):
        WhitenedFolder(folder, "val")
