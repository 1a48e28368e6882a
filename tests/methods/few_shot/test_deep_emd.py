import numpy as np
import pytest
import torch
from fakes.episodes import UNEVEN, accuracies, doubled, drawn_episode, one_by_one
from scipy.optimize import linprog

from fgvc.errors import UsageError
from fgvc.methods import in_parts
from fgvc.methods.few_shot.deep_emd import DeepEMDClassifier


def slow(support, labels, query, ways):
    """Return (Q, W) with the paper's linear program, one pair of maps after the other."""
    scores = np.zeros((len(query), ways))
    for w in range(ways):
        p = support[labels == w].mean(0).reshape(support.shape[1], -1).T
        for i, image in enumerate(query):
            q = image.reshape(len(image), -1).T
            masses = []
            for places, other in ((q, p), (p, q)):
                weights = np.maximum(places @ other.mean(0), 0) + 1e-3
                masses.append(weights / weights.sum())
            centred = [x - x.mean(1, keepdims=True) for x in (q, p)]
            a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in centred)
            n = len(q)
            carried = np.vstack([np.kron(np.eye(n), np.ones(n)), np.kron(np.ones(n), np.eye(n))])
            plan = linprog((1 - a @ b.T).flatten(), A_eq=carried, b_eq=np.concatenate(masses)).x
            scores[i, w] = 12.5 * (plan.reshape(n, n) * (a @ b.T)).sum()
    return scores


def test_scores_at_small_regularisation_are_those_of_the_linear_program():
    episode = doubled(drawn_episode(episodes=2, shots=UNEVEN, shape=(9, 2, 3), queries=1)[0])
    found = DeepEMDClassifier(9, regularisation=0.005, steps=5000)(episode).numpy()
    slowly = np.stack([slow(*(x[e].numpy() for x in episode[:3]), 5) for e in range(2)])
    np.testing.assert_allclose(found, slowly, atol=0.03)
    usual = DeepEMDClassifier(9)(episode).numpy()
    np.testing.assert_allclose(usual, slowly, atol=0.3)  # the entropy costs a little of each score ...
    assert np.corrcoef(usual.flatten(), slowly.flatten())[0, 1] > 0.999  # ... and hardly moves one against another


def test_episodes_are_answered_as_alone_and_in_parts(monkeypatch):
    episode, _ = drawn_episode(shots=UNEVEN, shape=(16, 3, 3))
    scores = DeepEMDClassifier(16)(episode)
    torch.testing.assert_close(scores, one_by_one(DeepEMDClassifier(16), episode), atol=1e-4, rtol=1e-4)
    monkeypatch.setattr(in_parts, "BUDGET", 1)
    torch.testing.assert_close(scores, DeepEMDClassifier(16)(episode), atol=1e-4, rtol=1e-4)


def test_ways_of_equal_numbers_are_told_apart():
    episode, truth = drawn_episode(shape=(16, 3, 3), spread=0.7)
    assert accuracies(DeepEMDClassifier(16)(episode), truth).mean() > 0.9


def test_derivatives_equal_finite_differences():
    episode = doubled(drawn_episode(episodes=1, shots=(1, 2), shape=(5, 2, 2), queries=1)[0])
    classifier = DeepEMDClassifier(5, steps=4)
    inputs = [x.clone().requires_grad_() for x in (episode.support, episode.query)]
    assert torch.autograd.gradcheck(lambda s, q: classifier(episode._replace(support=s, query=q)), inputs)


@pytest.mark.parametrize("arguments", [{"temperature": 0}, {"regularisation": 0}, {"steps": 0}])
def test_senseless_arguments_are_refused(arguments):
    with pytest.raises(UsageError, match=next(iter(arguments))):
        DeepEMDClassifier(4, **arguments)
