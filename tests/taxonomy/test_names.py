import random

import pytest

from fgvc.errors import UsageError
from fgvc.taxonomy.names import nodes_named, written_names
from fgvc.taxonomy.tree import Taxonomy

RAGGED = Taxonomy(
    ("order", "genus", "species"),
    [
        ("Passerines", "Prunella", "Dunnock"),
        ("Owls", "Strix", "Tawny Owl"),
        ("Mints", "Prunella", "Selfheal"),  # a plant genus of the same name
        ("Owls", "Owls", "Owls"),  # nothing is known below the order
        ("Mints", "Mentha", "Strix"),  # the name of a genus elsewhere
    ],
)


def test_a_name_stands_for_its_highest_node_and_a_path_for_its_own():
    def named(*names):
        return [RAGGED.path(node) for node in nodes_named(RAGGED, dict.fromkeys(names, "here"))]

    assert named("Tawny Owl", "Mentha") == [("Owls", "Strix", "Tawny Owl"), ("Mints", "Mentha")]
    assert named("Owls", "Owls > Owls > Owls") == [("Owls",), ("Owls", "Owls", "Owls")]
    assert named("Mints > Prunella", "Owls > Strix") == [("Mints", "Prunella"), ("Owls", "Strix")]
    for name, paths in (
        ("Prunella", {"'Passerines > Prunella'", "'Mints > Prunella'"}),
        ("Strix", {"'Owls > Strix'", "'Mints > Mentha > Strix'"}),
    ):
        with pytest.raises(UsageError, match=f"^row 3: 2 classes are called '{name}'; give a path: ") as caught:
            nodes_named(RAGGED, {"Owls": "row 1", name: "row 3"})
        assert set(str(caught.value).split("give a path: ")[1].split(" or ")) == paths


@pytest.mark.parametrize("seed", range(3))
def test_names_of_random_trees_are_those_of_a_slow_search(seed):
    rng = random.Random(seed)
    leaves = {tuple(rng.choice(letters) for letters in ("ab", "abc", "abcd", "abcdefg")) for _ in range(20)}
    tree = Taxonomy("wxyz", sorted(leaves | {("r", "r", "r", "r")}))
    paths = [tree.path(node) for node in range(tree.num_nodes)]
    outcomes = set()
    for name in sorted({path[-1] for path in paths}):
        called = [path for path in paths if path[-1] == name]
        highest = [path for path in called if not any(path != o and path[: len(o)] == o for o in called)]
        outcomes.add(len(highest) == 1)
        if len(highest) == 1:
            assert [tree.path(node) for node in nodes_named(tree, {name: "x"})] == highest
        else:
            with pytest.raises(UsageError, match=f"x: {len(highest)} classes are called"):
                nodes_named(tree, {name: "x"})
    assert outcomes == {True, False}


def test_an_unknown_name_is_told_with_its_place_its_neighbour_and_how_many_more_there_are():
    with pytest.raises(UsageError, match=r"^row 2: unknown class 'Tawny Ow'; did you mean 'Tawny Owl'\?$"):
        nodes_named(RAGGED, {"Owls": "row 1", "Tawny Ow": "row 2"})
    with pytest.raises(UsageError, match=r"^row 5: unknown class '\?' \(2 more of the 4 names are unknown\)$"):
        nodes_named(RAGGED, {"?": "row 5", "Owls": "row 6", "!": "row 7", "\n": "row 8"})


def test_every_node_is_found_by_its_written_name():
    names = written_names(RAGGED)
    assert nodes_named(RAGGED, dict.fromkeys(names, "here")) == list(range(RAGGED.num_nodes))
    assert names[RAGGED.find("Dunnock")] == "Dunnock"
    assert names[0:2] == ["Dunnock", "Tawny Owl"]
    assert "Mints > Mentha > Strix" in names and "Prunella" not in names
