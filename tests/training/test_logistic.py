import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from fgvc.errors import FgvcError
from fgvc.training import logistic
from fgvc.training.logistic import cost, fit, reached, standardised

K = 4


def table(n=60, width=7, seed=0):
    """Return features of unlike means and scales with one that never changes, labels, and the rows that are taken."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % K
    x = rng.normal(size=(n, width)) + 0.8 * rng.normal(size=(K, width))[labels]
    x = x * np.geomspace(0.01, 30, width) + np.linspace(-5, 40, width)
    x[:, 2] = 3.7
    rows = np.sort(rng.permutation(n)[: n - 9])
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(labels), torch.from_numpy(rows)


def in_numpy(x, labels, rows):
    """Return standardised rows in float64, 0 where a feature never changes, and their labels."""
    x = x.double().numpy()[rows]
    spread = x.std(axis=0)
    return np.where(spread > 0, (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1), 0), labels.numpy()[rows]


def cost_in_numpy(weights, z, y, penalty):
    weights = weights.reshape(-1, K)
    log_p = log_softmax(z @ weights[:-1] + weights[-1], axis=1)
    return -log_p[np.arange(len(y)), y].mean() + penalty * (weights[:-1] ** 2).sum()


@pytest.mark.parametrize("penalty", [1.0, 0.01, 1e-4])
def test_the_fit_is_the_optimum_of_scipy_in_float64(penalty):
    data = table()
    z, y = in_numpy(*data)
    start = np.zeros((z.shape[1] + 1) * K)
    best = minimize(cost_in_numpy, start, (z, y, penalty), method="BFGS", options={"gtol": 1e-7})
    weights = fit(standardised(*data), K, penalty)
    assert cost_in_numpy(weights.double().numpy(), z, y, penalty) < best.fun + 2e-6
    found = z @ weights.double().numpy()[:-1] + weights[-1].double().numpy()
    wanted = z @ best.x.reshape(-1, K)[:-1] + best.x.reshape(-1, K)[-1]
    centred = [one - one.mean(axis=1, keepdims=True) for one in (found, wanted)]  # a shift of all biases is free
    np.testing.assert_allclose(*centred, atol=0.02, rtol=5e-3)


def test_a_start_elsewhere_ends_at_the_same_place():
    data = table()
    given = standardised(*data)
    far = torch.randn(8, K, generator=torch.Generator().manual_seed(1))
    values = [cost(given, fit(given, K, 0.01, start), 0.01)[0] for start in (None, far)]
    assert values[0] == pytest.approx(values[1], abs=1e-5)


@pytest.mark.parametrize("kept", [0, 1 << 28])
@pytest.mark.parametrize("at_once", [1, 40, 1 << 24])
def test_cost_and_gradient_in_chunks_are_those_of_autograd_in_float64(monkeypatch, at_once, kept):
    data = table()
    z, y = (torch.from_numpy(one) for one in in_numpy(*data))
    weights = torch.randn(8, K, generator=torch.Generator().manual_seed(2))
    free = weights.double().requires_grad_()
    logits = z @ free[:-1] + free[-1]
    wanted = torch.nn.functional.cross_entropy(logits, y) + 0.03 * free[:-1].square().sum()
    (slope,) = torch.autograd.grad(wanted, free)
    monkeypatch.setattr(logistic, "AT_ONCE", at_once)
    monkeypatch.setattr(logistic, "KEPT", kept)
    value, gradient = cost(standardised(*data), weights, 0.03)
    assert value == pytest.approx(float(wanted.detach()), rel=1e-5)
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-4, atol=1e-5)


def test_the_folded_classifier_reads_raw_features():
    data = table()
    given = standardised(*data)
    weights = torch.randn(8, K, generator=torch.Generator().manual_seed(3))
    linear = given.folded(weights)
    z, _ = in_numpy(*data)
    wanted = z @ weights.double().numpy()[:-1] + weights[-1].double().numpy()
    np.testing.assert_allclose(linear.logits(data[0])[data[2]].numpy(), wanted, atol=1e-3)
    assert (linear.weight[:, 2] == 0).all()


def test_rows_that_are_not_taken_change_nothing():
    x, labels, rows = table()
    before = fit(standardised(x, labels, rows), K, 0.1)
    others = torch.ones(len(x), dtype=torch.bool)
    others[rows] = False
    x[others], labels[others] = torch.nan, -1
    assert torch.equal(fit(standardised(x, labels, rows), K, 0.1), before)


def test_what_is_reached_is_that_of_a_slow_loop(monkeypatch):
    x, labels, rows = table()
    linear = standardised(x, labels, rows).folded(torch.randn(8, K, generator=torch.Generator().manual_seed(4)))
    right, loss = 0, 0.0
    for row in rows.tolist():
        scores = linear.weight.double().numpy() @ x[row].double().numpy() + linear.bias.double().numpy()
        right += int(scores.argmax() == int(labels[row]))
        loss -= log_softmax(scores)[int(labels[row])]
    monkeypatch.setattr(logistic, "AT_ONCE", 30)
    found = reached(linear, x, labels, rows)
    assert found.right == right / len(rows)
    assert found.loss == pytest.approx(loss / len(rows), rel=1e-4)


def test_features_that_are_no_numbers_are_refused():
    x, labels, rows = table()
    x[rows[3], 1] = torch.inf
    with pytest.raises(FgvcError, match="hold what is no number"):
        standardised(x, labels, rows)
