import numpy as np
import pytest
import torch
from fakes.feature_episodes import drawn, ragged
from scipy.optimize import minimize
from scipy.special import logsumexp

from fgvc.errors import UsageError
from fgvc.methods.few_shot import logistic_regression
from fgvc.methods.few_shot.logistic_regression import LogisticClassifier


def slow_scores(support, labels, query, ways, c, normalized):
    """Return centred scores (Q, W) of one episode by scipy's L-BFGS on all D weights of every way."""
    x, q = support.double().numpy(), query.double().numpy()
    if normalized:
        x, q = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, q))
    ones, d = np.eye(ways)[labels.numpy()], x.shape[1]

    def value(flat):
        weights, bias = flat[: d * ways].reshape(d, ways), flat[d * ways :]
        scores = x @ weights + bias
        total = logsumexp(scores, axis=1, keepdims=True)
        pull = c * (np.exp(scores - total) - ones)
        loss = c * (total.sum() - (scores * ones).sum()) + (weights**2).sum() / 2
        return loss, np.concatenate([(x.T @ pull + weights).ravel(), pull.sum(axis=0)])

    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-16, "gtol": 1e-9}
    found = minimize(value, np.zeros((d + 1) * ways), jac=True, method="L-BFGS-B", options=options)
    scores = q @ found.x[: d * ways].reshape(d, ways) + found.x[d * ways :]
    return torch.tensor(scores - scores.mean(axis=1, keepdims=True))


@pytest.mark.parametrize(("c", "normalized"), [(0.1, True), (10.0, True), (1000.0, True), (1.0, False), (100.0, False)])
@pytest.mark.parametrize("episode", [drawn(4), ragged(episodes=4), drawn(4, shots=10)], ids=["even", "ragged", "many"])
def test_scores_equal_those_of_scipy_on_each_episode(episode, c, normalized):
    scores = LogisticClassifier(32, c, normalized, balanced=False)(episode).double()
    scores = scores - scores.mean(dim=2, keepdim=True)  # the same number may be added to all ways
    for own, support, labels, query in zip(scores, *episode[:3], strict=True):
        expected = slow_scores(support, labels, query, episode.n_way, c, normalized)
        torch.testing.assert_close(own, expected, atol=2e-4, rtol=2e-4)


def test_long_vectors_that_separate_are_solved_to_the_minimum():
    episode = drawn(2, ways=3, shots=5, queries=3, d=20, spread=0.3)
    far = episode._replace(support=30 * episode.support + 50, query=30 * episode.query + 50)
    scores = LogisticClassifier(20, 1.0, normalize=False)(far).double()
    for own, support, labels, query in zip(scores, *far[:3], strict=True):
        expected = slow_scores(support - 50, labels, query - 50, 3, 1.0, False)  # the intercept takes up the shift
        torch.testing.assert_close(own - own.mean(dim=1, keepdim=True), expected, atol=5e-3, rtol=1e-3)


def test_an_episode_is_answered_the_same_alone_and_among_others():
    episode = drawn(6)
    scores = LogisticClassifier(32)(episode)
    alone = LogisticClassifier(32)(
        episode._replace(**{k: getattr(episode, k)[:1] for k in ("support", "labels", "query")})
    )
    torch.testing.assert_close(alone[0], scores[0], atol=1e-5, rtol=1e-5)


def test_c_of_nothing_is_refused():
    with pytest.raises(UsageError, match="c: -1; it must be a number above 0"):
        LogisticClassifier(4, -1)


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("c", [0.1, 1.0, 1000.0])
def test_vectors_longer_than_the_support_set_are_solved_in_a_few_steps(shots, c, monkeypatch):
    monkeypatch.setattr(logistic_regression, "NEWTON_STEPS", 15)
    episode = drawn(10, shots=shots, d=300, spread=1.0)
    support = torch.nn.functional.normalize(episode.support.double(), dim=2)
    ones = torch.nn.functional.one_hot(episode.labels, 5).double()
    weights, intercepts = (
        part.requires_grad_()
        for part in logistic_regression.logistic(support, ones, torch.full((10, 5 * shots, 1), c, dtype=torch.float64))
    )
    losses = -((support @ weights + intercepts).log_softmax(dim=2) * ones).sum()
    (c * losses + weights.square().sum() / 2).backward()
    assert max(weights.grad.abs().max(), intercepts.grad.abs().max()) < 1e-8 * c


def test_images_that_occur_twice_count_twice():
    episode = drawn(3)
    twice = episode._replace(support=episode.support.repeat(1, 2, 1), labels=episode.labels.repeat(1, 2))
    torch.testing.assert_close(
        LogisticClassifier(32, 1.0)(twice), LogisticClassifier(32, 2.0)(episode), atol=1e-5, rtol=1e-5
    )


def test_balanced_counts_images_of_small_ways_more_often():
    episode = ragged(episodes=3)  # 1, 2, 3 and 4 images
    rows = [[i for i, way in enumerate(labels.tolist()) for _ in range(12 // (way + 1))] for labels in episode.labels]
    rows = torch.tensor(rows)
    each = torch.arange(3)[:, None]
    many = episode._replace(support=episode.support[each, rows], labels=episode.labels[each, rows])
    assert torch.bincount(many.labels[0]).tolist() == [12] * 4
    found = LogisticClassifier(32, 4.8)(episode)  # 10 images for 48
    torch.testing.assert_close(found, LogisticClassifier(32, 1.0)(many), atol=1e-5, rtol=1e-5)
