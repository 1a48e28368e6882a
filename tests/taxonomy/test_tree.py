import copy
import pickle
import random
import tracemalloc

import numpy as np
import pytest
import torch
from fakes.ragged_trees import ragged_tree, under_one_root

from fgvc.errors import UsageError
from fgvc.taxonomy.tree import Taxonomy

BIRDS = Taxonomy(
    ("order", "genus", "species"),
    [
        ("Passerines", "Prunella", "Dunnock"),
        ("Owls", "Strix", "Tawny Owl"),
        ("Passerines", "Prunella", "Alpine Accentor"),
        ("Mints", "Prunella", "Selfheal"),  # a plant genus of the same name
        ("Owls", "Owls", "Owls"),  # ragged: nothing is known below the order
    ],
)


def random_tree(seed: int) -> list[tuple[str, ...]]:
    """Return shuffled leaf paths over few words, so that unrelated nodes share names; some are ragged."""
    rng = random.Random(seed)
    leaves = {(rng.choice("ab"), rng.choice("abc"), rng.choice("abcd"), rng.choice("abcdefg")) for _ in range(40)}
    leaves |= {("r", "s", "s", "s"), ("r", "r", "r", "r")}
    return rng.sample(sorted(leaves), len(leaves))


def test_leaves_keep_their_order_and_nodes_are_numbered_leaves_first():
    assert BIRDS.names("species") == ("Dunnock", "Tawny Owl", "Alpine Accentor", "Selfheal", "Owls")
    assert BIRDS.names("genus") == ("Prunella", "Strix", "Prunella", "Owls")
    assert BIRDS.names("order") == ("Passerines", "Owls", "Mints")
    assert (BIRDS.num_classes, BIRDS.num_nodes, BIRDS.leaf_level) == (5, 12, "species")
    assert [BIRDS.size(level) for level in BIRDS.levels] == [3, 4, 5]
    assert repr(BIRDS) == "Taxonomy(3 order, 4 genus, 5 species)"


def test_ancestors_are_the_classes_above_a_node_and_minus_one_below_it():
    expected = [
        [0, 0, 0], [1, 1, 1], [0, 0, 2], [2, 2, 3], [1, 3, 4],
        [0, 0, -1], [1, 1, -1], [2, 2, -1], [1, 3, -1],
        [0, -1, -1], [1, -1, -1], [2, -1, -1],
    ]  # fmt: skip
    assert BIRDS.ancestors.tolist() == expected
    assert BIRDS.ancestors.dtype == torch.int64


@pytest.mark.parametrize("seed", range(5))
def test_every_ancestor_of_a_random_tree_is_a_prefix_of_the_nodes_path(seed):
    leaves = random_tree(seed)
    taxonomy = Taxonomy("wxyz", leaves)
    for node in range(taxonomy.num_nodes):
        path = taxonomy.path(node)
        for d, level in enumerate(taxonomy.levels):
            above = int(taxonomy.ancestors[node, d])
            assert (above == -1) == (d >= len(path))
            if above >= 0:
                assert taxonomy.path(taxonomy.node(level, above)) == path[: d + 1]
    assert [taxonomy.path(i) for i in range(len(leaves))] == leaves


@pytest.mark.parametrize("seed", range(5))
def test_lca_height_is_the_number_of_levels_that_two_paths_do_not_share(seed):
    leaves = random_tree(seed)
    taxonomy = Taxonomy("wxyz", leaves)
    first, second = torch.cartesian_prod(torch.arange(len(leaves)), torch.arange(len(leaves))).T
    expected = []
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        shared = 0
        while shared < 4 and leaves[a][shared] == leaves[b][shared]:
            shared += 1
        expected.append(4 - shared)
    assert taxonomy.lca_height(first, second).tolist() == expected


