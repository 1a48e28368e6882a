"""The nearest vectors by a graph of neighbours, which misses a few: usearch, an extra.

Source: Y. Malkov, D. Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable
Small World graphs", 2016. To build the graph takes long: it pays for many queries.
Shape letters: Q queries, N vectors of the gallery, D numbers each, M candidates, K neighbours.
"""

from typing import Any

import numpy as np
import torch

from fgvc.errors import UsageError
from fgvc.prediction.retrieval.nearest import ExactSearch, Neighbours, Pairs, Vectors

CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH = 16, 128, 128


class ApproximateSearch(ExactSearch):
    """Finds near vectors of a gallery by a graph; those that it finds are compared and told exactly.

    Args:
        gallery, metric: see ExactSearch.

    Raises:
        UsageError: usearch is not installed, or as ExactSearch.
    """

    def __init__(self, gallery: Vectors, metric: str = "cosine") -> None:
        super().__init__(gallery, metric)
        try:
            from usearch.index import Index
        except ImportError as error:
            raise UsageError(
                f"approximate: usearch cannot be loaded ({error}); pip install 'fgvc[search]', or leave it out: exact "
                "search needs no extra"
            ) from None
        self._index: Any = Index(
            ndim=gallery.shape[1],
            metric="cos" if metric == "cosine" else "l2sq",
            dtype="f32",
            connectivity=CONNECTIVITY,
            expansion_add=EXPANSION_ADD,
            expansion_search=EXPANSION_SEARCH,
        )
        self._index.add(np.arange(len(gallery), dtype=np.uint64), gallery, threads=torch.get_num_threads())

    def nearest(self, queries: Vectors, k: int, barred: Pairs | None = None, told: Any = None) -> Neighbours:
        """Find K near ones of each query; see `ExactSearch.nearest`."""
        self._check(queries, k)
        pairs = np.zeros((0, 2), np.int64) if barred is None else np.asarray(barred, dtype=np.int64)
        own = int(np.bincount(pairs[:, 0]).max()) if len(pairs) else 0
        most = min(k + own, len(self.gallery))
        matches = self._index.search(np.ascontiguousarray(queries), most, threads=torch.get_num_threads())
        found = np.asarray(matches.keys, dtype=np.int64).reshape(len(queries), -1)
        lacking = np.arange(found.shape[1]) >= np.asarray(matches.counts).reshape(-1, 1)
        found = np.where(lacking, 0, found)
        scores = np.where(lacking, -np.inf, self.compared(queries, found))
        for query, place in pairs.tolist():
            scores[query, found[query] == place] = -np.inf
        order = np.lexsort((found, -scores), axis=1)[:, :k]
        best, at = np.take_along_axis(scores, order, axis=1), np.take_along_axis(found, order, axis=1)
        places, values = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.nan)
        known = best > -np.inf
        places[:, : at.shape[1]] = np.where(known, at, -1)
        values[:, : at.shape[1]] = np.where(known, self._values(best), np.nan)
        if told is not None:
            told(len(queries))
        return Neighbours(places, values)
