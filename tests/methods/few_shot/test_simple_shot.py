import pytest
import torch
from easyfsl.methods import PrototypicalNetworks, SimpleShot
from fakes.feature_episodes import accuracies, drawn, peers_scores, ragged

from fgvc.errors import UsageError
from fgvc.methods.few_shot.simple_shot import SimpleShotClassifier


def base(n=50, d=32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(5)) + 0.7


def prepared(**arguments):
    classifier = SimpleShotClassifier(32, **arguments)
    classifier.prepare(base(), torch.arange(50) % 7)
    return classifier


@pytest.mark.parametrize("normalization", ["none", "l2", "cl2n"])
@pytest.mark.parametrize("episode", [drawn(), ragged()], ids=["even", "ragged"])
def test_scores_and_accuracies_equal_the_peers(normalization, episode):
    peers = {
        "feature_centering": base().mean(dim=0) if normalization == "cl2n" else None,
        "feature_normalization": None if normalization == "none" else 2.0,
    }
    for distance, peer in (("euclidean", PrototypicalNetworks), ("cosine", SimpleShot)):
        theirs = peers_scores(peer(**peers), episode)
        ours = prepared(normalization=normalization, distance=distance)(episode)
        torch.testing.assert_close(accuracies(ours, 4), accuracies(theirs, 4), atol=1e-4, rtol=0)
        expected = -theirs.square() if distance == "euclidean" else theirs
        torch.testing.assert_close(ours, expected, atol=1e-3 if normalization == "none" else 1e-5, rtol=1e-4)


def test_the_base_mean_counts_every_image_once_and_travels_with_the_state():
    first = prepared()
    assert first.needs_base and not SimpleShotClassifier(32, "l2").needs_base
    torch.testing.assert_close(first.mean, torch.tensor(base().numpy().mean(axis=0)))
    second = SimpleShotClassifier(32)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second(drawn()), first(drawn()), atol=0, rtol=0)


def test_centring_that_was_not_prepared_is_refused():
    with pytest.raises(UsageError, match="takes the mean of base classes, and none were given"):
        SimpleShotClassifier(32)(drawn(1))
    with pytest.raises(UsageError, match="no image of a base class"):
        SimpleShotClassifier(32).prepare(torch.zeros(0, 32), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [({"normalization": "cl2"}, "did you mean 'cl2n'"), ({"distance": "cosin"}, "cosine"), ({"scale": 0}, "above 0")],
)
def test_senseless_arguments_are_refused(arguments, told):
    with pytest.raises(UsageError, match=told):
        SimpleShotClassifier(4, **arguments)
