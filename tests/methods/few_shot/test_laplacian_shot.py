import numpy as np
import pytest
import torch
from easyfsl.methods import LaplacianShot
from fakes.episodes import UNEVEN, accuracies, doubled, drawn_episode, one_by_one, peers_answers
from scipy.special import softmax

from fgvc.errors import UsageError
from fgvc.methods.few_shot.laplacian_shot import LaplacianShotClassifier, affinities, bound_updates


def test_answers_equal_the_peers():
    episode, truth = drawn_episode(episodes=100, queries=15, spread=2.0)
    ours = LaplacianShotClassifier(32, scale=1.0)(episode)
    theirs = peers_answers(lambda: LaplacianShot(feature_normalization=2.0), episode)
    torch.testing.assert_close(ours.softmax(dim=2), theirs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(accuracies(ours, truth), accuracies(theirs, truth), atol=1e-4, rtol=0)


def slow_updates(distances, query, neighbours, weight, steps):
    near = np.zeros((len(query), len(query)))
    for q in range(len(query)):
        away = ((query - query[q]) ** 2).sum(1)
        away[q] = np.inf
        near[q, np.argsort(away)[:neighbours]] = 1
    y = softmax(-distances, axis=1)
    before = np.inf
    for step in range(steps):
        y = softmax(-distances + weight * near @ y, axis=1)
        bound = (y * np.log(y) + distances * y - weight * (near @ y) * y).sum()
        if step > 1 and abs(bound - before) <= 1e-6 * abs(before):
            break
        before = bound
    return y


@pytest.mark.parametrize("steps", [1, 3, 200])
def test_updates_equal_a_slow_loop_and_stop_episode_by_episode(steps):
    numbers = torch.Generator().manual_seed(1)
    query = torch.randn(6, 20, 8, generator=numbers, dtype=torch.float64)
    distances = torch.rand(6, 20, 4, generator=numbers, dtype=torch.float64)
    distances *= torch.tensor([0.1, 0.5, 1, 2, 5, 20]).view(-1, 1, 1)  # some settle sooner than others
    found = bound_updates(distances, affinities(query, 3), 1.5, steps).softmax(dim=2)
    slowly = [slow_updates(d.numpy(), q.numpy(), 3, 1.5, steps) for d, q in zip(distances, query, strict=True)]
    np.testing.assert_allclose(found.numpy(), np.stack(slowly), atol=1e-10)


def test_uneven_ways_are_answered_as_each_episode_alone():
    episode = doubled(drawn_episode(shots=UNEVEN)[0])
    classifier = LaplacianShotClassifier(32)
    torch.testing.assert_close(classifier(episode), one_by_one(classifier, episode), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("queries", [1, 2])
def test_fewer_queries_than_neighbours_are_answered(queries):
    episode, _ = drawn_episode()
    scores = LaplacianShotClassifier(32, neighbours=5)(episode._replace(query=episode.query[:, :queries]))
    assert scores.shape == (12, queries, 5) and scores.isfinite().all()


@pytest.mark.parametrize("arguments", [{"neighbours": 0}, {"steps": 0}, {"weight": -0.1}, {"scale": -1.0}])
def test_senseless_arguments_are_refused(arguments):
    with pytest.raises(UsageError, match=next(iter(arguments))):
        LaplacianShotClassifier(4, **arguments)
