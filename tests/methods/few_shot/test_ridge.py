import numpy as np
import pytest
import torch
from fakes.feature_episodes import drawn, ragged

from fgvc.errors import UsageError
from fgvc.methods.few_shot.ridge import RidgeClassifier


def slow_scores(episode, penalty, normalized):
    """One episode at a time, in the primal form: a column of ones whose weight is not penalised."""
    scores = []
    for support, labels, query in zip(*(part.numpy() for part in episode[:3]), strict=True):
        x, q = support.astype(np.float64), query.astype(np.float64)
        if normalized:
            x, q = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, q))
        x, q = (np.hstack([rows, np.ones((len(rows), 1))]) for rows in (x, q))
        free = penalty * np.eye(x.shape[1])
        free[-1, -1] = 0
        scores.append(q @ np.linalg.solve(x.T @ x + free, x.T @ np.eye(episode.n_way)[labels]))
    return torch.tensor(np.stack(scores))


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("penalty", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("episode", [drawn(), ragged(), drawn(shots=10)], ids=["even", "ragged", "more images than D"])
def test_scores_equal_the_primal_solution_of_numpy(episode, penalty, normalized):
    ours = RidgeClassifier(32, penalty, normalized, scale=3.0)(episode)
    torch.testing.assert_close(ours.double(), 3 * slow_scores(episode, penalty, normalized), atol=1e-4, rtol=1e-4)


def test_an_image_twice_and_hardly_a_penalty_stay_finite():
    episode = drawn(episodes=4)
    twice = episode._replace(support=episode.support.repeat(1, 2, 1), labels=episode.labels.repeat(1, 2))
    once = RidgeClassifier(32, 1e-6)(episode)
    torch.testing.assert_close(RidgeClassifier(32, 2e-6)(twice), once, atol=1e-3, rtol=1e-3)


def test_gradients_equal_finite_differences():
    episode = drawn(1, ways=3, shots=2, queries=1, d=4)

    def scores(support, query):
        return RidgeClassifier(4)(episode._replace(support=support, query=query))

    assert torch.autograd.gradcheck(scores, [p.double().requires_grad_() for p in (episode.support, episode.query)])


@pytest.mark.parametrize("arguments", [{"penalty": 0}, {"penalty": -1}, {"scale": 0}])
def test_senseless_arguments_are_refused(arguments):
    with pytest.raises(UsageError, match=f"{next(iter(arguments))}: .*above 0"):
        RidgeClassifier(4, **arguments)
