import hashlib
import math
from collections import Counter

import numpy as np
import pytest

from fgvc.data.splitting import name_keys, random_keys, stratified_folds, stratified_split
from fgvc.errors import UsageError

WORD = 2**64


def splitmix(seed, count):
    """SplitMix64 in Python's unbounded integers."""
    state, out = seed % WORD, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % WORD
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
        out.append(z ^ (z >> 31))
    return out


def slow_split(labels, fraction, seed):
    """Return the held-out positions by the rule of the docstring, one class at a time."""
    keys = splitmix(seed, len(labels))
    held, seen = set(), 0
    for label in sorted(set(labels)):
        members = sorted((i for i, other in enumerate(labels) if other == label), key=lambda i: keys[i])
        if len(members) == 1:
            continue
        share = math.floor(fraction * (seen + len(members)) + 0.5) - math.floor(fraction * seen + 0.5)
        seen += len(members)
        held.update(members[: min(share, len(members) - 1)])
    return held


def test_random_keys_are_the_published_first_numbers_of_splitmix64():
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert random_keys(1234567, 4).tolist() == published


def test_random_keys_take_negative_and_huge_seeds_without_a_warning():
    for seed in (-1, 0, 2**64 - 1, 2**70 + 5):
        assert random_keys(seed, 3).tolist() == splitmix(seed, 3)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 1 / 3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("seed", [0, 7, -3])
def test_split_is_what_a_slow_loop_chooses(fraction, seed):
    labels = np.random.default_rng(5).zipf(1.5, 400).clip(max=60) - 2  # long-tailed, with -1 and singletons
    mask = stratified_split(labels, fraction, seed)
    assert mask.dtype == bool
    assert set(np.flatnonzero(mask).tolist()) == slow_split(labels.tolist(), fraction, seed)


def test_split_chosen_by_hand():
    # keys of seed 0 begin 0xe220..., 0x6e78..., 0x06c4..., 0xf88b... : of 0..3 the lowest is 2, then 1
    assert np.flatnonzero(stratified_split(np.zeros(4, int), 0.25, 0)).tolist() == [2]
    assert np.flatnonzero(stratified_split(np.zeros(4, int), 0.5, 0)).tolist() == [1, 2]


def test_small_classes_give_two_and_three_in_turn_so_that_the_total_is_right():
    mask = stratified_split(np.repeat(np.arange(200), 24), 0.1, 0)
    counts = np.bincount(np.repeat(np.arange(200), 24)[mask], minlength=200)
    assert set(counts.tolist()) == {2, 3}
    assert mask.sum() == 480


def test_every_class_keeps_one_record_and_a_class_of_one_is_never_held_out():
    labels = np.repeat(np.arange(50), np.arange(1, 51))
    for fraction in (0.1, 0.5, 0.999):
        mask = stratified_split(labels, fraction, 3)
        assert np.bincount(labels[~mask], minlength=50).min() >= 1
        assert not mask[0]


def test_more_classes_than_sixteen_bits_count():
    labels = np.tile(np.arange(70_000), 2)
    first, second = random_keys(3, 140_000).reshape(2, -1)
    assert (stratified_split(labels, 0.5, 3) == np.concatenate([first < second, second < first])).all()


def test_unknown_labels_and_inner_nodes_are_strata_of_their_own():
    labels = np.array([-1] * 10 + [0] * 10 + [900] * 10)
    assert Counter(labels[stratified_split(labels, 0.2, 1)].tolist()) == {-1: 2, 0: 2, 900: 2}


def test_other_seed_other_records_same_counts():
    labels = np.repeat(np.arange(10), 30)
    first, second = stratified_split(labels, 0.2, 0), stratified_split(labels, 0.2, 1)
    assert (first != second).any()
    assert np.bincount(labels[first]).tolist() == np.bincount(labels[second]).tolist()


def test_the_global_random_state_is_neither_read_nor_moved():
    labels = np.repeat(np.arange(5), 9)
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = stratified_split(labels, 0.3, 0)
    np.random.seed(2)
    assert (first == stratified_split(labels, 0.3, 0)).all()
    np.random.seed(1)
    stratified_split(labels, 0.3, 0)
    assert (np.random.get_state()[1] == before).all()


def test_name_keys_are_the_first_eight_bytes_of_blake2b_and_do_not_mind_the_spelling_of_accents():
    expected = int.from_bytes(hashlib.blake2b("M\u00f6we/1.jpg".encode(), digest_size=8).digest(), "big")
    assert name_keys(["M\u00f6we/1.jpg", "Mo\u0308we/1.jpg", "M\u00f6we/2.jpg"]).tolist()[:2] == [expected, expected]
    assert len(set(name_keys(f"{i}" for i in range(1000)).tolist())) == 1000
    assert len(name_keys([])) == 0


