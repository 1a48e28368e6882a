import math
import random

import pytest
import torch
from fakes.ragged_trees import under_one_root
from torch.utils._python_dispatch import TorchDispatchMode

from fgvc.errors import UsageError
from fgvc.taxonomy.readouts import READOUTS, ancestor, check, crm, lineage_log_probs, marginal
from fgvc.taxonomy.tree import Taxonomy


def random_tree(seed, leaves=23, levels=4):
    """A ragged tree whose leaves are shuffled: siblings do not stand side by side."""
    draw = random.Random(seed)
    paths = []
    for i in range(leaves):
        path = [f"{d}{draw.randrange(2 * d + 2)}" for d in range(levels - 1)]
        cut = draw.randrange(1, levels)
        paths.append((*path[:cut], *[path[cut - 1]] * (levels - 1 - cut), f"leaf {i}"))
    draw.shuffle(paths)
    return Taxonomy([f"level {d}" for d in range(levels)], paths)


def random_log_leaf(tree, images=40, seed=0, dtype=torch.float64):
    logits = torch.randn(images, tree.num_classes, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return logits.log_softmax(dim=1)


def members(tree, level):
    """Class index of a level -> its leaves, from the paths."""
    depth = tree.depth(level) + 1
    classes = [tree.path(tree.node(level, i)) for i in range(tree.size(level))]
    return [[k for k in range(tree.num_classes) if tree.path(k)[:depth] == path] for path in classes]


def height(tree, a, b):
    return sum(tree.path(a)[:d] != tree.path(b)[:d] for d in range(1, len(tree.levels) + 1))


@pytest.mark.parametrize("seed", range(3))
def test_marginal_sums_probabilities_and_ancestor_takes_the_best(seed):
    tree = random_tree(seed)
    log_leaf = random_log_leaf(tree)
    sums, bests = marginal(log_leaf, tree), ancestor(log_leaf, tree)
    assert list(sums) == list(bests) == list(tree.levels)
    for level in tree.levels:
        for i, leaves in enumerate(members(tree, level)):
            for n, row in enumerate(log_leaf.tolist()):
                expected = math.log(math.fsum(math.exp(row[k]) for k in leaves))
                assert sums[level][n, i].item() == pytest.approx(expected, abs=1e-12)
                assert bests[level][n, i].item() == max(row[k] for k in leaves)


@pytest.mark.parametrize("seed", range(3))
def test_crm_is_minus_the_matrix_of_heights_times_the_probabilities(seed):
    tree = random_tree(seed)
    log_leaf = random_log_leaf(tree)
    table = [[height(tree, a, b) for b in range(tree.num_classes)] for a in range(tree.num_classes)]
    expected = -log_leaf.exp() @ torch.tensor(table, dtype=torch.float64)
    scores = crm(log_leaf, tree)
    torch.testing.assert_close(scores[tree.leaf_level], expected, rtol=0, atol=1e-12)
    assert (expected.argmax(1) != log_leaf.argmax(1)).any(), "the ranking differs from that of the probabilities"
    for level in tree.levels[:-1]:
        best = torch.stack([expected[:, leaves].amax(1) for leaves in members(tree, level)], dim=1)
        torch.testing.assert_close(scores[level], best, rtol=0, atol=1e-12)


def softmax(row, temperature):
    powers = [math.exp(x / temperature) for x in row]
    return [x / math.fsum(powers) for x in powers]


@pytest.mark.parametrize("readout", ["own", "marginal"])
@pytest.mark.parametrize("temperatures", [{}, {"level 1": 0.4, "level 3": 2.5}])
def test_the_lineage_is_told_by_the_classifier_of_a_level_or_by_sums_over_leaves(readout, temperatures):
    tree = random_tree(1)
    generator = torch.Generator().manual_seed(3)
    scored = ("level 1", "level 3")  # the others have no classifier
    logits = {level: 3 * torch.randn(20, tree.size(level), generator=generator) for level in scored}
    found = lineage_log_probs(logits, tree, temperatures, readout)
    assert list(found) == list(tree.levels)
    for level in tree.levels:
        for n in range(20):
            p = softmax(logits["level 3"][n].tolist(), temperatures.get("level 3", 1.0))
            expected = [math.fsum(p[k] for k in leaves) for leaves in members(tree, level)]
            if level == "level 1" and readout == "own":
                expected = softmax(logits[level][n].tolist(), temperatures.get(level, 1.0))
            assert found[level][n].exp().tolist() == pytest.approx(expected, abs=1e-6), level


def test_a_class_that_is_not_allowed_has_no_part_in_either_readout():
    tree = Taxonomy(["g", "s"], [("a", "1"), ("b", "2"), ("b", "3")])
    logits = {"s": torch.tensor([[1.0, -math.inf, 1.0]]), "g": torch.tensor([[0.0, 0.0]])}
    for readout in ("own", "marginal"):
        found = lineage_log_probs(logits, tree, {}, readout)
        assert found["s"].exp().tolist() == [[0.5, 0, 0.5]] and found["g"].exp().tolist() == [[0.5, 0.5]]


def test_crm_keeps_the_order_of_leaves_that_are_all_improbable():
    tree = Taxonomy(["g", "s"], [("a", "1"), ("b", "2"), ("b", "3"), ("c", "4"), ("c", "5")])
    log_leaf = torch.tensor([[0.0, -30, -29, -28, -40]]).log_softmax(dim=1)
    assert crm(log_leaf, tree)["s"].argsort(dim=1, descending=True).tolist() == [[0, 3, 4, 2, 1]]


@pytest.mark.parametrize("name", ["ancestor", "crm"])
def test_the_answers_lie_on_the_path_of_the_best_leaf_also_where_leaves_tie(name):
    tree = random_tree(5)
    generator = torch.Generator().manual_seed(1)
    # Two values only: nearly every row has ties between leaves of different classes.
    log_leaf = torch.randint(2, (200, tree.num_classes), generator=generator).float().log_softmax(dim=1)
    scores = READOUTS[name](log_leaf, tree)
    answers = {level: scores[level].argmax(dim=1).tolist() for level in tree.levels}
    for n, leaf in enumerate(answers[tree.leaf_level]):
        assert [answers[level][n] for level in tree.levels] == tree.ancestors[leaf].tolist()


def test_a_tie_is_lost_without_care():
    # The first of the two best leaves is 1, in class y; a plain maximum would name class x, of leaf 2.
    tree = Taxonomy(["g", "s"], [("x", "0"), ("y", "1"), ("x", "2")])
    log_leaf = torch.tensor([[0.2, 0.4, 0.4]]).log()
    scores = ancestor(log_leaf, tree)["g"]
    assert scores.argmax().item() == 1
    torch.testing.assert_close(scores, torch.tensor([[0.4, 0.4]]).log())


def test_a_flat_taxonomy_keeps_its_scores_or_their_order():
    tree = Taxonomy.flat(list("abcd"))
    log_leaf = random_log_leaf(tree)
    assert torch.equal(marginal(log_leaf, tree)["class"], log_leaf)
    assert torch.equal(ancestor(log_leaf, tree)["class"], log_leaf)
    torch.testing.assert_close(crm(log_leaf, tree)["class"], log_leaf.exp() - 1)


class Largest(TorchDispatchMode):
    """Note the most numbers that a result of any operation lays out."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else [found]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return found


def test_ten_thousand_leaves_never_make_a_table_of_leaves_by_leaves():
    size, images = 10_000, 2
    tree = Taxonomy(["family", "genus", "species"], [(f"f{i % 90}", f"g{i % 900}", f"s{i}") for i in range(size)])
    log_leaf = random_log_leaf(tree, images, dtype=torch.float32)
    with Largest() as seen:
        for readout in READOUTS.values():
            readout(log_leaf, tree)
    # The ancestors of all nodes are the largest tensor at hand.
    assert images * size <= seen.numbers <= max(images * size, tree.ancestors.numel())
    with Largest() as square:
        torch.ones(1000, 1)[:, 0][None].expand(1000, -1) + 1
    assert square.numbers == 1000 * 1000, "the measurement sees what it should"


def test_an_unknown_name_is_refused_with_the_nearest():
    check(READOUTS)
    with pytest.raises(UsageError, match=r"model.readouts: 'margnal'; there are .*did you mean 'marginal'\?"):
        check(["crm", "margnal"])


def test_a_rank_that_all_leaves_share_changes_no_score():
    tree = random_tree(0)
    log_leaf = random_log_leaf(tree)
    for name, readout in READOUTS.items():
        before, after = (readout(log_leaf, one) for one in (tree, under_one_root(tree)))
        for level in tree.levels:
            assert torch.equal(after[level], before[level]), (name, level)
