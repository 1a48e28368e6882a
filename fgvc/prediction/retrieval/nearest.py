"""The nearest vectors of a gallery, exactly and in flat memory: a block of queries against a block of the gallery.

Shape letters: Q queries, N vectors of the gallery, D numbers each, B queries of a block, M candidates, K neighbours.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fgvc.errors import UsageError, did_you_mean

METRICS = ("cosine", "euclidean")
"""cosine: similarity, the largest first; 0 for a vector of zeros. euclidean: distance, the smallest first."""
QUERIES, GALLERY = 512, 8192
"""Vectors of a block on either side: their products, 16 MB, and the blocks themselves stay small."""
SPARE = 8
"""Candidates beyond K that the products leave for the exact comparison."""
_TOGETHER = 1 << 15
"""Numbers of candidates that are compared exactly at once: a quarter of a megabyte, which stays in a core's cache."""

Vectors = npt.NDArray[np.float32]
Pairs = npt.NDArray[np.int64]
Places = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


class Neighbours(NamedTuple):
    """The best of each query, best first.

    places: (Q, K) int64, rows of the gallery; -1 where it has no more.
    values: (Q, K) float64, cosine similarities or distances; NaN where there is no neighbour.
    """

    places: Places
    values: Scores


def check_metric(metric: str) -> str:
    """Return the metric, or raise UsageError for a word that is none."""
    if metric not in METRICS:
        raise UsageError(f"metric: {metric!r}; it is {' or '.join(METRICS)}{did_you_mean(metric, METRICS)}")
    return metric


