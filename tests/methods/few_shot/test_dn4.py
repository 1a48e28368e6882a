import numpy as np
import pytest
import torch
from fakes.episodes import UNEVEN, accuracies, doubled, drawn_episode, one_by_one

from fgvc.errors import UsageError
from fgvc.methods import in_parts
from fgvc.methods.few_shot.dn4 import DN4Classifier


def slow(support, labels, query, ways, neighbours):
    """Return (Q, W), one descriptor after the other; where a way has too few, their mean stands for the rest."""
    scores = np.zeros((len(query), ways))
    for w in range(ways):
        pool = np.concatenate([image.reshape(len(image), -1).T for image in support[labels == w]])
        for i, image in enumerate(query):
            for q in image.reshape(len(image), -1).T:
                alike = np.sort([p @ q / np.sqrt((p @ p) * (q @ q)) for p in pool])[::-1]
                scores[i, w] += alike[:neighbours].mean() * neighbours
    return scores


@pytest.mark.parametrize(("grid", "neighbours"), [((2, 3), 3), ((1, 2), 3), ((1, 1), 4), ((2, 2), 1)])
def test_scores_equal_a_slow_loop_in_float64(grid, neighbours):
    episode = doubled(drawn_episode(episodes=3, shots=UNEVEN, shape=(7, *grid), queries=2)[0])
    found = DN4Classifier(7, neighbours)(episode).numpy()
    slowly = [slow(*(x[e].numpy() for x in episode[:3]), 5, neighbours) for e in range(3)]
    np.testing.assert_allclose(found, np.stack(slowly), rtol=1e-9)


def test_episodes_are_answered_as_alone_and_in_parts(monkeypatch):
    episode, _ = drawn_episode(shots=UNEVEN, shape=(16, 3, 3))
    scores = DN4Classifier(16)(episode)
    torch.testing.assert_close(scores, one_by_one(DN4Classifier(16), episode))
    monkeypatch.setattr(in_parts, "BUDGET", 1)
    torch.testing.assert_close(scores, DN4Classifier(16)(episode))


def test_ways_of_equal_numbers_are_told_apart():
    episode, truth = drawn_episode(shape=(16, 3, 3), spread=1.0)
    assert accuracies(DN4Classifier(16)(episode), truth).mean() > 0.9


def test_training_moves_maps_towards_the_truth():
    episode, truth = drawn_episode(shape=(8, 2, 2))
    query = episode.query.requires_grad_()
    losses = []
    for _ in range(2):
        scores = DN4Classifier(8)(episode._replace(query=query))
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), truth.flatten())
        losses.append(loss.item())
        query = (query - torch.autograd.grad(loss, query)[0]).detach().requires_grad_()
    assert losses[1] < losses[0]


def test_no_neighbour_is_refused():
    with pytest.raises(UsageError, match="neighbours 0"):
        DN4Classifier(4, 0)
