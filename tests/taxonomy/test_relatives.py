import random

import pytest
import torch
from fakes.ragged_trees import ragged_tree, under_one_root

from fgvc.errors import UsageError
from fgvc.taxonomy.relatives import (
    ancestors_of,
    below,
    heights,
    leaf_ancestors,
    leaves_below,
    lineage_correct,
    lineage_scores,
    log_marginal,
    parents,
)
from fgvc.taxonomy.tree import Taxonomy


def random_tree(seed, leaves=17, levels=4):
    rng = random.Random(seed)
    paths = set()
    while len(paths) < leaves:
        path = [f"a{rng.randrange(3)}"]
        for depth in range(1, levels):  # a repeated parent makes the tree ragged
            path.append(path[-1] if rng.random() < 0.15 else f"{path[-1]}.{rng.randrange(3)}{depth}")
        paths.add(tuple(path))
    return Taxonomy([f"level{i}" for i in range(levels)], sorted(paths))


@pytest.fixture(params=range(3))
def tree(request):
    return random_tree(request.param)


def leaf_path(tree, leaf):
    return tree.path(leaf)


def test_parents_are_the_paths_one_name_shorter(tree):
    for above, level in zip(tree.levels, tree.levels[1:], strict=False):
        found = parents(tree, level).tolist()
        assert len(found) == tree.size(level)
        for index, parent in enumerate(found):
            assert tree.path(tree.node(above, parent)) == tree.path(tree.node(level, index))[:-1]


def test_the_coarsest_level_has_no_parents(tree):
    with pytest.raises(UsageError, match="'level0' is the coarsest"):
        parents(tree, "level0")


def test_leaf_ancestors_are_the_paths_cut_short(tree):
    for depth, level in enumerate(tree.levels):
        for leaf, node in enumerate(leaf_ancestors(tree, level).tolist()):
            assert tree.path(tree.node(level, node)) == tree.path(leaf)[: depth + 1]


@pytest.mark.parametrize("size", [1.0, 300.0])
def test_marginals_are_the_logarithm_of_the_summed_probabilities(tree, size):
    logits = torch.randn(5, tree.num_classes, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * size
    log_leaf = logits.log_softmax(dim=1)
    for level in tree.levels:
        found = log_marginal(log_leaf, leaf_ancestors(tree, level), tree.size(level))
        for node in range(tree.size(level)):
            inside = [leaf for leaf in range(tree.num_classes) if leaf_ancestors(tree, level)[leaf] == node]
            assert torch.allclose(found[:, node], log_leaf[:, inside].logsumexp(dim=1), atol=1e-10)


def test_marginals_have_the_gradient_of_finite_differences(tree):
    logits = torch.randn(2, tree.num_classes, dtype=torch.float64, requires_grad=True)
    where, size = leaf_ancestors(tree, "level1"), tree.size("level1")
    assert torch.autograd.gradcheck(lambda x: log_marginal(x.log_softmax(dim=1), where, size), logits)


def test_below_a_node_are_the_leaves_whose_path_begins_with_its(tree):
    labels = torch.tensor([*range(tree.num_nodes), -1])
    found = below(tree, labels)
    for row, label in zip(found.tolist(), labels.tolist(), strict=True):
        path = () if label < 0 else tree.path(label)
        assert row == [tree.path(leaf)[: len(path)] == path for leaf in range(tree.num_classes)]


def test_heights_are_those_of_the_taxonomy(tree):
    leaves = torch.arange(tree.num_classes)
    table = heights(tree, leaves)
    for a in range(tree.num_classes):
        assert torch.equal(table[a], tree.lca_height(leaves[a].expand_as(leaves), leaves))


def test_leaves_below_nodes_and_what_lies_above_them_are_those_of_slow_loops(tree):
    rng = random.Random(5)
    sizes = set()
    for count in (0, 1, 1, 1, 2, 3, 5):
        nodes = rng.sample(range(tree.num_nodes), count)
        begun = [tree.path(node) for node in nodes]
        inside = [any(tree.path(leaf)[: len(path)] == path for path in begun) for leaf in range(tree.num_classes)]
        found = leaves_below(tree, iter(nodes))
        assert found.dtype == torch.bool and found.tolist() == inside
        above = ancestors_of(tree, found)
        assert list(above) == list(tree.levels)
        for depth, level in enumerate(tree.levels):
            held = {tree.path(leaf)[: depth + 1] for leaf in range(tree.num_classes) if inside[leaf]}
            assert above[level].tolist() == [tree.path(tree.node(level, i)) in held for i in range(tree.size(level))]
        sizes.add(sum(inside))
    assert len(sizes) > 2 and 0 in sizes


def test_lineages_are_walked_up_from_the_best_leaf(tree):
    generator = torch.Generator().manual_seed(2)
    # The levels contradict each other, so that a best class per level would be seen.
    logs = {level: torch.randn(9, tree.size(level), generator=generator).log_softmax(dim=1) for level in tree.levels}
    labels = torch.tensor([0, 1, 2, 3, 4, 5, tree.num_classes, tree.num_nodes - 1, -1])
    leaves = logs[tree.leaf_level].argmax(dim=1)
    leaves[:3] = torch.tensor([0, 2, 1])  # right, and wrong next door
    logs[tree.leaf_level][torch.arange(3), leaves[:3]] = 0.01  # rounding may lift a probability above 1
    scores, correct = lineage_scores(logs, tree), lineage_correct(leaves, labels, tree)
    for n in range(9):
        path = tree.path(int(leaves[n]))
        truth = () if labels[n] < 0 else tree.path(int(labels[n]))
        for depth, level in enumerate(tree.levels):
            (node,) = (i for i in range(tree.size(level)) if tree.path(tree.node(level, i)) == path[: depth + 1])
            assert float(scores[n, depth]) == pytest.approx(min(1.0, float(logs[level][n, node].exp())))
            assert bool(correct[n, depth]) == (path[: depth + 1] == truth[: depth + 1])
    assert correct[0].all() and not correct[1:3, -1].any() and not correct[-1].any()


def test_a_rank_that_all_leaves_share_is_in_no_height():
    tree, _ = ragged_tree(1)
    leaves = torch.arange(tree.num_classes)
    assert torch.equal(heights(under_one_root(tree), leaves), heights(tree, leaves))
