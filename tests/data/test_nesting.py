import pytest

from fgvc.data.nesting import Nesting, nesting


def tree(outer, inner, pictures=3, name="{o} kind {i}"):
    return [f"{o}/{name.format(o=o, i=i)}/{n}.jpg" for o in outer for i in range(inner) for n in range(pictures)]


KINDS = ("apple", "pear", "plum")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (tree(KINDS, 27), Nesting(2, 3, 81)),
        ([f"shop/{file}" for file in tree(KINDS, 4)], Nesting(3, 1, 12)),
        ([f"{file[:-5]}session {file[-5]}/1.jpg" for file in tree(KINDS, 4)], Nesting(2, 3, 12)),  # visits are no class
        (tree(KINDS, 2) + [f"apple/loose {n}.jpg" for n in range(9)], Nesting(2, 3, 6)),
    ],
)
def test_inner_folders_with_names_of_their_own_are_probably_the_classes(files, found):
    assert nesting(files) == found


@pytest.mark.parametrize(
    "files",
    [
        [],
        [f"{kind}/{n}.jpg" for kind in KINDS for n in range(5)],
        tree(KINDS, 4, name="{i}"),  # the same four names in each: years, or sides
        tree(KINDS, 2, name="left {i}"),
        tree(KINDS, 1),  # one folder more around the pictures of each class
        tree(("apple",), 2, pictures=1) + [f"{kind}/{n}.jpg" for kind in KINDS for n in range(9)],  # most lie outside
    ],
)
def test_folders_that_mean_nothing_are_left_alone(files):
    assert nesting(files) is None


def test_the_sentence_names_the_key_and_the_way_out():
    assert Nesting(2, 3, 81).told("shop") == (
        "81 folders with names of their own lie 2 deep in shop, but the outermost alone are read as classes: 3 classes"
        '; for a tree of 81 classes name its levels, coarse to fine: --data.source.levels "[group, class]" '
        '(levels of "[class]" say that 3 classes are meant)'
    )
    assert '"[level1, level2, class]"' in Nesting(3, 1, 12).told("shop")
    assert "1 class;" in Nesting(3, 1, 12).told("shop") and "that 1 class is meant" in Nesting(3, 1, 12).told("shop")
