import math

import numpy as np
import pytest
import torch
from fakes.episodes import UNEVEN, accuracies, doubled, drawn_episode, one_by_one

from fgvc.methods import in_parts
from fgvc.methods.few_shot.frn import FRNClassifier, rebuilt


def slow(support, labels, query, ways, alpha=0.0, beta=0.0, gamma=1.0, scale=True):
    """Return (Q, W) by the formulas of the paper, one image and one way after the other."""
    channels = support.shape[1]
    if scale:
        support, query = support / math.sqrt(channels), query / math.sqrt(channels)
    scores = np.empty((len(query), ways))
    for w in range(ways):
        pool = np.concatenate([image.reshape(channels, -1).T for image in support[labels == w]])
        ridge = len(pool) / channels * math.exp(alpha) + 1e-6
        hat = np.linalg.inv(pool.T @ pool + ridge * np.eye(channels)) @ pool.T @ pool
        for i, image in enumerate(query):
            q = image.reshape(channels, -1).T
            scores[i, w] = -gamma * ((q - math.exp(beta) * q @ hat) ** 2).sum(1).mean()
    return scores


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("channels", [6, 48])  # fewer and more channels than descriptors of a way
def test_scores_equal_the_formulas_in_float64(channels, scale):
    episode, _ = drawn_episode(episodes=4, shots=UNEVEN, shape=(channels, 2, 3), queries=2)
    classifier = FRNClassifier(channels, scale_features=scale)
    slowly = [slow(*(x[e].double().numpy() for x in episode[:3]), 5, scale=scale) for e in range(4)]
    found = classifier(episode).detach().numpy()
    np.testing.assert_allclose(found, np.stack(slowly), rtol=2e-3, atol=1e-5)
    classifier = classifier.double()
    with torch.no_grad():
        for name, value in (("alpha", -0.5), ("beta", 0.2), ("gamma", 3.0)):
            getattr(classifier, name).fill_(value)
    slowly = [slow(*(x[e].double().numpy() for x in episode[:3]), 5, -0.5, 0.2, 3.0, scale) for e in range(4)]
    found = classifier(doubled(episode)).detach().numpy()
    np.testing.assert_allclose(found, np.stack(slowly), rtol=1e-9)


def test_both_forms_of_the_regression_are_the_same():
    numbers = torch.Generator().manual_seed(0)
    query, pools = (torch.randn(shape, generator=numbers, dtype=torch.float64) for shape in ((2, 3, 9), (2, 4, 5, 9)))
    ridge = torch.rand(2, 4, generator=numbers, dtype=torch.float64) + 0.1
    padded = torch.cat([pools, torch.zeros(2, 4, 40, 9)], dim=2)  # so many rows that the other form is chosen
    torch.testing.assert_close(rebuilt(query, pools, ridge), rebuilt(query, padded, ridge))


def test_derivatives_reach_the_three_numbers_and_the_maps():
    episode = doubled(drawn_episode(episodes=2, shots=(1, 2), shape=(5, 2, 2), queries=1)[0])
    classifier = FRNClassifier(5).double()

    def scores(support, query, *numbers):
        named = dict(zip(("alpha", "beta", "gamma"), numbers, strict=True))
        part = episode._replace(support=support, query=query)
        return torch.func.functional_call(classifier, named, (part,))

    inputs = [x.clone().requires_grad_() for x in (episode.support, episode.query)]
    assert torch.autograd.gradcheck(scores, (*inputs, *classifier.parameters()))


def test_episodes_are_answered_as_alone_in_parts_and_under_autocast(monkeypatch):
    episode, _ = drawn_episode(shots=UNEVEN, shape=(40, 3, 3))
    classifier = FRNClassifier(40)
    scores = classifier(episode)
    torch.testing.assert_close(scores, one_by_one(classifier, episode), atol=1e-5, rtol=1e-4)
    monkeypatch.setattr(in_parts, "BUDGET", 1)
    torch.testing.assert_close(scores, classifier(episode), atol=1e-5, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(scores, classifier(episode), atol=1e-5, rtol=1e-4)


def test_ways_of_equal_numbers_are_told_apart_without_training():
    episode, truth = drawn_episode(shape=(40, 3, 3), spread=1.0)
    assert accuracies(FRNClassifier(40)(episode), truth).mean() > 0.9
