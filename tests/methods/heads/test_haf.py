import math
import random

import pytest
import torch
from fakes.ragged_trees import under_one_root
from fakes.tiny_model import TAXONOMY
from scipy.spatial.distance import cosine, jensenshannon

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.features import Features
from fgvc.methods.heads.haf import HAFHead, closeness, jensen_shannon
from fgvc.taxonomy.tree import Taxonomy
from tests.fakes.plain_trunk import Channels

TERMS = ["classes", "consistency", "margin", "geometry"]


def made(taxonomy=TAXONOMY, **arguments):
    torch.manual_seed(0)
    return HAFHead(taxonomy, Channels, **{"width": 4, **arguments})


def a_map(images=4):
    return Features(torch.rand(images, 6, 2, 2, generator=torch.Generator().manual_seed(1)))


def ragged_tree(seed):
    """Three levels; in some branches the middle one is missing, and so repeats the name above it."""
    rng = random.Random(seed)
    leaves = []
    for order in "ABC":
        for family in range(rng.randint(1, 3)):
            middle = order if rng.random() < 0.4 else f"{order}{family}"
            leaves += [(order, middle, f"{order}{family}{number}") for number in range(rng.randint(1, 3))]
    rng.shuffle(leaves)
    return Taxonomy(["order", "family", "species"], leaves)


def softmax(row):
    top = [math.exp(x) for x in row]
    return [x / sum(top) for x in top]


def slow_terms(head, taxonomy, logits, labels):
    """The four terms with Python lists, scipy's divergence and paths in place of indices."""
    levels = taxonomy.levels
    p = {
        taxonomy.levels.index(level): [
            {taxonomy.path(taxonomy.node(level, k)): x for k, x in enumerate(softmax(row))} for row in scores.tolist()
        ]
        for level, scores in logits.items()
    }
    weight = {
        taxonomy.path(taxonomy.node(level, k)): w
        for level, rows in zip(levels, head.directions, strict=True)
        for k, w in enumerate(rows.tolist())
    }
    paths = [taxonomy.path(label) if label >= 0 else () for label in labels.tolist()]
    fine = len(levels) - 1
    classes = [
        -math.log(sum(x for leaf, x in p[fine][n].items() if leaf[: len(path)] == path))
        for n, path in enumerate(paths)
        if path
    ]
    consistency = margin = geometry = 0.0
    for d in range(fine):
        nodes = list(p[d][0])
        apart = []
        for n in range(len(paths)):
            sums = [sum(x for child, x in p[d + 1][n].items() if child[:-1] == node) for node in nodes]
            apart.append(jensenshannon([p[d][n][node] for node in nodes], sums) ** 2)
        consistency += sum(apart) / len(apart)
        hinges = []
        for n in range(len(paths)):
            one, other = paths[n], paths[(n + 1) % len(paths)]
            if len(one) > d and len(other) > d and one[: d + 1] != other[: d + 1]:
                first, second = ([p[d][k][node] for node in nodes] for k in (n, (n + 1) % len(paths)))
                hinges.append(max(0.0, head.margin - jensenshannon(first, second) ** 2))
        margin += sum(hinges) / max(len(hinges), 1)
        bent = []
        for node in nodes:
            children = [w for child, w in weight.items() if len(child) == d + 2 and child[:-1] == node]
            units = [[x / math.hypot(*w) for x in w] for w in children]
            bent.append(cosine(weight[node], [sum(column) for column in zip(*units, strict=True)]))
        geometry += sum(bent) / len(bent)
    return dict(zip(TERMS, (sum(classes) / len(classes), consistency, margin, geometry), strict=True))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("margin", [3.0, 0.1])
def test_the_terms_are_those_of_a_slow_loop_with_labels_of_every_rank(seed, margin):
    taxonomy = ragged_tree(seed)
    labels = torch.tensor(random.Random(seed).sample([*range(taxonomy.num_nodes), -1, -1], taxonomy.num_nodes + 2))
    generator = torch.Generator().manual_seed(seed)
    logits = {
        level: 2 * torch.randn(len(labels), taxonomy.size(level), generator=generator) for level in taxonomy.levels
    }
    head = made(taxonomy, margin=margin)
    found = head.loss(Prediction(logits, torch.zeros(len(labels), 4)), labels)
    expected = slow_terms(head, taxonomy, logits, labels)
    assert list(found) == TERMS
    assert {name: term.item() for name, term in found.items()} == pytest.approx(expected, rel=1e-4)
    assert min(expected.values()) > 0


def test_each_weight_scales_its_own_term():
    features, labels = a_map(), torch.tensor([0, 2, 3, 4])
    plain, scaled = (
        made(**given) for given in ({}, {"consistency_weight": 2, "margin_weight": 0, "geometry_weight": 0.5})
    )
    before, after = (head.loss(head(features), labels) for head in (plain, scaled))
    for name, factor in zip(TERMS, (1, 2, 0, 0.5), strict=True):
        assert after[name].item() == pytest.approx(factor * before[name].item(), rel=1e-6)


