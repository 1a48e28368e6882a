import numpy as np
import pytest
import torch
from easyfsl.methods import PrototypicalNetworks

from fgvc.data.episodes import draw
from fgvc.errors import UsageError
from fgvc.few_shot import scoring
from fgvc.few_shot.images import Photographs
from fgvc.few_shot.methods import method
from fgvc.few_shot.scoring import accuracies, transformed

NAMES = [str(i) for i in range(12)]


def birds(seed=0, classes=12, each=20, shape=(16,)):
    numbers = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes, dtype=np.int32), each)
    centres = numbers.normal(size=(classes, *shape))
    features = (centres[labels] + 1.2 * numbers.normal(size=(len(labels), *shape))).astype(np.float32)
    return Photographs([f"{i}.jpg" for i in range(len(labels))], labels, features)


def drawn(novel, n=40):
    return draw(novel.labels, 5, 2, 8, n, 1, NAMES, "test")


def peers(novel, episodes, centre=None):
    """Accuracy of each episode by the peer's loop over episodes."""
    right = []
    for support, query in zip(episodes.support, episodes.query, strict=True):
        peer = PrototypicalNetworks(feature_centering=centre, feature_normalization=None if centre is None else 2)
        truth = torch.arange(5)
        peer.process_support_set(
            torch.from_numpy(novel.features[support.ravel()]), truth.repeat_interleave(support.shape[1])
        )
        answer = peer(torch.from_numpy(novel.features[query.ravel()])).argmax(dim=1)
        right.append(float((answer == truth.repeat_interleave(query.shape[1])).float().mean()))
    return np.array(right)


@pytest.mark.parametrize(("at_once", "most_products"), [(1, 0), (3000, 8192), (2**22, 0), (2**22, 8192)])
def test_accuracies_of_episodes_equal_the_peers(monkeypatch, at_once, most_products):
    monkeypatch.setattr(scoring, "NUMBERS_AT_ONCE", at_once)
    monkeypatch.setattr(scoring, "MOST_PRODUCTS", most_products)
    novel = birds()
    episodes = drawn(novel)
    found = accuracies(method("prototypes"), novel, None, episodes)
    np.testing.assert_allclose(found, peers(novel, episodes), atol=1e-6)
    assert 0.3 < found.mean() < 0.999


def test_base_mean_and_length_one_equal_the_peers(tmp_path):
    file = tmp_path / "centred.yaml"
    file.write_text("features: cl2n\nclassifier: {class_path: PrototypeClassifier}\n")
    novel, base = birds(), birds(seed=1)
    episodes = drawn(novel)
    found = accuracies(method(str(file)), novel, base, episodes)
    np.testing.assert_allclose(found, peers(novel, episodes, torch.from_numpy(base.features).mean(dim=0)), atol=1e-6)
    with pytest.raises(UsageError, match="centred: it takes the mean of base classes"):
        accuracies(method(str(file)), novel, None, episodes)


def test_a_map_is_its_mean_to_a_method_of_vectors():
    novel = birds(shape=(16, 3, 3))
    vectors = novel._replace(features=novel.features.mean(axis=(2, 3)))
    episodes = drawn(novel)
    assert np.array_equal(*(accuracies(method("prototypes"), one, None, episodes) for one in (novel, vectors)))


def test_transformed_vectors():
    x = torch.tensor([[3.0, 4], [6, 8]])
    assert transformed(x, "raw", None) is x
    torch.testing.assert_close(transformed(x, "l2", None), torch.tensor([[0.6, 0.8], [0.6, 0.8]]))
    torch.testing.assert_close(
        transformed(x, "cl2n", torch.tensor([3.0, 3.0])), torch.tensor([[0, 1.0], [3 / 34**0.5, 5 / 34**0.5]])
    )
