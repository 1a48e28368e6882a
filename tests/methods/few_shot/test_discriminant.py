import numpy as np
import pytest
import torch
from scipy.linalg import eigh

from fgvc.errors import UsageError
from fgvc.methods.few_shot.base import Episode
from fgvc.methods.few_shot.discriminant import DiscriminantClassifier, discriminant_metric


def drawn(seed=0, n=60, d=6):
    numbers = np.random.default_rng(seed)
    labels = np.arange(n) % 5
    spread = np.diag([4.0, 2, 1, 1, 0.5, 0.1])[:d, :d]
    return (numbers.normal(size=(5, d))[labels] + numbers.normal(size=(n, d)) @ spread), labels


def test_products_are_those_of_the_generalised_eigenvectors():
    x, labels = drawn()
    means = np.stack([x[labels == label].mean(axis=0) for label in range(5)])
    rest = x - means[labels]
    within = rest.T @ rest / len(x)
    even = np.trace(within) / 6
    within = 0.8 * within + 0.2 * even * np.eye(6)
    centred = means - means.mean(axis=0)
    sizes, vectors = eigh(centred.T @ centred, within)  # v^T within v = 1
    kept = vectors[:, sizes > 1e-9]
    assert kept.shape[1] == 4
    metric = discriminant_metric(torch.from_numpy(x), torch.from_numpy(labels), 0.2).numpy()
    np.testing.assert_allclose(metric @ metric.T, even * kept @ kept.T, rtol=1e-8, atol=1e-10)


def test_scores_equal_a_loop():
    x, labels = drawn()
    classifier = DiscriminantClassifier(6, shrinkage=0.3).double()
    classifier.prepare(torch.from_numpy(x), torch.from_numpy(labels))
    other, ways = drawn(1, n=15)
    query, _ = drawn(2, n=4)
    found = classifier(Episode(*(torch.from_numpy(a)[None] for a in (other, ways, query)), 5))[0].numpy()
    mean = x.mean(axis=0)
    unit = [(row - mean) / np.linalg.norm(row - mean) for row in np.concatenate([x, other, query])]
    metric = discriminant_metric(torch.from_numpy(np.stack(unit[:60])), torch.from_numpy(labels), 0.3).numpy()
    support, asked = np.stack(unit[60:75]) @ metric, np.stack(unit[75:]) @ metric
    for q, row in enumerate(asked):
        for way in range(5):
            centre = support[ways == way].mean(axis=0)
            cosine = row @ centre / np.linalg.norm(row) / np.linalg.norm(centre)
            assert found[q, way] == pytest.approx(10 * cosine, abs=1e-9)


def test_images_without_a_label_are_left_out():
    x, labels = drawn()
    cut = np.where(np.arange(60) < 20, -1, labels)
    first, second = DiscriminantClassifier(6), DiscriminantClassifier(6)
    first.prepare(torch.from_numpy(x).float(), torch.from_numpy(cut))
    second.prepare(torch.from_numpy(x[20:]).float(), torch.from_numpy(labels[20:]))
    assert torch.equal(first.metric, second.metric) and torch.equal(first.mean, second.mean)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match="shrinkage: 0; it must be above 0"):
        DiscriminantClassifier(4, shrinkage=0)
    with pytest.raises(UsageError, match="takes base classes, and none were given"):
        DiscriminantClassifier(4)(Episode(torch.ones(1, 2, 4), torch.tensor([[0, 1]]), torch.ones(1, 1, 4), 2))
    with pytest.raises(UsageError, match="at least two base classes"):
        DiscriminantClassifier(4).prepare(torch.ones(2, 4), torch.tensor([-1, -1]))
    with pytest.raises(UsageError, match="one of them with two images"):
        DiscriminantClassifier(4).prepare(torch.rand(3, 4), torch.tensor([0, 1, 2]))
