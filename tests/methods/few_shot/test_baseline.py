import pytest
import torch
from fakes.feature_episodes import accuracies, drawn, ragged
from torch import nn

from fgvc.errors import UsageError
from fgvc.methods.episode_sgd import Schedule, batch_order, first_weights
from fgvc.methods.few_shot.baseline import BaselineClassifier


def slow_scores(support, labels, query, ways, seed, epochs):
    """One episode by autograd and torch.optim.SGD on the layer itself, in float64."""
    layer = nn.Linear(support.shape[1], ways).double()
    with torch.no_grad():
        for parameter, start in zip(layer.parameters(), first_weights(ways, support.shape[1], seed), strict=True):
            parameter.copy_(start)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9, dampening=0.9, weight_decay=0.001)
    for batch in batch_order(len(support), Schedule(epochs=epochs), seed):
        optimizer.zero_grad()
        nn.functional.cross_entropy(layer(support[batch].double()), labels[batch]).backward()
        optimizer.step()
    return layer(query.double()).detach()


@pytest.mark.parametrize("episode", [drawn(4), ragged(episodes=4), drawn(2, shots=1)], ids=["even", "ragged", "1-shot"])
def test_scores_and_accuracies_equal_sgd_on_each_episode(episode):
    scores = BaselineClassifier(32, epochs=30, seed=3)(episode)
    parts = zip(*episode[:3], strict=True)
    slow = torch.stack([slow_scores(*part, episode.n_way, 3, 30) for part in parts])
    torch.testing.assert_close(scores.double(), slow, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(accuracies(scores, 4), accuracies(slow, 4), atol=1e-4, rtol=0)


def test_the_published_schedule_is_the_default():
    episode = drawn(1, queries=2)
    slow = slow_scores(episode.support[0], episode.labels[0], episode.query[0], 5, 0, 100)
    torch.testing.assert_close(BaselineClassifier(32)(episode)[0].double(), slow, atol=1e-3, rtol=1e-3)


def test_another_seed_is_another_order_and_the_same_seed_the_same():
    first, again, other = (BaselineClassifier(32, epochs=2, seed=seed)(drawn(2)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.allclose(first, other, atol=1e-3)


def test_every_epoch_sees_every_image_once_in_an_order_of_its_own():
    batches = list(batch_order(10, Schedule(epochs=3), 0))
    assert [len(batch) for batch in batches] == [4, 4, 2] * 3
    epochs = [torch.cat(batches[i : i + 3]).tolist() for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs) and epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("arguments", [{"epochs": 0}, {"seed": -1}])
def test_senseless_arguments_are_refused(arguments):
    with pytest.raises(UsageError, match=next(iter(arguments))):
        BaselineClassifier(4, **arguments)
