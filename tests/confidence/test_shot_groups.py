import math

import numpy as np
import pytest

from fgvc.confidence.shot_groups import shot_groups


def slow_groups(counts):
    """One class after the other, from the words of the docstring."""
    trained = [n for n in counts if n > 0]
    if not trained or max(trained) < 10 * min(trained):
        return {}
    usual = ["many" if n > 100 else "few" if n < 20 else "medium" for n in counts]
    if {one for one, n in zip(usual, counts, strict=True) if n > 0} == {"many", "medium", "few"}:
        named = usual
    else:
        low, high = math.log(min(trained)), math.log(max(trained))
        third = (high - low) / 3
        ends = [(low + third, "few"), (high - third, "medium"), (math.inf, "many")]
        named = ["none" if n == 0 else next(name for end, name in ends if math.log(n) < end) for n in counts]
    found = {}
    for name in ("many", "medium", "few"):
        members = [i for i, n in enumerate(counts) if n > 0 and named[i] == name]
        if members:
            found[name] = members
    return found


@pytest.mark.parametrize("most", [9, 11, 35, 250, 4000])
@pytest.mark.parametrize("seed", range(5))
def test_groups_are_those_of_a_slow_loop(most, seed):
    counts = np.random.default_rng(seed).integers(0, most, 60)
    found = {name: np.flatnonzero(mask).tolist() for name, mask in shot_groups(counts).items()}
    assert found == slow_groups(counts.tolist())


def test_the_usual_borders_where_every_group_has_classes():
    groups = shot_groups(np.array([500, 101, 100, 20, 19, 1, 0]))
    assert {name: np.flatnonzero(mask).tolist() for name, mask in groups.items()} == {
        "many": [0, 1],
        "medium": [2, 3],
        "few": [4, 5],
    }


def test_an_exponential_profile_falls_into_equal_thirds():
    counts = np.array([round(20 * 0.1 ** (i / 199)) for i in range(200)])
    sizes = {name: int(mask.sum()) for name, mask in shot_groups(counts).items()}
    assert sum(sizes.values()) == 200 and all(60 <= size <= 75 for size in sizes.values())


def test_borders_that_are_whole_numbers_are_exact():
    # 1 .. 1,000: the thirds end at 10 and at 100, which belong to the middle
    groups = shot_groups(np.array([1, 1, 10, 10, 100, 100, 1000, 9]) * 10**6)
    assert {name: np.flatnonzero(mask).tolist() for name, mask in groups.items()} == {
        "many": [6],
        "medium": [2, 3, 4, 5],
        "few": [0, 1, 7],
    }


@pytest.mark.parametrize("counts", [[9, 1], [0, 0], [0, 7, 7], [30, 4]])
def test_nothing_is_told_apart_below_ten_times(counts):
    assert shot_groups(np.array(counts)) == {}


def test_an_empty_group_is_left_out():
    assert list(shot_groups(np.array([10, 10, 1]))) == ["many", "few"]