@pytest.mark.parametrize("seed", range(3))
def test_unscored_levels_are_the_sums_of_leaf_probabilities_and_scored_ones_keep_their_own(seed):
    leaves = random_tree(seed)
    taxonomy = Taxonomy("wxyz", leaves)
    torch.manual_seed(seed)
    logits = {"z": 5 * torch.randn(7, len(leaves)), "x": torch.randn(7, taxonomy.size("x"))}
    answer = taxonomy.complete(logits)
    assert list(answer) == ["w", "x", "y", "z"]
    probabilities = np.exp(logits["z"].double().numpy())
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    for d, level in ((0, "w"), (2, "y"), (3, "z")):
        for index in range(taxonomy.size(level)):
            path = taxonomy.path(taxonomy.node(level, index))
            below = [k for k, leaf in enumerate(leaves) if leaf[: d + 1] == path]
            np.testing.assert_allclose(answer[level][:, index].exp(), probabilities[:, below].sum(axis=1), atol=1e-6)
    torch.testing.assert_close(answer["x"], logits["x"].log_softmax(dim=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_temperatures_divide_the_logits_of_their_level_in_float32(dtype):
    logits = {
        "species": torch.tensor([[0.1, 2, -3, 0.7, 1.3], [5, 4, 3, 2, 1]]).to(dtype),
        "genus": torch.tensor([[0.3, -1, 2, 0.9], [1, 0, 1, 0]]).to(dtype),
    }
    answer = BIRDS.complete(logits, {"species": 1.7, "order": 9.0})  # the order is not scored, so its T says nothing
    sharpened = np.exp(logits["species"].double().numpy() / 1.7)
    species = sharpened / sharpened.sum(axis=1, keepdims=True)
    genus = np.exp(logits["genus"].double().numpy())
    order = np.stack([species[:, [0, 2]].sum(axis=1), species[:, [1, 4]].sum(axis=1), species[:, 3]], axis=1)
    for level, expected in (
        ("species", species), ("genus", genus / genus.sum(axis=1, keepdims=True)), ("order", order)
    ):  # fmt: skip
        assert answer[level].dtype == torch.float32
        np.testing.assert_allclose(answer[level].exp(), expected, rtol=1e-5)


def test_a_roll_up_of_half_precision_and_extreme_logits_stays_finite_and_in_float32():
    answer = BIRDS.complete({"species": torch.tensor([[300.0, -300, -300, -300, -300]]).bfloat16()})
    assert all(scores.isfinite().all() and scores.dtype == torch.float32 for scores in answer.values())
    assert answer["order"].argmax() == 0


def test_targets_leave_out_unknown_labels_and_levels_below_the_label():
    genus, order = BIRDS.find("Strix"), BIRDS.find("Mints")
    labels = torch.tensor([2, genus, order, -1])
    assert BIRDS.targets(labels, "species").tolist() == [2, -1, -1, -1]
    assert BIRDS.targets(labels, "genus").tolist() == [0, 1, -1, -1]
    assert BIRDS.targets(labels, "order").tolist() == [0, 1, 2, -1]


def test_find_takes_the_finest_bearer_of_a_name_and_says_why_it_cannot():
    assert BIRDS.find("Tawny Owl") == 1
    assert BIRDS.path(BIRDS.find("Strix")) == ("Owls", "Strix")
    assert BIRDS.find("Owls") == 4
    assert BIRDS.path(BIRDS.find("Owls", "order")) == ("Owls",)
    with pytest.raises(UsageError, match="'Prunella' is the name of 2 classes of level 'genus'"):
        BIRDS.find("Prunella")
    with pytest.raises(UsageError, match=r"unknown class 'Dunock' at any level; did you mean 'Dunnock'\?"):
        BIRDS.find("Dunock")
    with pytest.raises(UsageError, match="unknown class 'Dunnock' at order"):
        BIRDS.find("Dunnock", "order")
    with pytest.raises(UsageError, match=r"no level 'specis'.*did you mean 'species'"):
        BIRDS.find("Dunnock", "specis")


def test_lineage_names_the_levels_down_to_a_node():
    assert BIRDS.lineage(2) == {"order": "Passerines", "genus": "Prunella", "species": "Alpine Accentor"}
    assert BIRDS.lineage(BIRDS.find("Strix")) == {"order": "Owls", "genus": "Strix"}
    for node in (-1, 12):
        with pytest.raises(UsageError, match=f"no node {node}; the taxonomy has 12 nodes"):
            BIRDS.path(node)


def test_plain_data_pickles_and_copies_give_the_same_taxonomy():
    for again in (Taxonomy.from_plain(BIRDS.to_plain()), pickle.loads(pickle.dumps(BIRDS)), copy.deepcopy(BIRDS)):  # noqa: S301
        assert again == BIRDS
        assert hash(again) == hash(BIRDS)
        assert torch.equal(again.ancestors, BIRDS.ancestors)
    assert Taxonomy.flat(["a", "b"]) != Taxonomy.flat(["b", "a"])
    assert Taxonomy.flat(["a", "b"]).levels == ("class",)


def test_a_csv_with_a_bom_quotes_and_holes_is_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('\ufefforder,note,species\nOwls,x,"Owl, tawny"\nMints,y,\n', encoding="utf-8")
    taxonomy = Taxonomy.from_csv(path, ["order", "species"])
    assert taxonomy.to_plain() == {
        "levels": ["order", "species"],
        "leaves": [["Owls", "Owl, tawny"], ["Mints", "Mints"]],
    }
    assert Taxonomy.from_csv(path).levels == ("order", "note", "species")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"order,species\nM\xf6we,x\n", "cannot be read as UTF-8 CSV"),
        (b"order,specis\na,b\n", "no column 'species'.*did you mean 'specis'"),
        (b"order,species\n", "at least one level and one class"),
        (b"order,species\n,b\n", "row 0: the coarsest level is empty"),
        (b"order,species\na,b\na,b\n", "row 1: the class a > b appears twice"),
    ],
)
def test_an_unfit_csv_is_one_line_that_names_the_file(tmp_path, content, message):
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        Taxonomy.from_csv(path, ["order", "species"])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("levels", "leaves", "message"),
    [
        ((), [], "at least one level"),
        (("a",), [], "one class"),
        (("a", "b"), [("x", "y"), ("z",)], "row 1: 1 names for 2 levels"),
        (("a",), [("x",), ("x",)], "row 1: the class x appears twice"),
    ],
)
def test_an_impossible_tree_is_refused(levels, leaves, message):
    with pytest.raises(UsageError, match=message):
        Taxonomy(levels, leaves)


