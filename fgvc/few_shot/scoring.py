"""A few-shot method over many episodes: features -> the accuracy of each episode.

Shape letters: N photographs, D numbers of a vector, C channels, h, w grid, E episodes, W ways, K shots, Q queries per
class.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from fgvc.data.episodes import Episodes, batches
from fgvc.errors import UsageError
from fgvc.few_shot.images import Photographs
from fgvc.few_shot.methods import Method, Transform
from fgvc.files.bars import bar
from fgvc.methods.few_shot.base import Episode, FewShotClassifier
from fgvc.methods.products import ByProducts, products_of_rows

Score = Callable[[Tensor, Tensor], Tensor]
"""Rows (E, S) of support images and (E, Q) of queries -> scores (E, Q, W)."""

MOST_PRODUCTS = 8192
"""How many photographs have all their products taken at once, 256 MiB; of more, each episode takes its own."""
NUMBERS_AT_ONCE = 2**22
"""How many numbers of features the episodes that are answered at once have together."""


def accuracies(
    method: Method, novel: Photographs, base: Photographs | None, episodes: Episodes, device: str = "cpu"
) -> npt.NDArray[np.float64]:
    """Return (E,) the share of right answers in each episode.

    Args:
        method: the classifier.
        novel: the photographs that the episodes are made of.
        base: photographs of base classes, for methods that learn from them, or None.
        episodes: whose positions count in `novel`.
        device: where it is computed.

    Raises:
        UsageError: a method that needs base classes or a training, or takes maps where the features are vectors.
    """
    classifier = made(method, novel, base).to(device).eval()
    mean = _vectors(base, classifier).mean(dim=0) if base is not None and method.features == "cl2n" else None
    features = novel.features if classifier.takes == "map" else _vectors(novel, classifier)
    if isinstance(features, Tensor):
        features = transformed(features, method.features, mean)
    return answered(classifier, features, episodes, device, method.name)


def made(method: Method, novel: Photographs, base: Photographs | None) -> FewShotClassifier:
    """Return the classifier of a method, prepared with the base classes where it needs them; raises UsageError."""
    classifier = method.make(novel.features.shape[1])
    if classifier.takes == "map" and novel.features.ndim != 4:
        raise UsageError(
            f"{method.name}: it compares maps, and these features are vectors; embed the photographs with --take map"
        )
    if (classifier.needs_base or method.features == "cl2n") and base is None:
        raise UsageError(
            f"{method.name}: it takes the mean of base classes, and there are none here: the split train is not "
            "embedded, or all photographs are in the episodes"
        )
    if classifier.needs_base and base is not None:
        with torch.no_grad():
            classifier.prepare(_vectors(base, classifier), torch.from_numpy(base.labels).long())
    return classifier


def transformed(features: Tensor, how: Transform, mean: Tensor | None) -> Tensor:
    """Return vectors (N, D) as a method wants them, see `Method.features`."""
    if how == "raw":
        return features
    if how == "cl2n" and mean is not None:
        features = features - mean
    return normalize(features, dim=1)


def answered(
    classifier: FewShotClassifier, features: Tensor | npt.NDArray[Any], episodes: Episodes, device: str, name: str
) -> npt.NDArray[np.float64]:
    """Return (E,) accuracies of a classifier in evaluation mode over episodes of vectors (N, D) or maps (N, C, h, w).

    Maps may lie on the disk: only those of the episodes at hand are read.
    """
    ways, shots, queries = episodes.n_way, episodes.n_shot, episodes.n_query
    labels, truth = (torch.arange(ways, device=device).repeat_interleave(n) for n in (shots, queries))
    rows = [torch.from_numpy(part.reshape(len(episodes), -1)) for part in (episodes.support, episodes.query)]
    right = np.empty(len(episodes))
    with torch.no_grad():
        if isinstance(classifier, ByProducts) and isinstance(features, Tensor) and len(features) <= MOST_PRODUCTS:
            score, numbers = _by_products(classifier, features.to(device), labels, ways), shots * ways
        else:
            score, numbers = _by_features(classifier, features, labels, ways), math.prod(features.shape[1:])
        size = max(1, NUMBERS_AT_ONCE // (ways * (shots + queries) * numbers))
        for some in bar(name, [*batches(episodes, size)], delay=2, unit="batch"):
            scores = score(*(part[some] for part in rows))
            right[some] = (scores.argmax(dim=2) == truth).double().mean(dim=1).cpu().numpy()
    return right


def _by_features(
    classifier: FewShotClassifier, features: Tensor | npt.NDArray[Any], labels: Tensor, n_way: int
) -> Score:
    def score(support: Tensor, query: Tensor) -> Tensor:
        known, asked = (_taken(features, rows).float().to(labels.device) for rows in (support, query))
        found: Tensor = classifier(Episode(known, labels.expand(len(known), -1), asked, n_way))
        return found

    return score


def _by_products(classifier: ByProducts, features: Tensor, labels: Tensor, n_way: int) -> Score:
    """Return what scores episodes from the products of all photographs: most methods need no more of an episode."""
    vectors = classifier.embed(features.float())
    matrix = (vectors @ vectors.T).contiguous()
    ones = one_hot(labels, n_way).to(matrix.dtype)

    def score(support: Tensor, query: Tensor) -> Tensor:
        support, query = support.to(labels.device), query.to(labels.device)
        return classifier.score_products(products_of_rows(matrix, support, query, ones.expand(len(support), -1, -1)))

    return score


def _vectors(photographs: Photographs, classifier: FewShotClassifier) -> Tensor:
    """Return features as a classifier takes them: a vector of a map is its mean over the cells."""
    features = photographs.features
    if classifier.takes == "vector" and features.ndim == 4:
        return torch.from_numpy(features.mean(axis=(2, 3), dtype=np.float32))
    return torch.from_numpy(np.array(features, dtype=np.float32))


def _taken(features: Tensor | npt.NDArray[Any], rows: Tensor) -> Tensor:
    """Return the features (..., D) or (..., C, h, w) of rows (...)."""
    return features[rows] if isinstance(features, Tensor) else torch.from_numpy(features[rows.numpy()])
