"""Generated birds: the tree and what tells its members apart."""

from collections import Counter, defaultdict

import pytest

from fgvc.data.birds.species import MARKS, ORDERS, PALETTES, design
from fgvc.errors import UsageError


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 2, 4), (4, 4, 12, 8), (2, 3, 1, 5)])
def test_a_tree_has_the_asked_number_of_members_at_every_level(shape):
    paths = [one.path for one in design(*shape)]
    expected = 1
    for depth, factor in enumerate(shape):
        expected *= factor
        assert len({path[: depth + 1] for path in paths}) == expected
    assert len({path[-1] for path in paths}) == len(paths), "species names are unique without their genus"


def test_only_the_mark_differs_within_a_genus_and_only_the_colours_within_a_family():
    genera, families = defaultdict(list), defaultdict(list)
    for one in design(4, 3, 3, 4):
        genera[one.path[:3]].append(one)
        families[one.path[:2]].append(one)
    for members in genera.values():
        assert len({(one.silhouette, one.beak, one.tail, one.palette) for one in members}) == 1
        assert len({one.mark for one in members}) == len(members)
    for members in families.values():
        assert len({(one.silhouette, one.beak, one.tail) for one in members}) == 1
        assert len({one.palette for one in members}) == 3


def test_families_of_an_order_differ_in_beak_and_tail_and_orders_in_silhouette():
    assert len({order.silhouette for order in ORDERS}) == len(ORDERS)
    for order in ORDERS:
        assert len({beak for _, beak, *_ in order.families}) == len(order.families)
        assert len({tail for _, _, tail, *_ in order.families}) == len(order.families)


def test_no_mark_belongs_to_one_genus():
    counts = Counter(one.mark for one in design())
    assert set(counts) == set(MARKS) and len(set(counts.values())) == 1


def test_names_say_what_is_seen():
    for one in design(4, 4, 4, 8):
        assert one.path[3].startswith(f"{one.palette.mark_word}-{MARKS[one.mark]} {one.palette.word} ")


@pytest.mark.parametrize(
    ("shape", "key"),
    [
        ((5, 1, 1, 1), "num_orders"),
        ((1, 0, 1, 1), "families_per_order"),
        ((1, 1, len(PALETTES) + 1, 1), "genera_per_family"),
        ((1, 1, 1, 9), "species_per_genus"),
    ],
)
def test_a_tree_that_cannot_be_drawn_is_refused(shape, key):
    with pytest.raises(UsageError, match=f"{key} is .*; choose 1 to"):
        design(*shape)
