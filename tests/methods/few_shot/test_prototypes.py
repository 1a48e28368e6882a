import pytest
import torch
from easyfsl.methods import PrototypicalNetworks, SimpleShot
from fakes.feature_episodes import drawn, peers_scores

from fgvc.errors import UsageError
from fgvc.methods.few_shot.base import Episode, class_means, widened
from fgvc.methods.few_shot.prototypes import PrototypeClassifier


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


def test_scale_must_be_finite():
    with pytest.raises(UsageError, match="scale: nan"):
        PrototypeClassifier(4, scale=float("nan"))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_a_large_part_that_all_features_share_does_not_change_the_distances(distance):
    episode = drawn(d=16)
    far = episode._replace(support=episode.support + 1000, query=episode.query + 1000)
    exact = far._replace(support=far.support.double(), query=far.query.double())
    expected = PrototypeClassifier(16, distance)(exact)
    found = PrototypeClassifier(16, distance)(far)
    if distance == "euclidean":
        expected, found = (x - x.mean(dim=2, keepdim=True) for x in (expected, found.double()))
        torch.testing.assert_close(found, expected, atol=0.05, rtol=0)  # a plain |q|^2 + |p|^2 - 2qp is wrong by 2
    else:
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


def test_gradients_equal_finite_differences():
    episode = drawn(1, ways=3, shots=2, queries=1, d=4)

    def scores(support, query):
        own = episode._replace(support=support, query=query)
        return PrototypeClassifier(4)(own), PrototypeClassifier(4, "cosine")(own)

    inputs = [part.double().requires_grad_() for part in (episode.support, episode.query)]
    assert torch.autograd.gradcheck(scores, inputs)


def test_half_precision_is_widened_and_the_rest_left_alone():
    episode = drawn(1)
    assert widened(episode) is episode
    half = episode._replace(support=episode.support.half(), query=episode.query.half())
    assert widened(half).support.dtype == widened(half).query.dtype == torch.float32
