import math

import pytest
import torch
from fakes.tiny_model import TAXONOMY

from fgvc.datatypes import Prediction
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.losses.cross_entropy import class_loss, node_loss
from tests.fakes.plain_trunk import Channels


def loss_by_hand(logits, targets, smoothing: float) -> float:
    """Mean cross-entropy against the smoothed target over the known images, one number at a time."""
    terms = []
    for row, target in zip(logits.double().tolist(), targets, strict=True):
        if target < 0:
            continue
        total = math.log(sum(math.exp(x) for x in row))
        wanted = [smoothing / len(row) + (1 - smoothing) * (k == target) for k in range(len(row))]
        terms.append(sum(share * (total - x) for share, x in zip(wanted, row, strict=True)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("targets", [[0, 3, 4, 1], [2, -1, -1, 0]])
def test_the_loss_is_the_mean_cross_entropy_over_known_images(smoothing, targets):
    logits = 3 * torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    found = class_loss(logits, torch.tensor(targets), smoothing)
    assert float(found) == pytest.approx(loss_by_hand(logits, targets, smoothing), rel=1e-5)


def test_a_batch_without_a_known_class_costs_nothing_and_moves_nothing():
    logits = torch.randn(3, 5, requires_grad=True)
    loss = class_loss(logits, torch.tensor([-1, -1, -1]), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(3, 5))


def test_a_label_that_is_an_inner_node_asks_for_any_of_its_leaves():
    head = LinearHead(TAXONOMY, Channels, label_smoothing=0.1)
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    prediction = Prediction({"species": logits}, torch.zeros(4, 6))
    node = TAXONOMY.find("Owls")
    loss = head.loss(prediction, torch.tensor([2, node, -1, 4]))
    assert list(loss) == ["classes"]
    own = [leaf for leaf in range(5) if TAXONOMY.path(leaf)[: len(TAXONOMY.path(node))] == TAXONOMY.path(node)]
    assert 1 < len(own) < 5
    total = 0.0
    for row, leaves in ((0, [2]), (1, own), (3, [4])):
        p = [math.exp(x) for x in logits[row].tolist()]
        p = [x / sum(p) for x in p]
        total -= 0.9 * math.log(sum(p[leaf] for leaf in leaves)) + 0.1 * sum(map(math.log, p)) / 5
    assert float(loss["classes"]) == pytest.approx(total / 3, rel=1e-5)


def test_unknown_labels_alone_cost_nothing_and_move_nothing():
    logits = torch.randn(3, 5, requires_grad=True)
    loss = node_loss(logits, torch.tensor([-1, -1, -1]), TAXONOMY, 0.1)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(3, 5))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_for_leaves_the_node_loss_is_the_cross_entropy(smoothing):
    logits = (10 * torch.randn(6, 5, generator=torch.Generator().manual_seed(1))).requires_grad_()
    labels = torch.tensor([0, 1, 2, -1, 4, 4])
    (ours,) = torch.autograd.grad(node_loss(logits, labels, TAXONOMY, smoothing), logits)
    known = class_loss(logits, labels, smoothing)
    assert node_loss(logits, labels, TAXONOMY, smoothing).item() == pytest.approx(known.item(), rel=1e-5)
    assert torch.allclose(ours, torch.autograd.grad(known, logits)[0], atol=1e-6)


def test_logit_adjustment_is_the_papers_loss():
    """Menon et al., equation 10: log(1 + sum over y' != y of (pi_y' / pi_y)^tau * exp(f_y' - f_y))."""
    head = LinearHead(TAXONOMY, Channels, prior_strength=1.5)
    counts = torch.tensor([100, 10, 1, 50, 3])
    head.set_class_counts(counts)
    logits = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    found = head.loss(Prediction({"species": logits}, torch.zeros(2, 6)), torch.tensor([2, 0]))["classes"]
    prior, f = (counts / counts.sum()).tolist(), logits.tolist()
    terms = [
        math.log(1 + sum((prior[k] / prior[y]) ** 1.5 * math.exp(f[n][k] - f[n][y]) for k in range(5) if k != y))
        for n, y in ((0, 2), (1, 0))
    ]
    assert float(found) == pytest.approx(sum(terms) / 2, rel=1e-5)
    scored = head.eval().loss(Prediction({"species": logits}, torch.zeros(2, 6)), torch.tensor([2, 0]))["classes"]
    plain = [math.log(sum(math.exp(f[n][k] - f[n][y]) for k in range(5))) for n, y in ((0, 2), (1, 0))]
    assert float(scored) == pytest.approx(sum(plain) / 2, rel=1e-5)  # the prior belongs to training alone


def test_the_balanced_softmax_is_the_logit_adjustment_of_strength_one():
    """Ren et al. 2020, equation 3: -log(n_y e^f_y / sum over k of n_k e^f_k), of counts, not of shares."""
    head = LinearHead(TAXONOMY, Channels, prior_strength=1.0)
    counts = torch.tensor([100, 10, 1, 50, 3])
    head.set_class_counts(counts)
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(4))
    labels = torch.tensor([2, 0, TAXONOMY.find("Owls")])
    found = head.loss(Prediction({"species": logits}, torch.zeros(3, 6)), labels)["classes"]
    parts = [[n * math.exp(f) for n, f in zip(counts.tolist(), row, strict=True)] for row in logits.tolist()]
    named = [parts[0][2], parts[1][0], parts[2][3] + parts[2][4]]
    wanted = sum(-math.log(one / sum(row)) for one, row in zip(named, parts, strict=True)) / 3
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_a_class_without_images_keeps_a_finite_prior_which_stays_out_of_the_weights():
    head = LinearHead(TAXONOMY, Channels, prior_strength=1.0)
    head.set_class_counts(torch.tensor([0, 0, 5, 5, 0]))
    assert head.log_prior.isfinite().all()
    assert "log_prior" not in head.state_dict()
    neutral = LinearHead(TAXONOMY, Channels)
    neutral.set_class_counts(torch.tensor([1, 9, 5, 5, 2]))
    assert not neutral.log_prior.any()
