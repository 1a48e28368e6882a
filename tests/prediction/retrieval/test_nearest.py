import numpy as np
import pytest
from scipy.spatial.distance import cdist

from fgvc.errors import UsageError
from fgvc.prediction.retrieval import nearest as module
from fgvc.prediction.retrieval.nearest import ExactSearch


def vectors(n, d=12, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def by_hand(queries, gallery, k, metric, barred=()):
    """Sort all distances of scipy in float64; Python's sort keeps the order of equal ones."""
    table = cdist(queries.astype(np.float64), gallery.astype(np.float64), metric)
    places = []
    for query, row in enumerate(table):
        there = [place for place in range(len(gallery)) if (query, place) not in barred]
        places.append(sorted(there, key=row.__getitem__)[:k])
    values = [[row[place] for place in one] for row, one in zip(table, places, strict=True)]
    return places, 1 - np.array(values) if metric == "cosine" else np.array(values)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("k", "block"), [(1, 7), (5, 7), (5, 1000), (40, 7)])
def test_neighbours_are_those_of_all_distances_of_scipy(metric, k, block, monkeypatch):
    monkeypatch.setattr(module, "GALLERY", block)
    monkeypatch.setattr(module, "QUERIES", 4)
    gallery, queries = vectors(60) + 3, vectors(9, seed=1) + 3
    barred = np.array([[0, 3], [5, 59], [8, 0], [8, 1]])
    found = ExactSearch(gallery, metric).nearest(queries, k, barred)
    places, values = by_hand(queries, gallery, k, metric, {(a, b) for a, b in barred.tolist()})
    assert found.places.tolist() == places
    np.testing.assert_allclose(found.values, values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("block", [3, 16, 500])
def test_copies_keep_the_order_of_the_gallery_whatever_the_blocks(metric, block, monkeypatch):
    monkeypatch.setattr(module, "GALLERY", block)
    gallery = np.repeat(vectors(6, 33), 40, axis=0)[np.random.default_rng(2).permutation(240)]
    queries = gallery[:5]
    found = ExactSearch(gallery, metric).nearest(queries, 30)  # more copies than there are spare candidates
    for query, places, values in zip(queries, found.places, found.values, strict=True):
        assert places.tolist() == np.flatnonzero((gallery == query).all(axis=1)).tolist()[:30]
        np.testing.assert_allclose(values, 1 if metric == "cosine" else 0, atol=1e-12)


def test_far_from_the_origin_the_distances_still_are_exact():
    gallery = vectors(500, 8) * 1e-3 + 100  # the squares differ in their last digits alone
    found = ExactSearch(gallery, "euclidean").nearest(gallery[:20], 3)
    places, values = by_hand(gallery[:20], gallery, 3, "euclidean")
    np.testing.assert_allclose(found.values, values, rtol=1e-9)
    assert found.places.tolist() == places


def test_a_small_gallery_has_fewer_neighbours():
    found = ExactSearch(vectors(3)).nearest(vectors(2, seed=1), 5, np.array([[1, 0], [1, 1], [1, 2]]))
    assert sorted(found.places[0].tolist()) == [-1, -1, 0, 1, 2] and found.places[1].tolist() == [-1] * 5
    assert np.isnan(found.values[0, 3:]).all() and np.isnan(found.values[1]).all()


def test_a_vector_of_zeros_is_like_nothing():
    gallery = np.array([[1, 0], [0, 0], [-1, 0]], np.float32)
    found = ExactSearch(gallery).nearest(np.array([[2, 0], [0, 0]], np.float32), 3)
    assert found.places.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert found.values.tolist() == [[1, 0, -1], [0, 0, 0]]


def test_each_block_is_told(monkeypatch):
    monkeypatch.setattr(module, "QUERIES", 4)
    seen = []
    ExactSearch(vectors(5)).nearest(vectors(9), 1, told=seen.append)
    assert seen == [4, 4, 1]


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match="the gallery is empty"):
        ExactSearch(vectors(0))
    with pytest.raises(UsageError, match=r"shape \(2, 3, 4, 4\): vectors are compared"):
        ExactSearch(np.zeros((2, 3, 4, 4), np.float32))
    with pytest.raises(UsageError, match=r"metric: 'cosin'; it is cosine or euclidean; did you mean 'cosine'"):
        ExactSearch(vectors(2), "cosin")
    with pytest.raises(UsageError, match="top_k: 0; give 1 or more"):
        ExactSearch(vectors(2)).nearest(vectors(2), 0)
    with pytest.raises(UsageError, match="the gallery's vectors have 12 numbers"):
        ExactSearch(vectors(2)).nearest(vectors(2, 5), 1)