def test_ten_thousand_classes_need_no_square_table():
    taxonomy = Taxonomy(
        ("family", "genus", "species"), [(f"f{i % 300}", f"g{i % 3000}", f"s{i}") for i in range(10_000)]
    )
    assert taxonomy.ancestors.numel() * 8 < 2**20
    first, second = torch.randint(10_000, (2, 64), generator=torch.Generator().manual_seed(0))
    with torch.profiler.profile(profile_memory=True) as profile:
        taxonomy.lca_height(first, second)
        taxonomy.targets(first, "family")
        taxonomy.complete({"species": torch.zeros(4, 10_000)})
    assert 0 < max(event.cpu_memory_usage for event in profile.events()) < 2**20  # a K x K table of bits is 12 MiB
    tracemalloc.start()
    assert taxonomy.find("s9999") == 9_999
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("levels", [("genus", "genus"), ("genus", ""), ("genus", " ")])
def test_levels_without_names_of_their_own_are_refused(levels):
    with pytest.raises(UsageError, match=r"^levels: 'genus', '.*'; each needs a name of its own$"):
        Taxonomy(levels, [("a", "b")])


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_rank_that_all_leaves_share_is_in_no_distance(ranks):
    tree, _ = ragged_tree(0)
    grown = under_one_root(tree, ranks)
    assert grown.dividing_levels == tree.dividing_levels == tree.levels
    first, second = torch.cartesian_prod(torch.arange(tree.num_classes), torch.arange(tree.num_classes)).T
    assert torch.equal(grown.lca_height(first, second), tree.lca_height(first, second))
    assert tree.lca_height(first, second).max() == len(tree.dividing_levels)


def test_a_tree_of_one_leaf_divides_at_its_leaf_level():
    assert Taxonomy(["family", "species"], [("a", "b")]).dividing_levels == ("species",)
