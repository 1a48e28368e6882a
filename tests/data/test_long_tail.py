import csv
from collections import Counter

import numpy as np
import pytest

from fgvc.data.long_tail import LongTail, profile, thinned, told, write_kept
from fgvc.data.records import Records
from fgvc.errors import UsageError
from fgvc.taxonomy.tree import Taxonomy

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(50, dtype=np.int32), 30))


def test_the_profile_falls_by_an_equal_factor_from_class_to_class():
    found = profile(100, 3000, 300)
    assert found[0] == 3000 and found[-1] == 300
    np.testing.assert_allclose(found[1:] / found[:-1], 0.1 ** (1 / 99), rtol=4e-3)
    assert profile(1, 7, 2).tolist() == [7] and profile(3, 30, 3).tolist() == [30, 9, 3]


def test_every_class_keeps_its_number_and_the_numbers_are_those_of_the_profile():
    kept = thinned(LABELS, 50, LongTail(30, 3))
    counts = Counter(LABELS[kept].tolist())
    wanted = sorted(int(30 * 0.1 ** (i / 49) + 0.5) for i in range(50))
    assert sorted(counts.values()) == wanted
    assert kept.tolist() == sorted(set(kept.tolist()))


def test_it_is_a_function_of_labels_and_seed_and_the_seed_changes_classes_and_images():
    first = thinned(LABELS, 50, LongTail(30, 3))
    assert thinned(LABELS.copy(), 50, LongTail(30, 3)).tolist() == first.tolist()
    other = thinned(LABELS, 50, LongTail(30, 3, seed=1))
    counts = [np.bincount(LABELS[kept], minlength=50) for kept in (first, other)]
    assert counts[0].tolist() != counts[1].tolist() and sorted(counts[0]) == sorted(counts[1])
    assert abs(np.corrcoef(counts[0], np.arange(50))[0, 1]) < 0.5  # not the order of the list
    one = int(np.argmax(np.minimum(*counts)))  # of a class that keeps most of its images in both, others stay
    assert set(first[LABELS[first] == one]) != set(other[LABELS[other] == one])


def test_a_thinner_tail_is_a_part_of_a_thicker_one():
    thick, thin = thinned(LABELS, 50, LongTail(30, 5)), thinned(LABELS, 50, LongTail(20, 2))
    assert set(thin.tolist()) < set(thick.tolist())


def test_a_class_with_fewer_images_keeps_them_all_and_coarse_labels_stay():
    # leaves 0 .. 2, of which 1 has nothing; node 3 is a genus, -1 unknown
    labels = np.array([3, -1, 0, 0, 0, 0, 2, 3, 2], dtype=np.int32)
    for seed in range(4):
        kept = thinned(labels, 3, LongTail(3, 3, seed))
        assert Counter(labels[kept].tolist()) == {0: 3, 2: 2, 3: 2, -1: 1}
    assert thinned(np.zeros(0, dtype=np.int32), 3, LongTail(3, 1)).tolist() == []


@pytest.mark.parametrize(("most", "least", "seed"), [(3, 4, 0), (3, 0, 0), (0, 0, 0), (3, 1, -1)])
def test_numbers_that_make_no_tail_are_refused(most, least, seed):
    with pytest.raises(UsageError, match=r"data\.long_tail"):
        LongTail(most, least, seed).check()


def test_what_is_kept_is_told_and_written(tmp_path):
    assert told(np.array([12, 0, 3]), 100, 15) == (
        "long tail: 15 of 100 training images are kept, 12 to 3 per class (data.long_tail)"
    )
    tree = Taxonomy(("genus", "species"), [("Larus", "canus"), ("Sterna", "hirundo")])
    write_kept(tmp_path / "kept.csv", Records(["a, b.jpg", "c.jpg", "d.jpg"], [0, tree.node("genus", 1), -1]), tree)
    with (tmp_path / "kept.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["path", "class"], ["a, b.jpg", "canus"], ["c.jpg", "Sterna"], ["d.jpg", ""]]