def test_logits_are_the_length_of_the_embedding_times_the_cosine():
    head = made()
    answer = head(a_map())
    assert list(answer.logits) == list(TAXONOMY.levels)
    assert answer.embedding.shape == (4, head.embedding_size) == (4, 4)
    for level, directions in zip(TAXONOMY.levels, head.directions, strict=True):
        for e, row in zip(answer.embedding.tolist(), answer.logits[level].tolist(), strict=True):
            wanted = [math.hypot(*e) * (1 - cosine(e, w)) for w in directions.tolist()]
            assert row == pytest.approx(wanted, abs=1e-5)


def test_levels_that_agree_cost_nothing():
    leaf = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    logits = TAXONOMY.complete({"species": leaf})
    head = made()
    with torch.no_grad():
        unit = torch.nn.functional.normalize(head.directions[2], dim=1)
        head.directions[1].copy_(torch.stack([unit[0] + unit[1], unit[2], unit[3], unit[4]]))
        unit = torch.nn.functional.normalize(head.directions[1], dim=1)
        head.directions[0].copy_(5 * torch.stack([unit[0] + unit[1], unit[2] + unit[3]]))
    terms = head.loss(Prediction(logits, torch.zeros(3, 4)), torch.tensor([0, 1, 2]))
    assert terms["consistency"].item() == pytest.approx(0, abs=1e-6)
    assert terms["geometry"].item() == pytest.approx(0, abs=1e-6)


def test_the_divergence_ends_at_log_2_so_that_the_papers_margin_never_lets_go():
    sure = torch.tensor([[40.0, -40.0], [-40.0, 40.0]], requires_grad=True)
    log_p = sure.log_softmax(dim=1)
    assert jensen_shannon(log_p[:1], log_p[1:]).item() == pytest.approx(math.log(2))
    assert closeness(log_p, torch.tensor([0, 1]), 3.0).item() == pytest.approx(3 - math.log(2))
    unsure = torch.tensor([[0.6, -0.6], [-0.6, 0.6]], requires_grad=True)
    for margin, pushed in ((3.0, True), (0.1, False)):
        (slope,) = torch.autograd.grad(closeness(unsure.log_softmax(dim=1), torch.tensor([0, 1]), margin), unsure)
        assert bool(slope[0, 0] < 0) == pushed


@pytest.mark.parametrize("targets", [[0, 0, 0], [-1, -1, -1], [0, -1, 0], [1, -1, -1]])
def test_without_a_pair_of_two_known_classes_the_margin_costs_nothing_and_moves_nothing(targets):
    logits = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = closeness(logits.log_softmax(dim=1), torch.tensor(targets), 3.0)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_coarse_levels_learn_from_the_sums_over_their_children_without_a_label():
    head = made()
    terms = head.loss(head(a_map()), torch.full((4,), -1))
    assert (terms["classes"].item(), terms["margin"].item()) == (0, 0)
    terms["consistency"].backward()
    assert all(weight.grad.abs().sum() > 0 for weight in head.directions)


def test_one_level_and_two_images_are_fine():
    head = made(Taxonomy.flat(["a", "b", "c"]))
    terms = head.loss(head(a_map(2)), torch.tensor([2, -1]))
    assert list(terms) == TERMS
    assert [terms[name].item() for name in TERMS[1:]] == [0, 0, 0]
    torch.stack(list(terms.values())).sum().backward()
    assert head.directions[0].grad.abs().sum() > 0
    two = made()
    torch.stack(list(two.loss(two(a_map(2)), torch.tensor([0, 4])).values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in two.parameters())


@pytest.mark.parametrize("name", ["width", "margin", "consistency_weight", "margin_weight", "geometry_weight"])
def test_what_is_unfit_is_refused_in_one_line(name):
    with pytest.raises(UsageError, match=rf"^HAFHead: {name} -1; give") as caught:
        made(**{name: -1})
    assert "\n" not in str(caught.value)


def test_a_rank_that_all_leaves_share_changes_no_term():
    labels, features = torch.tensor([0, 2, 3, 4]), a_map()
    head, grown = made().eval(), made(under_one_root(TAXONOMY)).eval()
    grown.embed.load_state_dict(head.embed.state_dict())
    for theirs, own in zip(grown.directions[1:], head.directions, strict=True):
        theirs.data.copy_(own)
    before, after = head.loss(head(features), labels), grown.loss(grown(features), labels)
    assert {name: term.item() for name, term in after.items()} == pytest.approx(
        {name: term.item() for name, term in before.items()}, abs=1e-7
    )
    sum(after.values()).backward()
    assert all(weight.grad is not None for weight in grown.directions)  # DDP waits for the gradient of each
    assert not grown.directions[0].grad.any()
