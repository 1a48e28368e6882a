import pytest

from fgvc.errors import UsageError
from fgvc.taxonomy.growing import grow, node_of_path, plain_name

LEVELS = ["family", "genus", "species"]
GULL, TERN = ("Laridae", "Larus", "Larus canus"), ("Laridae", "Sterna", "Sterna hirundo")


def test_full_paths_become_sorted_leaves_whatever_their_order():
    assert grow(LEVELS, [TERN, GULL, TERN]).to_plain()["leaves"] == [list(GULL), list(TERN)]
    assert grow(LEVELS, [GULL, TERN]) == grow(LEVELS, [TERN, GULL])


def test_a_short_path_is_an_inner_node_when_a_longer_one_continues_it():
    tree = grow(LEVELS, [("Laridae",), GULL, ("Laridae", "Larus")])
    assert tree.num_classes == 1
    nodes = node_of_path(tree)
    assert tree.ancestors[nodes["Laridae",]].tolist() == [0, -1, -1]
    assert tree.ancestors[nodes["Laridae", "Larus"]].tolist() == [0, 0, -1]


def test_a_short_path_that_nothing_continues_is_a_leaf_repeating_its_last_name():
    tree = grow(LEVELS, [GULL, ("Laridae", "Sterna"), ("Alcidae",)])
    assert tree.to_plain()["leaves"] == [
        ["Alcidae", "Alcidae", "Alcidae"],
        list(GULL),
        ["Laridae", "Sterna", "Sterna"],
    ]
    assert {("Alcidae",), ("Laridae", "Sterna"), GULL} <= set(node_of_path(tree))


def test_every_node_is_found_under_its_path():
    tree = grow(LEVELS, [GULL, TERN])
    nodes = node_of_path(tree)
    assert len(nodes) == tree.num_nodes == 5
    assert all(tree.path(node) == path for path, node in nodes.items())


def test_no_paths_are_refused():
    with pytest.raises(UsageError, match="at least one level and one class"):
        grow(LEVELS, [])


def test_plain_name_strips_and_composes():
    assert plain_name("  Mo\u0308we ") == "M\u00f6we"
