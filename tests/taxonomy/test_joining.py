import pytest

from fgvc.errors import UsageError
from fgvc.taxonomy.joining import joined
from fgvc.taxonomy.tree import Taxonomy

OLD = Taxonomy(
    ("family", "genus", "species"),
    [("Gulls", "Larus", "canus"), ("Gulls", "Sterna", "hirundo"), ("Ducks", "Anas", "acuta")],
)


def paths(tree):
    return [tree.path(leaf) for leaf in range(tree.num_classes)]


def test_a_known_genus_brings_its_family():
    new = Taxonomy(("genus", "species"), [("Anas", "crecca"), ("Larus", "fuscus")])
    both, old, leaves = joined(OLD, new)
    assert both.levels == OLD.levels and paths(both)[:3] == paths(OLD)
    assert (old, leaves) == ([0, 1, 2], [3, 4])
    assert paths(both)[3:] == [("Ducks", "Anas", "crecca"), ("Gulls", "Larus", "fuscus")]
    assert both.size("genus") == 3 and both.size("family") == 2


def test_an_unknown_genus_stands_above_itself():
    both, _, leaves = joined(OLD, Taxonomy(("genus", "species"), [("Cygnus", "olor")]))
    assert both.path(leaves[0]) == ("Cygnus", "Cygnus", "olor")


def test_a_family_brings_a_new_genus_under_it():
    both, _, leaves = joined(OLD, Taxonomy(("family", "genus", "species"), [("Ducks", "Cygnus", "olor")]))
    assert both.path(leaves[0]) == ("Ducks", "Cygnus", "olor") and both.size("family") == 2


def test_names_alone_are_leaves_without_relatives():
    both, _, leaves = joined(OLD, Taxonomy.flat(["olor", "stellata"]))
    assert [both.path(leaf) for leaf in leaves] == [("olor",) * 3, ("stellata",) * 3]


def test_a_flat_tree_takes_names():
    both, old, leaves = joined(Taxonomy.flat(["a", "b"]), Taxonomy.flat(["c"]))
    assert paths(both) == [("a",), ("b",), ("c",)] and (old, leaves) == ([0, 1], [2])


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (Taxonomy(("genus", "species"), [("Larus", "canus")]), "class 'canus': the model knows it already"),
        (Taxonomy.flat(["canus"]), "class 'canus': the model knows it already"),
        (
            Taxonomy(("tribe", "species"), [("x", "y")]),
            "level 'tribe' of the new classes: the model's levels are family",
        ),
        (Taxonomy(("family", "genus"), [("x", "y")]), "end at 'genus', those of the model at 'species'"),
    ],
)
def test_what_does_not_fit_is_refused(new, told):
    with pytest.raises(UsageError, match=told):
        joined(OLD, new)
