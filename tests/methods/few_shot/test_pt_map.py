import numpy as np
import pytest
import torch
from easyfsl.methods import PTMAP
from fakes.episodes import UNEVEN, accuracies, doubled, drawn_episode, one_by_one, peers_answers

from fgvc.errors import UsageError
from fgvc.methods.few_shot.pt_map import PTMAPClassifier, power_transform


@pytest.mark.parametrize("shots", [(3,) * 5, UNEVEN])
def test_shares_equal_the_peers(shots):
    # easyfsl has neither the length of 1 nor the centring: it is given vectors that are transformed already.
    episode, truth = drawn_episode(episodes=60, shots=shots, queries=15, positive=True)
    ours = PTMAPClassifier(32, centre=False, steps=10)(doubled(episode))
    support, query = (power_transform(x, 0.5) for x in doubled(episode)[::2])
    theirs = peers_answers(lambda: PTMAP(power_factor=1.0), episode._replace(support=support, query=query))
    torch.testing.assert_close(ours.exp(), theirs, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(accuracies(ours, truth), accuracies(theirs, truth), atol=1e-4, rtol=0)


def slow(support, labels, query, ways):
    def even(vectors):
        vectors = np.sign(vectors) * (np.abs(vectors) + 1e-6) ** 0.5
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    support, query = even(support), even(query)
    support = support - np.mean([support[labels == w].mean(0) for w in range(ways)], axis=0)
    query = query - query.mean(0)
    support, query = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (support, query))
    prototypes = np.stack([support[labels == w].mean(0) for w in range(ways)])

    def shares():
        plan = np.exp(-10 * ((query[:, None] - prototypes) ** 2).sum(2))
        for _ in range(600):
            plan /= plan.sum(1, keepdims=True)
            plan *= len(query) / ways / plan.sum(0, keepdims=True)
        return plan

    for _ in range(20):
        share = shares()
        for w in range(ways):
            total = support[labels == w].sum(0) + share[:, w] @ query
            mean = total / ((labels == w).sum() + share[:, w].sum())
            prototypes[w] += 0.2 * (mean - prototypes[w])
    return shares()


def test_the_published_form_equals_a_slow_loop_also_where_queries_cannot_be_shared_out_evenly():
    episode = doubled(drawn_episode(episodes=3, shots=UNEVEN)[0])
    episode = episode._replace(query=episode.query[:, :13])
    found = PTMAPClassifier(32)(episode).exp()
    for e in range(3):
        slowly = slow(*(x[e].numpy() for x in episode[:3]), 5)
        np.testing.assert_allclose(found[e].numpy(), slowly, atol=1e-4)


def test_each_query_is_shared_out_once_and_each_way_gets_as_much():
    episode, _ = drawn_episode(shots=UNEVEN, queries=7)
    shares = PTMAPClassifier(32)(episode).exp()
    torch.testing.assert_close(shares.sum(dim=2), torch.ones(12, 35), atol=1e-4, rtol=0)
    torch.testing.assert_close(shares.sum(dim=1), torch.full((12, 5), 7.0), atol=1e-4, rtol=0)


def test_an_episode_is_answered_as_alone():
    episode = doubled(drawn_episode(episodes=4, shots=UNEVEN, spread=3.0)[0])
    classifier = PTMAPClassifier(32, steps=5)
    torch.testing.assert_close(classifier(episode), one_by_one(classifier, episode))


@pytest.mark.parametrize("arguments", [{"power": 0}, {"sharpness": -1}, {"rate": 0}, {"steps": -1}])
def test_senseless_arguments_are_refused(arguments):
    with pytest.raises(UsageError, match=next(iter(arguments))):
        PTMAPClassifier(4, **arguments)
