import pytest
import torch
from easyfsl.methods import PrototypicalNetworks, SimpleShot

from fgvc.errors import UsageError
from fgvc.methods.few_shot.base import Episode, class_means
from fgvc.methods.few_shot.prototypes import PrototypeClassifier


def drawn(episodes=20, ways=5, shots=3, queries=4, d=32, spread=2.0, seed=0):
    numbers = torch.Generator().manual_seed(seed)
    centres = torch.randn(episodes, ways, 1, d, generator=numbers)
    support, query = (
        (centres + spread * torch.randn(episodes, ways, n, d, generator=numbers)).flatten(1, 2)
        for n in (shots, queries)
    )
    return Episode(support, torch.arange(ways).repeat_interleave(shots).expand(episodes, -1), query, ways)


def peers_scores(peer, episode):
    scores = []
    for support, labels, query in zip(episode.support, episode.labels, episode.query, strict=True):
        peer.process_support_set(support, labels)
        scores.append(peer(query).detach())
    return torch.stack(scores)


def test_order_equals_the_peers_for_the_distance_and_scores_for_the_cosine():
    episode = drawn()
    theirs = peers_scores(PrototypicalNetworks(), episode)  # not squared
    torch.testing.assert_close(PrototypeClassifier(32)(episode), -theirs.square(), atol=1e-3, rtol=1e-4)
    theirs = peers_scores(SimpleShot(), episode)
    torch.testing.assert_close(PrototypeClassifier(32, "cosine")(episode), theirs, atol=1e-5, rtol=1e-5)


def test_ways_may_have_different_numbers_of_images():
    support = torch.tensor([[[0.0, 0], [2, 0], [4, 0], [10, 10]]])
    episode = Episode(support, torch.tensor([[1, 1, 1, 0]]), torch.tensor([[[2.0, 1]]]), 2)
    assert class_means(episode).tolist() == [[[10, 10], [2, 0]]]
    torch.testing.assert_close(PrototypeClassifier(2)(episode), torch.tensor([[[-145.0, -1]]]))


def test_a_way_without_images_is_refused():
    episode = drawn(1)
    with pytest.raises(UsageError, match="a class of its 6 has no support image"):
        class_means(episode._replace(n_way=6))


@pytest.mark.parametrize(("arguments", "told"), [({"distance": "cosin"}, "did you mean"), ({"scale": 0}, "above 0")])
def test_senseless_arguments_are_refused(arguments, told):
    with pytest.raises(UsageError, match=told):
        PrototypeClassifier(4, **arguments)
