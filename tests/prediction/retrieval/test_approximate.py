import builtins

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from fgvc.errors import UsageError
from fgvc.prediction.retrieval.approximate import ApproximateSearch


def vectors(n, d=16, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_nearly_all_true_neighbours_are_found_and_their_values_are_exact(metric):
    pytest.importorskip("usearch.index")
    gallery = vectors(600)
    own = np.stack([np.arange(50), np.arange(50)], axis=1)
    found = ApproximateSearch(gallery, metric).nearest(gallery[:50], 5, own)
    table = cdist(gallery[:50].astype(np.float64), gallery.astype(np.float64), metric)
    table[np.arange(50), np.arange(50)] = np.inf
    truth = np.argsort(table, axis=1)[:, :5]
    hits = [len(set(one) & set(other)) for one, other in zip(found.places.tolist(), truth.tolist(), strict=True)]
    assert sum(hits) >= 0.95 * 250 and not (found.places == np.arange(50)[:, None]).any()
    values = np.take_along_axis(table, found.places, axis=1)
    np.testing.assert_allclose(found.values, 1 - values if metric == "cosine" else values, atol=1e-9)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch):
    imported = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("usearch"):
            raise ImportError("No module named 'usearch'")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError, match=r"usearch cannot be loaded .*pip install 'fgvc\[search\]'"):
        ApproximateSearch(vectors(3))
