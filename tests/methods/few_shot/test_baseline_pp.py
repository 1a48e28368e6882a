import pytest
import torch
from fakes.feature_episodes import accuracies, drawn, ragged
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from torch.nn.utils.parametrizations import weight_norm

from fgvc.errors import UsageError
from fgvc.methods.episode_sgd import Schedule, batch_order, first_weights
from fgvc.methods.few_shot.baseline_pp import BaselinePPClassifier


def slow_scores(support, labels, query, ways, seed, epochs, scale):
    """One episode by autograd, torch's weight norm and torch.optim.SGD, in float64."""
    layer = nn.Linear(support.shape[1], ways, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(first_weights(ways, support.shape[1], seed)[0])
    weight_norm(layer, dim=0)
    support, query = normalize(support.double(), dim=1), normalize(query.double(), dim=1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9, dampening=0.9, weight_decay=0.001)
    for batch in batch_order(len(support), Schedule(epochs=epochs), seed):
        optimizer.zero_grad()
        cross_entropy(scale * layer(support[batch]), labels[batch]).backward()
        optimizer.step()
    return scale * layer(query).detach()


@pytest.mark.parametrize("scale", [2.0, 10.0])
@pytest.mark.parametrize("episode", [drawn(4), ragged(episodes=4), drawn(2, shots=1)], ids=["even", "ragged", "1-shot"])
def test_scores_and_accuracies_equal_sgd_on_each_episode(episode, scale):
    scores = BaselinePPClassifier(32, scale, epochs=30, seed=3)(episode)
    parts = zip(*episode[:3], strict=True)
    slow = torch.stack([slow_scores(*part, episode.n_way, 3, 30, scale) for part in parts])
    torch.testing.assert_close(scores.double(), slow, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(accuracies(scores, 4), accuracies(slow, 4), atol=1e-4, rtol=0)


def test_the_published_schedule_is_the_default():
    episode = drawn(1, queries=2)
    slow = slow_scores(episode.support[0], episode.labels[0], episode.query[0], 5, 0, 100, 2.0)
    torch.testing.assert_close(BaselinePPClassifier(32)(episode)[0].double(), slow, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("arguments", [{"epochs": 0}, {"seed": -1}, {"scale": 0}])
def test_senseless_arguments_are_refused(arguments):
    with pytest.raises(UsageError, match=next(iter(arguments))):
        BaselinePPClassifier(4, **arguments)
