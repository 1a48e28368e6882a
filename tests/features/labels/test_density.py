import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from fgvc.errors import UsageError
from fgvc.features.labels import density as file
from fgvc.features.labels.density import FORMS, centred_on, density_of, distances, neighbour, reduced, value_at


def lattice(images, width=3, seed=0, most=9):
    """Whole numbers whose mean is 0: float32 knows their distances to the last bit, whatever the blocks."""
    some = np.random.default_rng(seed).integers(0, most, (images // 2, width))
    return np.concatenate([some, -some]).astype(np.float32)


def slow_counting(vectors):
    apart = [[math.dist(a, b) for b in vectors.tolist()] for a in vectors.tolist()]
    every = sorted(d for row in apart for d in row)
    cut = every[int(0.6 * len(every))]
    return [sum(d < cut for d in row) - 1 for row in apart]


def slow_gaussian(vectors):
    apart = [[math.dist(a, b) for b in vectors.tolist()] for a in vectors.tolist()]
    largest = max(d for row in apart for d in row)
    return [sum(math.exp(-((d / largest) ** 2) / 2) / math.sqrt(2 * math.pi) for d in row) for row in apart]


def slow_neighbours(vectors, k):
    found = [sorted(math.dist(a, b) for b in vectors.tolist())[k] for a in vectors.tolist()]
    middle = sorted(found)[len(found) // 2 - 1 : len(found) // 2 + 1]
    return [1 / (1 + d / (sum(middle) / 2)) for d in found]


SLOW = {"counting": slow_counting, "gaussian": slow_gaussian, "neighbours": lambda vectors: slow_neighbours(vectors, 5)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("block", [1, 100, 1 << 20])
def test_each_form_is_its_slow_loop_whatever_the_blocks(form, block):
    vectors = lattice(46)
    np.testing.assert_allclose(density_of(form)(vectors, block), SLOW[form](vectors), rtol=1e-6)


def test_the_fifth_neighbour_is_looked_at_and_in_large_classes_that_of_five_percent():
    assert [neighbour(n) for n in (3, 50, 100, 101, 200, 3000)] == [5, 5, 5, 5, 10, 150]
    vectors = lattice(400, seed=1, most=40)
    np.testing.assert_allclose(density_of("neighbours")(vectors), slow_neighbours(vectors, 20), rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_five_thousand_photographs_in_small_blocks_are_exact(form):
    vectors = lattice(5000, most=200)
    apart = cdist(vectors.astype(np.float64), vectors.astype(np.float64))
    if form == "counting":
        cut = np.partition(apart, int(0.6 * 5000**2), axis=None)[int(0.6 * 5000**2)]
        expected = (apart < cut).sum(axis=1) - 1
        # float32 rounds the root of a whole number, so two different roots may be one: below 1e-6 of them are
        found = density_of(form)(vectors, 5000 * 37)
        assert np.abs(found - expected).max() == 0
        return
    if form == "gaussian":
        expected = np.exp(-((apart / apart.max()) ** 2) / 2).sum(axis=1) / math.sqrt(2 * math.pi)
    else:
        place = np.partition(apart, 250, axis=1)[:, 250]
        expected = 1 / (1 + place / np.median(place))
    np.testing.assert_allclose(density_of(form)(vectors, 5000 * 37), expected, rtol=1e-5)


def test_no_block_has_more_numbers_than_it_may_and_one_row_at_least():
    vectors = lattice(50)
    assert [some.shape for some in distances(vectors, 120)] == [(2, 50)] * 25
    assert [some.shape for some in distances(vectors, 7)] == [(1, 50)] * 50
    whole = np.concatenate([*distances(vectors, 120)])
    np.testing.assert_allclose(whole, cdist(vectors, vectors), rtol=1e-6)
    assert (whole.diagonal() == 0).all()


def test_distances_of_vectors_far_from_zero_do_not_cancel():
    vectors = np.random.default_rng(0).normal(1000, 1, (40, 8))
    np.testing.assert_allclose(np.concatenate([*distances(vectors)]), cdist(vectors, vectors), rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_the_number_at_a_place_is_that_of_the_sorted_ones(scale):
    rng = np.random.default_rng(0)
    numbers = (rng.exponential(scale, (7, 300))).astype(np.float32)
    numbers[2] = numbers[3]  # some twice
    numbers[4, :50] = 0
    in_order = np.sort(numbers.ravel())
    for place in (0, 1, 49, 50, 1260, 2098, 2099):
        assert value_at(lambda: iter(numbers), place) == in_order[place]


@pytest.mark.parametrize(("images", "wide"), [(300, 400), (300, 280), (5000, 260)])
def test_principal_components_are_those_of_the_singular_values(images, wide):
    vectors = np.random.default_rng(0).normal(3, 1, (images, wide)) * np.linspace(3, 0.1, wide)
    found = reduced(vectors)
    assert found.shape == (images, 256)
    apart = vectors - vectors.mean(axis=0)
    left, singular, _ = np.linalg.svd(apart, full_matrices=False)
    expected = left[:, :256] * singular[:256]
    some = np.random.default_rng(1).permutation(images)[:100]
    np.testing.assert_allclose(cdist(found[some], found[some]), cdist(expected[some], expected[some]), atol=1e-4)


def test_fewer_photographs_than_components_keep_their_distances_as_they_are():
    vectors = np.random.default_rng(0).normal(size=(100, 400))
    assert reduced(vectors) is vectors
    left, singular, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(cdist(left * singular, left * singular), cdist(vectors, vectors), atol=1e-9)


def test_angles_are_measured_from_the_mean_of_all_classes():
    features, mean = np.array([[3.0, 5.0], [3.0, 11.0], [7.0, 1.0], [3.0, 1.0]]), np.array([3.0, 1.0])
    assert centred_on(features, mean).tolist() == [[0, 1], [0, 1], [1, 0], [0, 0]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("images", [1, 2, 4])
def test_a_few_photographs_and_copies_of_one_have_finite_densities(form, images):
    assert np.isfinite(density_of(form)(lattice(4)[:images])).all()
    same = density_of(form)(np.ones((images, 3), dtype=np.float32))
    assert np.isfinite(same).all() and len(set(same.tolist())) == 1


def test_a_form_that_is_none_is_refused():
    with pytest.raises(UsageError, match="density 'gauss'; it is one of counting, gaussian, neighbours"):
        density_of("gauss")


def test_the_block_of_a_class_of_fifty_thousand_is_some_hundred_rows():
    rows = max(1, file.BLOCK // 50_000)
    assert 100 < rows < 1000 and rows * 50_000 * 4 <= 64 << 20
