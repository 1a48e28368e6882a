import math

import pytest
import torch
from fakes.ragged_trees import ragged_tree, same_nodes, under_one_root
from fakes.tiny_model import TAXONOMY
from torch.nn.functional import cross_entropy

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.features import Features
from fgvc.methods.heads.hxe import HXEHead, hierarchical_cross_entropy, step_weights
from fgvc.taxonomy.tree import Taxonomy
from tests.fakes.plain_trunk import Channels


def slow_loss(logits, labels, tree, leaves, alpha, smoothing=0.0):
    """The paper's sum with our weights, one image and one step at a time."""
    depths = range(1, len(tree.levels) + 1)
    mean_weight = sum(math.exp(-alpha * depth) for depth in depths) / len(depths)
    losses = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        if label == -1:
            continue
        total = sum(math.exp(x) for x in row)
        p = {leaf: math.exp(x) / total for leaf, x in zip(leaves, row, strict=True)}
        path, loss = tree.path(label), 0.0
        for depth in range(1, len(path) + 1):
            here = sum(p[leaf] for leaf in leaves if leaf[:depth] == path[:depth])
            above = sum(p[leaf] for leaf in leaves if leaf[: depth - 1] == path[: depth - 1])
            loss -= math.exp(-alpha * depth) / mean_weight * math.log(here / above)
        even = -sum(math.log(p[leaf]) for leaf in leaves) / len(leaves)
        losses.append((1 - smoothing) * loss + smoothing * even)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_loss_is_the_sum_over_the_known_steps(alpha, smoothing, seed):
    tree, leaves = ragged_tree(seed)
    labels = torch.arange(-1, tree.num_nodes)  # every rank, and an image without a label
    logits = 3 * torch.randn(len(labels), len(leaves), generator=torch.Generator().manual_seed(seed))
    head = HXEHead(tree, Channels, label_smoothing=smoothing, alpha=alpha)
    loss = head.loss(Prediction({"leaf": logits}, torch.zeros(len(labels), 6)), labels)
    assert list(loss) == ["classes"]
    expected = slow_loss(logits.double(), labels, tree, leaves, alpha, smoothing)
    assert loss["classes"].item() == pytest.approx(expected, rel=1e-5)


def test_coarse_steps_weigh_more_and_the_mean_weight_is_1():
    weights = step_weights(3, math.log(2))  # in the ratio 1/2 : 1/4 : 1/8
    assert weights.tolist() == pytest.approx([12 / 7, 6 / 7, 3 / 7])
    assert step_weights(4, 0.0).tolist() == [1, 1, 1, 1]
    assert step_weights(5, 1000.0).tolist() == pytest.approx([5, 0, 0, 0, 0])


def test_without_alpha_and_on_flat_data_it_is_the_cross_entropy():
    flat = Taxonomy.flat(["a", "b", "c", "d", "e"])
    logits = 3 * torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([1, 0, 4, 4, 2])
    expected = cross_entropy(logits, labels, label_smoothing=0.1).item()
    for head in (
        HXEHead(TAXONOMY, Channels, label_smoothing=0.1, alpha=0),
        HXEHead(flat, Channels, label_smoothing=0.1, alpha=0.7),
    ):
        prediction = Prediction({head.taxonomy.leaf_level: logits}, torch.zeros(5, 6))
        assert head.loss(prediction, labels)["classes"].item() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    tree, leaves = ragged_tree(2)
    labels = torch.arange(-1, tree.num_nodes)
    logits = torch.randn(len(labels), len(leaves), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: hierarchical_cross_entropy(x.log_softmax(dim=1), labels, tree, 0.5), logits.requires_grad_()
    )


def test_probabilities_below_the_smallest_number_are_still_told_apart():
    logits = torch.tensor([[1000.0, 0, 0, -1000, -2000]], requires_grad=True)
    head = HXEHead(TAXONOMY, Channels, alpha=math.log(2))
    loss = head.loss(Prediction({"species": logits}, torch.zeros(1, 6)), torch.tensor([4]))["classes"]
    loss.backward()
    # log p: Owls -2000, Tyto within Owls -1000, Barn Owl within Tyto 0.
    assert loss.item() == pytest.approx(12 / 7 * 2000 + 6 / 7 * 1000)
    assert logits.grad[0].tolist() == pytest.approx([12 / 7, 0, 0, 6 / 7 - 12 / 7, -6 / 7], abs=1e-5)


def test_a_batch_without_a_label_costs_nothing_and_moves_nothing():
    logits = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    head = HXEHead(TAXONOMY, Channels, label_smoothing=0.1, alpha=0.5)
    loss = head.loss(Prediction({"species": logits}, torch.zeros(2, 6)), torch.tensor([-1, -1]))["classes"]
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(2, 5))


def test_the_prior_is_added_while_training():
    head = HXEHead(TAXONOMY, Channels, prior_strength=1.0, alpha=0.5)
    counts = torch.tensor([100, 10, 1, 50, 3])
    head.set_class_counts(counts)
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    prediction, labels = Prediction({"species": logits}, torch.zeros(5, 6)), torch.arange(5)
    leaves = [TAXONOMY.path(leaf) for leaf in range(5)]
    adjusted = logits.double() + (counts / 164).log()
    found = head.loss(prediction, labels)["classes"].item()
    assert found == pytest.approx(slow_loss(adjusted, labels, TAXONOMY, leaves, 0.5), rel=1e-5)
    scored = head.eval().loss(prediction, labels)["classes"].item()
    assert scored == pytest.approx(slow_loss(logits.double(), labels, TAXONOMY, leaves, 0.5), rel=1e-5)


def test_only_the_leaves_are_scored():
    answer = HXEHead(TAXONOMY, Channels)(Features(torch.zeros(2, 6, 1, 1)))
    assert {level: scores.shape for level, scores in answer.logits.items()} == {"species": (2, 5)}


@pytest.mark.parametrize("alpha", [-0.1, math.nan])
def test_a_negative_alpha_is_refused(alpha):
    with pytest.raises(UsageError, match=r"alpha .* must not be negative"):
        HXEHead(TAXONOMY, Channels, alpha=alpha)


def test_a_rank_that_all_leaves_share_changes_no_loss():
    tree, leaves = ragged_tree(0)
    grown, labels = under_one_root(tree), torch.arange(-1, tree.num_nodes)
    log_p = torch.randn(len(labels), len(leaves), generator=torch.Generator().manual_seed(0)).log_softmax(dim=1)
    found = hierarchical_cross_entropy(log_p, same_nodes(labels, tree, grown), grown, 0.5)
    assert torch.equal(found, hierarchical_cross_entropy(log_p, labels, tree, 0.5))
