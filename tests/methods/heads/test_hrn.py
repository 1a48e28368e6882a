import math
import random
from pathlib import Path

import pytest
import torch
from fakes.tiny_model import TAXONOMY
from torch.nn import functional as F

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.features import Features
from fgvc.methods.heads.hrn import HRNHead, TreePrediction, log_node_probabilities, tree_loss
from fgvc.taxonomy.readouts import lineage_log_probs
from fgvc.taxonomy.tree import Taxonomy
from tests.fakes.plain_trunk import Channels

BIRDS = Path(__file__).parents[3] / "data/cub/taxonomy.csv"


def made(taxonomy=TAXONOMY, **arguments):
    torch.manual_seed(0)
    return HRNHead(taxonomy, Channels, **{"width": 4, "embedding_width": 5, **arguments})


def a_map(images=4, side=3):
    return Features(torch.randn(images, 6, side, side, generator=torch.Generator().manual_seed(1)))


def ragged_tree(seed):
    """Up to four levels; in some branches one is missing, and so repeats the name above it."""
    rng = random.Random(seed)
    leaves = []
    for order in "ABC"[: rng.randint(1, 3)]:
        for family in range(rng.randint(1, 3)):
            middle = order if rng.random() < 0.4 else f"{order}{family}"
            for number in range(rng.randint(1, 3)):
                genus = middle if rng.random() < 0.4 else f"{middle}{number}"
                leaves += [(order, middle, genus, f"{order}{family}{number}{n}") for n in range(rng.randint(1, 2))]
    return Taxonomy(["order", "family", "genus", "species"], leaves)