class ExactSearch:
    """Finds the nearest vectors of a gallery.

    Products in float32 leave K + SPARE candidates, which are compared in float64; equal ones keep the order of the
    gallery. Where the rounding of a product (8 sqrt(D) half units in the last place of what is multiplied) could have
    left a better one out, all that come near are compared, so that the answer depends neither on blocks nor on copies.

    Args:
        gallery: (N, D) float32, N at least 1; it is not copied.
        metric: see METRICS.
        device: where products are taken.

    Raises:
        UsageError: an empty gallery, maps in place of vectors, or another metric.
    """

    def __init__(self, gallery: Vectors, metric: str = "cosine", device: str | torch.device = "cpu") -> None:
        self.metric = check_metric(metric)
        if gallery.ndim != 2:
            raise UsageError(
                f"gallery of shape {gallery.shape}: vectors are compared, (N, D); embed with --take pooled or prelogits"
            )
        if not len(gallery):
            raise UsageError("the gallery is empty: it holds no photograph to be found")
        self.gallery, self.device = gallery, torch.device(device)
        squares = np.empty(len(gallery))
        for start in range(0, len(gallery), GALLERY):
            block = gallery[start : start + GALLERY]
            squares[start : start + GALLERY] = np.einsum("ij,ij->i", block, block, dtype=np.float64)
        self.norms: Scores = np.sqrt(squares)
        if metric == "cosine":
            scale, shift = 1 / np.where(self.norms > 0, self.norms, np.inf), np.zeros(len(gallery))
        else:
            scale, shift = np.ones(len(gallery)), -squares / 2
        self._scale, self._shift = (torch.from_numpy(one).float().to(self.device) for one in (scale, shift))

    def nearest(
        self,
        queries: Vectors,
        k: int,
        barred: Pairs | None = None,
        told: Callable[[int], object] | None = None,
    ) -> Neighbours:
        """Find the K nearest of each query.

        Args:
            queries: (Q, D) float32.
            k: K, at least 1.
            barred: (pairs, 2), a query and a row of the gallery that is no answer to it, e.g. itself.
            told: is called with the number of queries of each block that is done.

        Raises:
            UsageError: K below 1, or vectors of another length.
        """
        self._check(queries, k)
        pairs = torch.from_numpy(np.zeros((0, 2), np.int64) if barred is None else np.asarray(barred, dtype=np.int64))
        places, values = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.nan)
        for start in range(0, len(queries), QUERIES):
            block = queries[start : start + QUERIES]
            here = pairs[(pairs[:, 0] >= start) & (pairs[:, 0] < start + len(block))] - torch.tensor([start, 0])
            found, scores = self._of_block(block, k, here)
            known = scores > -np.inf
            places[start : start + len(block), : found.shape[1]] = np.where(known, found, -1)
            values[start : start + len(block), : found.shape[1]] = np.where(known, self._values(scores), np.nan)
            if told is not None:
                told(len(block))
        return Neighbours(places, values)

    def scores(self, queries: Vectors) -> Iterator[tuple[int, Tensor]]:
        """Yield the first row of each block of the gallery, and (B, rows) float32 scores of all queries.

        More is nearer.
        cosine: the similarity. euclidean: (|q|^2 - distance^2) / 2 without |q|^2.
        """
        shown = self._shown(queries)
        for start in range(0, len(self.gallery), GALLERY):
            rows = torch.from_numpy(np.ascontiguousarray(self.gallery[start : start + GALLERY])).to(self.device)
            scale, shift = (one[start : start + GALLERY] for one in (self._scale, self._shift))
            yield start, (shown @ rows.T).mul_(scale).add_(shift)

    def compared(self, queries: Vectors, places: Places) -> Scores:
        """Return (B, M) float64 scores of queries (B, D) and rows of the gallery (B, M): cosine or -distance^2 / 2."""
        scores = np.empty(places.shape)
        rows = max(1, _TOGETHER // (places.shape[1] * queries.shape[1]))
        norms = np.sqrt((queries.astype(np.float64) ** 2).sum(axis=1))
        for start in range(0, len(queries), rows):
            some = slice(start, start + rows)
            one, others = (
                torch.from_numpy(queries[some]).double(),
                torch.from_numpy(self.gallery[places[some]]).double(),
            )
            if self.metric == "cosine":
                product = others.mul_(one[:, None]).sum(dim=2).numpy()
                both = norms[some, None] * self.norms[places[some]]
                scores[some] = product / np.where(both > 0, both, np.inf)
            else:
                scores[some] = -others.sub_(one[:, None]).square_().sum(dim=2).numpy() / 2
        return scores

    def _check(self, queries: Vectors, k: int) -> None:
        if k < 1:
            raise UsageError(f"top_k: {k}; give 1 or more")
        if queries.ndim != 2 or queries.shape[1] != self.gallery.shape[1]:
            raise UsageError(
                f"queries of shape {queries.shape}; the gallery's vectors have {self.gallery.shape[1]} numbers"
            )

    def _shown(self, queries: Vectors) -> Tensor:
        shown = torch.from_numpy(np.ascontiguousarray(queries)).to(self.device)
        return torch.nn.functional.normalize(shown, dim=1, eps=1e-30) if self.metric == "cosine" else shown

    def _of_block(self, queries: Vectors, k: int, barred: Tensor) -> tuple[Places, Scores]:
        """Return the places and exact scores (B, K) of a block of queries, both shorter for a small gallery."""
        most = min(k + SPARE, len(self.gallery))
        best, rows = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
        for start, scores in self.scores(queries):
            _bar(scores, start, barred)
            values, at = scores.topk(min(most, scores.shape[1]), dim=1)
            best = torch.cat([best.to(values.device), values], dim=1)
            rows = torch.cat([rows.to(at.device), at + start], dim=1)
            best, kept = best.topk(min(most, best.shape[1]), dim=1)
            rows = rows.gather(1, kept)
        candidates: Places = rows.cpu().numpy()
        rough = best.cpu().numpy()
        compared = np.where(rough > -np.inf, self.compared(queries, candidates), -np.inf)
        places, exact = _ordered(candidates, compared, k)
        if most < len(self.gallery):
            slack, above = self._slack(queries), self._above(queries)
            doubtful = (rough[:, -1] > -np.inf) & (rough[:, -1] + slack >= exact[:, -1] + above)
            for row in np.flatnonzero(doubtful).tolist():
                least = exact[row, -1] + above[row] - slack[row]
                near = self._near(queries[row : row + 1], least, barred[barred[:, 0] == row])
                whole = self._compared_in_parts(queries[row : row + 1], near)
                places[row : row + 1], exact[row : row + 1] = _ordered(near[None], whole, k)
        return places, exact

    def _slack(self, queries: Vectors) -> Scores:
        """Return (B,) how far a float32 product may be from the exact one."""
        unit = 8 * math.sqrt(queries.shape[1]) * 2.0**-24
        if self.metric == "cosine":
            return np.full(len(queries), unit)
        longest, squares = float(self.norms.max()), 2 * self._above(queries)
        slack: Scores = unit * longest * (np.sqrt(squares) + longest)
        return slack

    def _near(self, query: Vectors, least: float, barred: Tensor) -> Places:
        """Return all places whose product with one query (1, D) is at least `least`."""
        barred = barred.clone()
        barred[:, 0] = 0
        found = []
        for start, scores in self.scores(query):
            _bar(scores, start, barred)
            found.append((scores[0].double() >= least).nonzero()[:, 0].cpu().numpy() + start)
        near: Places = np.concatenate(found)
        return near

    def _compared_in_parts(self, query: Vectors, places: Places) -> Scores:
        size = max(1, _TOGETHER // query.shape[1])
        parts = [self.compared(query, places[None, i : i + size]) for i in range(0, len(places), size)]
        whole: Scores = np.concatenate(parts, axis=1)
        return whole

    def _above(self, queries: Vectors) -> Scores:
        """Return (B,) by how much `scores` lie above those of `compared`: what is the same for the whole gallery."""
        squares: Scores = (queries.astype(np.float64) ** 2).sum(axis=1)
        return np.zeros(len(queries)) if self.metric == "cosine" else squares / 2

    def _values(self, scores: Scores) -> Scores:
        found: Scores
        found = np.clip(scores, -1, 1) if self.metric == "cosine" else np.sqrt(np.maximum(-2 * scores, 0))
        return found


def _bar(scores: Tensor, start: int, barred: Tensor) -> None:
    """Put -inf where a pair of query and place of the gallery is barred; scores (B, rows) begin at row `start`."""
    here = barred[(barred[:, 1] >= start) & (barred[:, 1] < start + scores.shape[1])].to(scores.device)
    scores[here[:, 0], here[:, 1] - start] = -torch.inf


def _ordered(places: Places, scores: Scores, k: int) -> tuple[Places, Scores]:
    """Return the K best of (B, M) candidates, best first, equal ones in the order of the gallery."""
    order = np.lexsort((places, -scores), axis=1)[:, :k]
    return np.take_along_axis(places, order, axis=1), np.take_along_axis(scores, order, axis=1)
