import math

import pytest
import torch
from fakes.ragged_trees import ragged_tree, under_one_root
from fakes.tiny_model import TAXONOMY
from torch.nn.functional import cross_entropy

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.features import Features
from fgvc.methods.heads.soft_labels import SoftLabelHead, soft_label_loss, soft_targets
from fgvc.taxonomy.tree import Taxonomy
from tests.fakes.plain_trunk import Channels


def slow_target(leaf, leaves, beta):
    """The paper's target, with the height of the lowest common ancestor counted along the two paths."""
    shares = []
    for other in leaves:
        common = 0
        while common < len(leaf) and leaf[common] == other[common]:
            common += 1
        shares.append(math.exp(-beta * (len(leaf) - common) / len(leaf)))
    return [share / sum(shares) for share in shares]


def slow_loss(logits, labels, tree, leaves, beta):
    losses = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        if label == -1:
            continue
        total = math.log(sum(math.exp(x) for x in row))
        path = tree.path(label)
        if len(path) == len(tree.levels):
            losses.append(sum(y * (total - x) for y, x in zip(slow_target(path, leaves, beta), row, strict=True)))
        else:
            below = sum(math.exp(x) for x, leaf in zip(row, leaves, strict=True) if leaf[: len(path)] == path)
            losses.append(total - math.log(below))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("beta", [0.5, 4.0, 30.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_loss_is_the_cross_entropy_to_the_soft_target_or_the_inner_node(beta, seed):
    tree, leaves = ragged_tree(seed)
    labels = torch.arange(-1, tree.num_nodes)  # every rank, and an image without a label
    logits = 3 * torch.randn(len(labels), len(leaves), generator=torch.Generator().manual_seed(seed))
    prediction = Prediction({"leaf": logits}, torch.zeros(len(labels), 6))
    loss = SoftLabelHead(tree, Channels, beta=beta).loss(prediction, labels)
    assert list(loss) == ["classes"]
    assert loss["classes"].item() == pytest.approx(slow_loss(logits.double(), labels, tree, leaves, beta), rel=1e-5)


def test_near_relatives_get_a_larger_share():
    # L is 3, so this beta halves the share with each level up: Goldfinch, Siskin, Brambling, two owls.
    found = soft_targets(torch.tensor([0]), TAXONOMY, 3 * math.log(2))
    assert found[0].tolist() == pytest.approx([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 16])


def test_a_large_beta_is_the_cross_entropy():
    logits = 3 * torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([1, 0, 4, 4, 2])
    found = soft_label_loss(logits, labels, TAXONOMY, 1e4).item()
    assert found == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-6)


def test_on_flat_data_it_is_label_smoothing():
    logits = 3 * torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([1, 0, -1, 4])
    smoothing = 5 * math.exp(-2) / (1 + 4 * math.exp(-2))  # a fifth of it goes to each class
    expected = cross_entropy(logits, labels, ignore_index=-1, label_smoothing=smoothing).item()
    head = SoftLabelHead(Taxonomy.flat(list("abcde")), Channels, beta=2)
    loss = head.loss(Prediction({"class": logits}, torch.zeros(4, 6)), labels)
    assert loss["classes"].item() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    tree, leaves = ragged_tree(2)
    labels = torch.arange(-1, tree.num_nodes)
    logits = torch.randn(len(labels), len(leaves), generator=torch.Generator().manual_seed(0)).requires_grad_()
    soft_label_loss(logits, labels, tree, 4.0).backward()
    values, step = logits.detach().double(), 1e-4
    for n in range(0, len(labels), 3):
        for k in range(0, len(leaves), 2):
            up, down = values.clone(), values.clone()
            up[n, k] += step
            down[n, k] -= step
            slope = slow_loss(up, labels, tree, leaves, 4.0) - slow_loss(down, labels, tree, leaves, 4.0)
            assert logits.grad[n, k].item() == pytest.approx(slope / (2 * step), abs=1e-6)


def test_a_batch_without_a_label_costs_nothing_and_moves_nothing():
    logits = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = soft_label_loss(logits, torch.tensor([-1, -1]), TAXONOMY, 4.0)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(2, 5))


def test_the_prior_is_added_while_training():
    head = SoftLabelHead(TAXONOMY, Channels, prior_strength=1.0, beta=4)
    counts = torch.tensor([100, 10, 1, 50, 3])
    head.set_class_counts(counts)
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    prediction, labels = Prediction({"species": logits}, torch.zeros(6, 6)), torch.tensor([0, 1, 2, 3, 4, 5])
    leaves = [TAXONOMY.path(leaf) for leaf in range(5)]
    adjusted = logits.double() + (counts / 164).log()
    found = head.loss(prediction, labels)["classes"].item()
    assert found == pytest.approx(slow_loss(adjusted, labels, TAXONOMY, leaves, 4), rel=1e-5)
    scored = head.eval().loss(prediction, labels)["classes"].item()
    assert scored == pytest.approx(slow_loss(logits.double(), labels, TAXONOMY, leaves, 4), rel=1e-5)


def test_only_the_leaves_are_scored():
    answer = SoftLabelHead(TAXONOMY, Channels, dropout=0.5)(Features(torch.zeros(2, 6, 1, 1)))
    assert {level: scores.shape for level, scores in answer.logits.items()} == {"species": (2, 5)}


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan])
def test_a_beta_that_is_not_above_0_is_refused(beta):
    with pytest.raises(UsageError, match=r"beta .* must be above 0"):
        SoftLabelHead(TAXONOMY, Channels, beta=beta)


def test_a_rank_that_all_leaves_share_changes_no_target():
    birds = Taxonomy.flat([f"bird {i}" for i in range(200)])
    truth = 1 / (1 + 199 * math.exp(-10))  # by hand: every other bird is as far as can be
    assert round(truth, 3) == 0.991  # 0.427 if the distance were divided by the number of ranks
    for tree in (birds, under_one_root(birds), under_one_root(birds, 3)):
        assert soft_targets(torch.tensor([7]), tree, 10.0)[0, 7].item() == pytest.approx(truth, rel=1e-6)
    tree, _ = ragged_tree(0)
    leaves = torch.arange(tree.num_classes)
    assert torch.equal(soft_targets(leaves, under_one_root(tree), 4.0), soft_targets(leaves, tree, 4.0))