def random_scores(taxonomy, images, spread=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {level: spread * torch.randn(images, taxonomy.size(level), generator=generator) for level in taxonomy.levels}


def state_probabilities(scores, taxonomy, image):
    """Node id -> probability that it is active, by listing every state of the tree."""
    score = {
        taxonomy.path(taxonomy.node(level, k)): scores[level][image, k].item()
        for level in taxonomy.levels
        for k in range(taxonomy.size(level))
    }
    states = [set()] + [{path[:d] for d in range(1, len(path) + 1)} for path in score]
    weights = [math.exp(sum(score[path] for path in state)) for state in states]
    nodes = [taxonomy.path(node) for node in range(taxonomy.num_nodes)]
    return [sum(w for w, s in zip(weights, states, strict=True) if path in s) / sum(weights) for path in nodes]


@pytest.mark.parametrize("seed", range(6))
def test_node_probabilities_and_tree_loss_are_those_of_a_list_of_all_states(seed):
    taxonomy = ragged_tree(seed)
    labels = torch.tensor([*range(taxonomy.num_nodes), -1])  # every rank
    scores = random_scores(taxonomy, len(labels), seed=seed)
    by_hand = [state_probabilities(scores, taxonomy, image) for image in range(len(labels))]
    found = log_node_probabilities(scores, taxonomy)
    torch.testing.assert_close(found.exp(), torch.tensor(by_hand), rtol=1e-4, atol=1e-7)
    expected = [-math.log(by_hand[image][label]) for image, label in enumerate(labels.tolist()) if label >= 0]
    assert tree_loss(found, labels).item() == pytest.approx(sum(expected) / len(expected), rel=1e-5)


def test_scores_of_any_size_give_finite_numbers_and_gradients():
    scores = {level: s.requires_grad_() for level, s in random_scores(TAXONOMY, 12, spread=1e4).items()}
    found = log_node_probabilities(scores, TAXONOMY)
    tree_loss(found, torch.arange(12) % TAXONOMY.num_nodes).backward()
    assert found.isfinite().all() and (found <= 1e-3).all()
    assert all(s.grad.isfinite().all() for s in scores.values())


def test_the_gradient_is_that_of_finite_differences():
    taxonomy, labels = ragged_tree(3), torch.tensor([0, -1, 2])
    labels[2] = taxonomy.num_nodes - 1
    scores = {level: s.requires_grad_() for level, s in random_scores(taxonomy, 3, spread=1.0).items()}
    tree_loss(log_node_probabilities(scores, taxonomy), labels).backward()
    for score in scores.values():
        for place in range(score.shape[1]):
            ends = []
            for step in (-0.05, 0.05):
                with torch.no_grad():
                    score[:, place] += step
                    hand = [state_probabilities(scores, taxonomy, n)[labels[n]] for n in (0, 2)]
                    score[:, place] -= step
                ends.append(-sum(map(math.log, hand)) / 2)
            assert score.grad[:, place].sum().item() == pytest.approx((ends[1] - ends[0]) / 0.1, abs=1e-3)
        assert not score.grad[1].any()


def sure_of(taxonomy, species, height):
    """One row per species: +height along its path, -height elsewhere."""
    rows = taxonomy.ancestors[species]
    return {
        level: height * (2 * F.one_hot(rows[:, depth], taxonomy.size(level)).float() - 1)
        for depth, level in enumerate(taxonomy.levels)
    }


def test_sigmoid_scores_bound_the_probability_of_the_true_species_where_raw_scores_do_not():
    taxonomy = Taxonomy.from_csv(BIRDS, ["order", "family", "class_name"])
    assert [taxonomy.size(level) for level in taxonomy.levels] == [13, 37, 200]
    species = torch.arange(200)
    perfect = sure_of(taxonomy, species, 50.0)
    squeezed = {level: score.sigmoid() for level, score in perfect.items()}
    best = log_node_probabilities(squeezed, taxonomy)[species, species].exp()
    for leaf in range(200):
        order, family, _ = taxonomy.path(leaf)
        within = [taxonomy.path(node)[:2] for node in range(200)]
        same_family, same_order = within.count((order, family)), sum(path[0] == order for path in within)
        families = len({path for path in within if path[0] == order})
        # By number of active nodes on the true path: 3, 2 (the family, other species of it), 1, 0.
        one = 1 + (families - 1) + (same_order - same_family)
        none = 1 + 12 + (37 - families) + (200 - same_order)
        bound = math.e**3 / (math.e**3 + same_family * math.e**2 + one * math.e + none)
        assert best[leaf].item() == pytest.approx(bound, rel=1e-4)
    assert 0.029 < best.min() < 0.031 and 0.070 < best.max() < 0.073
    assert log_node_probabilities(perfect, taxonomy)[species, species].exp().min() > 0.999


@pytest.mark.parametrize(("sigmoid", "low", "high"), [(True, 2.6, 3.6), (False, 0.0, 1e-6)])
def test_the_flag_of_the_head_reproduces_the_loss_that_stays_above(sigmoid, low, high):
    taxonomy = Taxonomy.from_csv(BIRDS, ["order", "family", "class_name"])
    head = made(taxonomy, sigmoid_scores=sigmoid)
    for scorer, wanted in zip(head.scorers, sure_of(taxonomy, torch.tensor([7]), 50.0).values(), strict=True):
        scorer.weight.data.zero_()
        scorer.bias.data = wanted[0]
    loss = head.loss(head(a_map()), torch.full((4,), 7))["tree"].item()
    assert low <= loss <= high


def by_layers(head, features, depth):
    """Every branch down to a depth, layer by layer in evaluation, in float64: what that depth's nodes are scored by."""
    total = 0
    for block, project in list(zip(head.blocks, head.projections, strict=True))[: depth + 1]:
        x = features.map.double()
        for conv, norm, padding in ((block[0], block[1], 0), (block[3], block[4], 1)):
            x = F.conv2d(x, conv.weight.double(), padding=padding)
            x = (x - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
            x = x.clamp_min(0)
        x = x.mean(dim=(2, 3))
        x = (x / math.sqrt(1 + 1e-5)) @ project[1].weight.double().T + project[1].bias.double()
        x = x / math.sqrt(1 + 1e-5)
        x = torch.where(x > 0, x, x.exp() - 1)
        total = total + x @ project[4].weight.double().T + project[4].bias.double()
    return total.clamp_min(0)


def test_each_level_adds_the_branches_above_it_to_its_own():
    head, features = made().eval(), a_map()
    answer = head(features)
    seen = [by_layers(head, features, depth).detach() for depth in range(3)]
    torch.testing.assert_close(answer.embedding.double(), seen[-1], atol=1e-5, rtol=1e-4)
    leaf = seen[-1] @ head.classifier.weight.double().T + head.classifier.bias
    torch.testing.assert_close(answer.logits["species"].double(), leaf, atol=1e-5, rtol=1e-4)
    scores = {
        level: (x @ layer.weight.double().T + layer.bias).detach()
        for level, layer, x in zip(TAXONOMY.levels, head.scorers, seen, strict=True)
    }
    for image in range(4):
        by_hand = state_probabilities(scores, TAXONOMY, image)
        for level in ("family", "genus"):
            first = TAXONOMY.node(level, 0)
            wanted = [math.log(p) for p in by_hand[first : first + TAXONOMY.size(level)]]
            assert answer.logits[level][image].tolist() == pytest.approx(wanted, abs=1e-4)
        assert answer.log_nodes[image].exp().tolist() == pytest.approx(by_hand, abs=1e-5)
    assert list(answer.logits) == list(TAXONOMY.levels) and head.embedding_size == 5


def test_the_softmax_classifier_learns_from_known_leaves_and_the_tree_from_every_label():
    head = made()
    answer = head(a_map())
    labels = torch.tensor([TAXONOMY.find("Strix"), 3, -1, TAXONOMY.find("Finches")])
    terms = head.loss(answer, labels)
    assert list(terms) == ["tree", "classes"]
    row = answer.logits["species"][1].tolist()
    assert terms["classes"].item() == pytest.approx(math.log(sum(map(math.exp, row))) - row[3], rel=1e-5)
    named = [answer.log_nodes[n, labels[n]].item() for n in (0, 1, 3)]
    assert terms["tree"].item() == pytest.approx(-sum(named) / 3, rel=1e-5)
    sum(terms.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    nothing = head.loss(head(a_map()), torch.tensor([-1, -1, -1, -1]))
    assert all(term.item() == 0 for term in nothing.values())


def test_raw_scores_learn_a_coarse_label_without_a_word_about_its_leaves():
    head = made()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    labels = torch.tensor([TAXONOMY.find("Finches"), TAXONOMY.find("Owls")] * 2)
    for _ in range(60):
        optimizer.zero_grad()
        head.loss(head(a_map()), labels)["tree"].backward()
        optimizer.step()
    with torch.no_grad():
        named = head(a_map()).log_nodes.gather(1, labels[:, None]).exp()
    assert named.min() > 0.9


def test_one_level_and_two_images_with_a_map_of_one_place_are_fine():
    flat = Taxonomy.flat(["a", "b", "c"])
    head = made(flat)
    answer = head(a_map(2, side=1))
    scores = {"class": head.scorers[0](answer.embedding)}
    weights = scores["class"].exp()
    torch.testing.assert_close(answer.log_nodes.exp(), weights / (1 + weights.sum(dim=1, keepdim=True)))
    terms = head.loss(answer, torch.tensor([2, -1]))
    sum(terms.values()).backward()
    assert list(answer.logits) == ["class"]
    assert all(p.grad.isfinite().all() for p in head.parameters())


def test_what_is_unfit_is_refused():
    for name in ("width", "embedding_width"):
        with pytest.raises(UsageError, match=rf"^HRNHead: {name} 0; give 1 or more"):
            made(**{name: 0})
    with pytest.raises(TypeError, match="its own TreePrediction, not a Prediction"):
        made().loss(Prediction({"species": torch.zeros(1, 5)}, torch.zeros(1, 5)), torch.tensor([0]))
    assert isinstance(made()(a_map()), TreePrediction)


def answering(score, taxonomy, sigmoid):
    """Return the head, in evaluation, whose nodes have these scores whatever it sees, and its answer."""
    head = made(taxonomy, sigmoid_scores=sigmoid).eval()
    for level, scorer in zip(taxonomy.levels, head.scorers, strict=True):
        scorer.weight.data.zero_()
        scorer.bias.data = torch.tensor(score[level])
    head.classifier.weight.data.zero_()
    head.classifier.bias.data = torch.tensor([4.0, 1.0, 1.0, 1.0, 1.0])
    return head(a_map(1)).logits


def test_the_published_form_names_a_coarse_level_by_the_best_of_its_own_sigmoid_scores():
    tree = Taxonomy(["order", "species"], [("finches", f"finch {i}") for i in range(4)] + [("owls", "owl")])
    score = {"order": [-3.0, 2.0], "species": [0.0] * 5}  # owls by its own score; four of five leaves are finches
    logits = answering(score, tree, sigmoid=True)
    squeezed = [1 / (1 + math.exp(3)), 1 / (1 + math.exp(-2))]  # 0.047 and 0.881
    own = lineage_log_probs(logits, tree, readout="own")["order"][0]
    assert own.exp().tolist() == pytest.approx([s / sum(squeezed) for s in squeezed], rel=1e-5)
    assert own.argmax() == 1
    # In the tree of squeezed scores, a finch or the order alone: 4 e^0.5 e^0.047 + e^0.047 = 7.96. The owl: e^0.881
    # e^0.5 + e^0.881 = 6.39. So the tree names the order with more leaves.
    by_tree = log_node_probabilities({"order": torch.tensor([squeezed]), "species": torch.full((1, 5), 0.5)}, tree)
    by_tree = by_tree[0, tree.node("order", 0) :].exp()
    weights = [math.exp(s) * (leaves * math.exp(0.5) + 1) for leaves, s in zip((4, 1), squeezed, strict=True)]
    assert by_tree.tolist() == pytest.approx([w / (1 + sum(weights)) for w in weights], rel=1e-5)
    assert by_tree.argmax() == 0
    finches = 1 - math.e / (math.e**4 + 4 * math.e)
    marginal = lineage_log_probs(logits, tree, readout="marginal")["order"][0]
    assert marginal.exp().tolist() == pytest.approx([finches, 1 - finches], rel=1e-5)
    assert torch.equal(logits["species"][0], torch.tensor([4.0, 1.0, 1.0, 1.0, 1.0]))


def test_raw_scores_are_answered_by_the_tree():
    tree = Taxonomy(["order", "species"], [("finches", f"finch {i}") for i in range(4)] + [("owls", "owl")])
    score = {"order": [-3.0, 2.0], "species": [0.0] * 5}
    weights = [5 * math.exp(-3), 2 * math.exp(2)]
    found = answering(score, tree, sigmoid=False)["order"][0].exp().tolist()
    assert found == pytest.approx([w / (1 + sum(weights)) for w in weights], rel=1e-5)


def test_the_published_form_takes_scores_of_any_size():
    head = made(sigmoid_scores=True)
    for scorer in head.scorers:
        scorer.weight.data *= 1e4
    answer = head(a_map())
    sum(head.loss(answer, torch.tensor([0, 1, 2, 3])).values()).backward()
    assert all(logits.isfinite().all() for logits in answer.logits.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())
