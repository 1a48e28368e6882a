import math

import numpy as np
import pytest
import torch
from fakes.ragged_trees import ragged_tree, same_nodes, under_one_root
from fakes.tiny_model import TAXONOMY
from scipy.special import rel_entr, softmax
from torch.nn.functional import cross_entropy

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.features import Features
from fgvc.methods.heads.tree_path import TreePathHead, tree_path_divergence
from fgvc.taxonomy.tree import Taxonomy
from tests.fakes.plain_trunk import Channels


def random_logits(tree, count, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return {level: 2 * torch.randn(count, tree.size(level), generator=generator, **options) for level in tree.levels}


def classes_of(leaves, depth):
    """Return the nodes of a level in the order of its logits: as they first appear among the leaves."""
    return list(dict.fromkeys(leaf[: depth + 1] for leaf in leaves))


def slow_divergence(logits, labels, tree, leaves):
    """scipy's KL between two plain vectors, one image at a time, over the levels at which it has a label."""
    losses = []
    for n, label in enumerate(labels.tolist()):
        if label == -1:
            continue
        path, target, scores = tree.path(label), [], []
        for depth in range(len(path)):
            target += [float(node == path[: depth + 1]) for node in classes_of(leaves, depth)]
            scores += logits[tree.levels[depth]][n].tolist()
        losses.append(rel_entr(np.array(target) / len(path), softmax(np.array(scores))).sum())
    return sum(losses) / len(losses)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_path_term_is_the_divergence_over_the_known_levels(seed):
    tree, leaves = ragged_tree(seed)
    labels = torch.arange(-1, tree.num_nodes)  # every rank, and an image without a label
    logits = random_logits(tree, len(labels), seed)
    head = TreePathHead(tree, Channels, path_weight=0.5, label_smoothing=0.3)
    loss = head.loss(Prediction(logits, torch.zeros(len(labels), 6)), labels)
    assert list(loss) == ["top", "middle", "leaf", "tree_path"]
    expected = slow_divergence(logits, labels, tree, leaves)
    assert loss["tree_path"].item() == pytest.approx(0.5 * expected, rel=1e-5)


def test_beside_it_each_level_has_its_cross_entropy():
    head = TreePathHead(TAXONOMY, Channels, label_smoothing=0.2)
    logits = random_logits(TAXONOMY, 4)
    labels = torch.tensor([4, TAXONOMY.find("Carduelis"), TAXONOMY.find("Owls"), -1])
    loss = head.loss(Prediction(logits, torch.zeros(4, 6)), labels)
    targets = {"family": [1, 0, 1, -1], "genus": [3, 0, -1, -1], "species": [4, -1, -1, -1]}
    for level, target in targets.items():
        expected = cross_entropy(logits[level], torch.tensor(target), ignore_index=-1, label_smoothing=0.2)
        assert loss[level].item() == pytest.approx(expected.item(), rel=1e-5)


def test_nothing_is_lost_where_each_node_of_the_path_has_an_equal_share():
    logits = [torch.tensor([[0.0, -200]]), torch.tensor([[-200.0, 0, -200]]), torch.tensor([[-200.0, -200, 0]])]
    path = [torch.tensor([0]), torch.tensor([1]), torch.tensor([2])]
    assert tree_path_divergence(logits, path).item() == pytest.approx(0, abs=1e-6)
    logits[0] += 1  # a level that takes more than its share
    assert tree_path_divergence(logits, path).item() == pytest.approx(math.log((math.e + 2) / 3) - 1 / 3, abs=1e-6)


def test_a_level_without_a_label_stands_still():
    logits = random_logits(TAXONOMY, 2)
    for scores in logits.values():
        scores.requires_grad_()
    labels = torch.tensor([TAXONOMY.find("Owls"), -1])
    loss = TreePathHead(TAXONOMY, Channels).loss(Prediction(logits, torch.zeros(2, 6)), labels)
    sum(loss.values()).backward()
    assert not logits["genus"].grad.any() and not logits["species"].grad.any() and not logits["family"].grad[1].any()
    assert logits["family"].grad[0].all()


def test_a_batch_without_a_label_costs_nothing_and_moves_nothing():
    logits = random_logits(TAXONOMY, 2)
    for scores in logits.values():
        scores.requires_grad_()
    with torch.autograd.set_detect_anomaly(True):  # no NaN on the way either
        loss = TreePathHead(TAXONOMY, Channels).loss(Prediction(logits, torch.zeros(2, 6)), torch.tensor([-1, -1]))
        sum(loss.values()).backward()
    assert all(term == 0 for term in loss.values())
    assert all(torch.equal(scores.grad, torch.zeros_like(scores)) for scores in logits.values())


def test_the_gradient_is_that_of_finite_differences():
    tree, _ = ragged_tree(2)
    labels = torch.arange(-1, tree.num_nodes, 2)
    logits = random_logits(tree, len(labels), dtype=torch.float64)
    targets = [tree.targets(labels, level) for level in tree.levels]
    assert torch.autograd.gradcheck(
        lambda *rows: tree_path_divergence(list(rows), targets), [rows.requires_grad_() for rows in logits.values()]
    )


def test_on_flat_data_the_path_is_the_cross_entropy():
    flat = Taxonomy.flat(["a", "b", "c"])
    head = TreePathHead(flat, Channels)
    answer = head(Features(torch.randn(4, 6, 2, 2, generator=torch.Generator().manual_seed(0))))
    loss = head.loss(answer, torch.tensor([2, 0, -1, 1]))
    expected = cross_entropy(answer.logits["class"], torch.tensor([2, 0, -1, 1]), ignore_index=-1).item()
    found = {name: term.item() for name, term in loss.items()}
    assert found == pytest.approx({"class": expected, "tree_path": expected})


def test_the_prior_is_added_to_the_leaves_while_training():
    head = TreePathHead(TAXONOMY, Channels, prior_strength=1.0)
    counts = torch.tensor([100, 10, 1, 50, 3])
    head.set_class_counts(counts)
    logits, labels = random_logits(TAXONOMY, 5), torch.arange(5)
    leaves = [TAXONOMY.path(leaf) for leaf in range(5)]
    prediction = Prediction(logits, torch.zeros(5, 6))
    adjusted = logits | {"species": logits["species"] + (counts / 164).log()}
    loss = head.loss(prediction, labels)
    assert loss["species"].item() == pytest.approx(cross_entropy(adjusted["species"], labels).item(), rel=1e-5)
    assert loss["tree_path"].item() == pytest.approx(slow_divergence(adjusted, labels, TAXONOMY, leaves), rel=1e-5)
    scored = head.eval().loss(prediction, labels)["tree_path"].item()
    assert scored == pytest.approx(slow_divergence(logits, labels, TAXONOMY, leaves), rel=1e-5)


def test_every_level_is_a_matrix_product_of_the_one_embedding():
    head = TreePathHead(Taxonomy(["type", "sub.species"], [("a", "b"), ("a", "c"), ("d", "e")]), Channels)
    features = torch.randn(3, 6, 2, 4, generator=torch.Generator().manual_seed(0))
    answer = head(Features(features))
    embedding = features.double().numpy().mean(axis=(2, 3))
    np.testing.assert_allclose(answer.embedding.numpy(), embedding, rtol=1e-5, atol=1e-6)
    assert {level: scores.shape for level, scores in answer.logits.items()} == {"type": (3, 2), "sub.species": (3, 3)}
    for scores, layer in zip(answer.logits.values(), head.classifiers, strict=True):
        expected = embedding @ layer.weight.detach().double().numpy().T
        np.testing.assert_allclose(scores.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_dropout_leaves_the_embedding_whole_and_rests_in_evaluation():
    torch.manual_seed(0)
    head = TreePathHead(TAXONOMY, Channels, dropout=0.5)
    features = Features(torch.ones(64, 6, 1, 1))
    answer = head(features)
    assert torch.equal(answer.embedding, torch.ones(64, 6))
    assert all(scores.std(dim=0).min() > 1e-4 for scores in answer.logits.values())
    assert all(scores.std(dim=0).max() < 1e-6 for scores in head.eval()(features).logits.values())


@pytest.mark.parametrize("weight", [-1.0, math.nan])
def test_a_negative_weight_is_refused(weight):
    with pytest.raises(UsageError, match=r"path_weight .* must not be negative"):
        TreePathHead(TAXONOMY, Channels, path_weight=weight)


def test_a_rank_that_all_leaves_share_takes_no_share_of_the_target():
    tree, _ = ragged_tree(0)
    grown, labels = under_one_root(tree), torch.arange(-1, tree.num_nodes)
    generator = torch.Generator().manual_seed(0)
    logits = {level: torch.randn(len(labels), grown.size(level), generator=generator) for level in grown.levels}
    losses = []
    for one, nodes in ((tree, labels), (grown, same_nodes(labels, tree, grown))):
        prediction = Prediction({level: logits[level] for level in one.levels}, torch.zeros(len(labels), 6))
        losses.append(TreePathHead(one, Channels).loss(prediction, nodes))
    assert losses[1].pop("rank 0").item() == 0
    assert losses[1] == losses[0]
