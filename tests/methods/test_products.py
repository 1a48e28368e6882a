import pytest
import torch
from fakes.feature_episodes import drawn

from fgvc.methods.few_shot.base import Episode, assignments
from fgvc.methods.products import ByProducts, products_of_rows
from fgvc.methods.slots import known_classes

ARGUMENTS = {
    "PrototypeClassifier": [{}, {"distance": "cosine", "scale": 3.0}],
    "SimpleShotClassifier": [
        {"normalization": kind, "distance": distance, "scale": 2.0}
        for kind in ("none", "l2", "cl2n")
        for distance in ("euclidean", "cosine")
    ],
    "MatchingClassifier": [{}, {"scale": 1.0}],
    "CacheClassifier": [{}, {"alpha": 3.0, "beta": 1.0}],
    "RidgeClassifier": [{}, {"penalty": 0.1, "scale": 2.0}, {"normalize": False}],
}


def images_and_rows():
    """Return features (N, D) with a large part that all share, and 6 ragged episodes as rows and labels."""
    numbers = torch.Generator().manual_seed(1)
    features = torch.randn(40, 24, generator=numbers) + 2
    rows = torch.stack([torch.randperm(40, generator=numbers)[:16] for _ in range(6)])
    labels = torch.stack([torch.tensor([0, 0, 0, 1, 2, 2])[torch.randperm(6, generator=numbers)] for _ in rows])
    return features, rows[:, :6], labels, rows[:, 6:]


def test_every_class_that_scores_products_is_tried_here():
    assert {name for name, kind in known_classes().items() if issubclass(kind, ByProducts)} == set(ARGUMENTS)


@pytest.mark.parametrize(("name", "arguments"), [(name, one) for name, many in ARGUMENTS.items() for one in many])
def test_products_give_the_scores_of_the_features(name, arguments):
    features, support, labels, query = images_and_rows()
    classifier = known_classes()[name](24, **arguments)
    classifier.prepare(drawn(d=24).support.flatten(0, 1), torch.zeros(300, dtype=torch.int64))
    episode = Episode(features[support], labels, features[query], 3)
    vectors = classifier.embed(features)
    products = products_of_rows(vectors @ vectors.T, support, query, assignments(episode))
    torch.testing.assert_close(classifier.score_products(products), classifier(episode), atol=2e-4, rtol=1e-4)


def test_products_are_those_of_the_rows():
    features, support, labels, query = images_and_rows()
    ones = torch.nn.functional.one_hot(labels, 3)
    products = products_of_rows(features @ features.T, support, query, ones)
    for e in range(6):
        for i, row in enumerate(query[e]):
            assert products.squares[e, i, 0] == pytest.approx(features[row].dot(features[row]).item(), rel=1e-5)
            for j, other in enumerate(support[e]):
                assert products.across[e, i, j] == pytest.approx(features[row].dot(features[other]).item(), rel=1e-5)
    assert torch.equal(products.among, products.among.transpose(1, 2))
