import math
import random

import numpy as np
import pytest
import torch
from fakes.tiny_model import TAXONOMY

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.features import Features
from fgvc.methods.heads.fgn import FGNHead, read_parts
from fgvc.methods.pooling.gem import GeMPooling
from fgvc.taxonomy.tree import Taxonomy
from tests.fakes.plain_trunk import Channels


def made(taxonomy=TAXONOMY, **arguments):
    torch.manual_seed(0)
    return FGNHead(taxonomy, Channels, **{"width": 3, **arguments})


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
    return Taxonomy(["order", "family", "species"], leaves)


def test_a_level_reads_its_own_part_and_those_of_the_finer_levels():
    parts = torch.arange(24.0).view(2, 3, 4)
    first, second, third = (part.tolist() for part in read_parts(parts))
    for n in range(2):
        flat = list(range(12 * n, 12 * n + 12))
        assert (first[n], second[n], third[n]) == (flat, flat[4:], flat[8:])


def test_logits_are_the_matrix_products_of_what_each_level_reads():
    head, features = made().eval(), a_map()
    answer = head(features)
    assert list(answer.logits) == ["family", "genus", "species"]
    assert answer.embedding.shape == (4, head.embedding_size) == (4, 9)
    embedding = answer.embedding.detach().double().numpy()
    for start, level, layer in zip((0, 3, 6), TAXONOMY.levels, head.classifiers, strict=True):
        weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
        np.testing.assert_allclose(answer.logits[level].detach(), embedding[:, start:] @ weight.T + bias, atol=1e-5)


@pytest.mark.parametrize("depth", range(3))
def test_the_loss_of_a_level_reaches_the_rows_of_its_own_part_alone(depth):
    head = made()
    level = TAXONOMY.levels[depth]
    terms = head.loss(head(a_map()), torch.tensor([0, 2, 3, 4]))
    terms[level].backward()
    moved = head.parts[1].weight.grad.abs().sum(dim=1).view(3, 3)
    for other in range(3):
        assert bool((moved[other] > 1e-6).all()) == (other == depth)
        assert other == depth or not moved[other].any()
    # A coarse classifier itself learns from the finer parts.
    assert bool((head.classifiers[depth].weight.grad.view(-1, 3 - depth, 3).abs().sum(dim=(0, 2)) > 0).all())


def test_what_lies_before_the_parts_learns_from_every_level():
    head = made(pooling=GeMPooling)
    for level in TAXONOMY.levels:
        head.pooling.power.grad = None
        head.loss(head(a_map()), torch.tensor([0, 2, 3, 4]))[level].backward()
        assert head.pooling.power.grad.abs() > 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_terms_are_the_cross_entropies_of_the_levels_that_a_label_says_something_about(seed, smoothing):
    taxonomy = ragged_tree(seed)
    labels = torch.tensor([*range(taxonomy.num_nodes), -1])
    generator = torch.Generator().manual_seed(seed)
    logits = {
        level: 3 * torch.randn(len(labels), taxonomy.size(level), generator=generator) for level in taxonomy.levels
    }
    head = made(taxonomy, label_smoothing=smoothing)
    found = head.loss(Prediction(logits, torch.zeros(len(labels), 9)), labels)
    assert list(found) == ["order", "family", "species"]
    for depth, level in enumerate(taxonomy.levels):
        known = {taxonomy.path(taxonomy.node(level, k)): k for k in range(taxonomy.size(level))}
        terms = []
        for label, row in zip(labels.tolist(), logits[level].tolist(), strict=True):
            path = taxonomy.path(label) if label >= 0 else ()
            if len(path) <= depth:
                continue
            log_p = [x - math.log(sum(map(math.exp, row))) for x in row]
            terms.append(-(1 - smoothing) * log_p[known[path[: depth + 1]]] - smoothing * sum(log_p) / len(row))
        assert found[level].item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_one_level_two_images_and_unknown_labels_are_fine():
    head = made(Taxonomy.flat(["a", "b", "c"]))
    answer = head(a_map(2))
    assert answer.embedding.shape == (2, 3)
    terms = head.loss(answer, torch.tensor([2, -1]))
    assert list(terms) == ["class"] and terms["class"] > 0
    terms["class"].backward()
    assert head.parts[1].weight.grad.isfinite().all()
    nothing = head.loss(head(a_map(2)), torch.tensor([-1, -1]))["class"]
    nothing.backward()
    assert nothing.item() == 0


def test_a_width_below_one_is_refused_in_one_line():
    with pytest.raises(UsageError, match=r"^FGNHead: width 0; give 1 or more"):
        made(width=0)