def test_keys_make_the_choice_independent_of_the_order_of_records():
    names = [f"class{i % 7}/{i}.jpg" for i in range(140)]
    labels = np.arange(140) % 7
    held = {names[i] for i in np.flatnonzero(stratified_split(labels, 0.2, 4, keys=name_keys(names)))}
    order = np.random.default_rng(0).permutation(140)
    shuffled = [names[i] for i in order]
    mask = stratified_split(labels[order], 0.2, 4, keys=name_keys(shuffled))
    assert {shuffled[i] for i in np.flatnonzero(mask)} == held
    other = stratified_split(labels, 0.2, 5, keys=name_keys(names))
    assert {names[i] for i in np.flatnonzero(other)} != held


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("number", [4, 30, 300])
def test_no_group_is_cut_every_class_stays_in_train_and_the_total_is_near(number, seed):
    draw = np.random.default_rng(seed)
    labels, groups = draw.integers(0, 12, 900), draw.integers(0, number, 900) * 10**12
    mask = stratified_split(labels, 0.2, seed, groups)
    sides = {}
    for group, side in zip(groups.tolist(), mask.tolist(), strict=True):
        assert sides.setdefault(group, side) == side
    assert set(labels[~mask].tolist()) == set(labels.tolist())
    largest = max(Counter(groups.tolist()).values())
    assert abs(mask.sum() - 180) <= max(largest, 9)


def test_groups_keep_the_classes_balanced_where_they_can():
    labels = np.repeat(np.arange(20), 50)
    groups = np.arange(1000) // 2  # pairs of one class
    counts = np.bincount(labels[stratified_split(labels, 0.2, 0, groups)], minlength=20)
    assert counts.min() >= 8
    assert counts.max() <= 12
    assert counts.sum() == pytest.approx(200, abs=4)


def test_large_groups_are_not_preferred():
    sizes = [1] * 300 + [10] * 30
    groups = np.repeat(np.arange(330), sizes)
    labels = np.zeros(len(groups), int)
    from_large = [(groups[stratified_split(labels, 0.3, s, groups)] >= 300).mean() for s in range(20)]
    assert 0.4 < np.mean(from_large) < 0.6  # half of the records are in large groups


def test_with_only_huge_groups_one_whole_group_is_held_out():
    labels = np.tile(np.arange(5), 60)
    groups = np.repeat(np.arange(3), 100)
    mask = stratified_split(labels, 0.1, 0, groups)
    assert mask.sum() == 100
    assert len(set(groups[mask].tolist())) == 1


def test_nothing_is_held_out_where_each_class_is_one_group():
    labels = np.repeat(np.arange(4), 10)
    assert not stratified_split(labels, 0.2, 0, labels).any()


def test_no_records_give_an_empty_mask():
    nothing = np.zeros(0, dtype=np.int64)
    assert stratified_split(nothing, 0.1, 0).shape == (0,)
    assert stratified_split(nothing, 0.1, 0, nothing).shape == (0,)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 5, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(UsageError, match="at least 0 and less than 1"):
        stratified_split(np.zeros(3, int), fraction, 0)


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_hold_every_record_once_and_differ_by_one_in_each_stratum_and_in_all(folds):
    labels = np.repeat(np.arange(-1, 9), [1, 2, 3, 4, 5, 6, 7, 20, 50, 101])
    labels = np.random.default_rng(0).permutation(labels)
    for seed in (0, 1):
        fold = stratified_folds(labels, folds, seed)
        for part in [np.ones(len(labels), dtype=bool), *(labels == label for label in range(-1, 9))]:
            counts = [int((fold[part] == k).sum()) for k in range(folds)]
            assert max(counts) - min(counts) <= 1 and sum(counts) == part.sum()
    assert (stratified_folds(labels, folds, 0) != fold).any()
    assert (stratified_folds(labels, folds, 1) == fold).all()


def test_folds_follow_the_keys_and_not_the_order():
    labels, keys = np.arange(60) % 4, name_keys(f"{i}.jpg" for i in range(60))
    fold, turned = stratified_folds(labels, 4, 3, keys=keys), np.random.default_rng(1).permutation(60)
    assert (stratified_folds(labels[turned], 4, 3, keys=keys[turned]) == fold[turned]).all()


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_never_cut_a_group_and_are_as_balanced_as_groups_allow(folds):
    rng = np.random.default_rng(4)
    groups = rng.integers(0, 120, 900)
    labels = (groups + rng.integers(0, 2, 900)) % 6
    fold = stratified_folds(labels, folds, 0, groups)
    assert all(len(set(fold[groups == group])) == 1 for group in set(groups))
    for label in range(6):
        counts = np.bincount(fold[labels == label], minlength=folds)
        assert abs(counts - counts.mean()).max() <= np.bincount(groups[labels == label]).max()
    assert (stratified_folds(labels, folds, 0, groups * 7 + 3) == fold).all()


@pytest.mark.parametrize(
    ("folds", "groups", "said"),
    [
        (1, None, "folds: 1; give at least 2 and at most 6, for there are 6 images"),
        (7, None, "folds: 7; give at least 2 and at most 6, for there are 6 images"),
        (4, np.array([0, 0, 1, 1, 2, 2]), "folds: 4; give at least 2 and at most 3, for there are 3 groups of images"),
    ],
)
def test_folds_that_cannot_be_are_one_line(folds, groups, said):
    with pytest.raises(UsageError) as caught:
        stratified_folds(np.zeros(6, dtype=np.int64), folds, 0, groups)
    assert str(caught.value) == said
