"""How well features find photographs of the same class: every photograph asks for the others of its split.

Shape letters: N photographs, D numbers of a vector, B queries of a block, R other photographs of a query's class.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fgvc.errors import UsageError
from fgvc.files.bars import bar
from fgvc.prediction.retrieval.nearest import ExactSearch, Vectors

RANKS = (1, 5, 10)
_TOGETHER = 1 << 22
"""Scores that are sorted at once."""


class RetrievalScores(NamedTuple):
    """Means over the queries.

    queries: photographs that asked.
    lone: those that could not, as no other has their class; they stay in the gallery.
    unlabelled: those without a leaf, which are left out.
    mean_average_precision: over the whole ranking.
    map_at_r: 1/R times the sum over ranks up to R of the precision there, where the photograph of that rank is right
        (K. Musgrave, S. Belongie, S.-N. Lim, "A Metric Learning Reality Check", 2020).
    r_precision: the share of right ones among the first R.
    recall: rank -> the share of queries with a right one up to that rank (any hit, as in metric learning).
    """

    queries: int
    lone: int
    unlabelled: int
    mean_average_precision: float
    map_at_r: float
    r_precision: float
    recall: dict[int, float]


def retrieval_scores(
    features: Vectors,
    labels: npt.NDArray[np.integer],
    metric: str = "cosine",
    ranks: Sequence[int] = RANKS,
    device: str | torch.device = "cpu",
) -> RetrievalScores:
    """Score features; a photograph never finds itself, by its row. Equal scores are ranked in the order of the rows.

    Args:
        features: (N, D) float32.
        labels: (N,) classes; -1 is left out.
        metric: see `fgvc.prediction.retrieval.nearest.METRICS`.
        ranks: of the recalls.
        device: where products and rankings are made.

    Raises:
        UsageError: no class has two photographs.
    """
    known = np.flatnonzero(labels >= 0)
    features, classes = (features if len(known) == len(labels) else features[known]), labels[known].astype(np.int64)
    sizes = np.bincount(classes) if len(classes) else np.zeros(0, np.int64)
    asking = np.flatnonzero(sizes[classes] > 1) if len(classes) else np.zeros(0, np.int64)
    if not len(asking):
        raise UsageError(f"none of {len(labels)} photographs has another one of its class: there is nothing to find")
    search, of_rows = ExactSearch(features, metric, device), torch.from_numpy(classes).to(device)
    sums = torch.zeros(3 + len(ranks), dtype=torch.float64)
    block = max(1, _TOGETHER // len(classes))
    starts = range(0, len(asking), block)
    for start in bar("scoring", starts, total=len(starts), unit=" blocks"):
        rows = asking[start : start + block]
        scores = torch.cat([piece for _, piece in search.scores(features[rows])], dim=1)
        mine = torch.from_numpy(rows).to(scores.device)
        scores[torch.arange(len(rows), device=scores.device), mine] = -torch.inf
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :-1]
        sums += _sums(of_rows[order] == of_rows[mine, None], ranks)
    means = (sums / len(asking)).tolist()
    recall = dict(zip(ranks, means[3:], strict=True))
    lone, unlabelled = len(classes) - len(asking), len(labels) - len(classes)
    return RetrievalScores(len(asking), lone, unlabelled, means[0], means[1], means[2], recall)


def _sums(hits: torch.Tensor, ranks: Sequence[int]) -> torch.Tensor:
    """Return the sums of average precision, MAP@R, R-precision and recalls; hits (B, N - 1), best first."""
    count = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    so_far = hits.cumsum(dim=1)
    right = so_far[:, -1:]
    gained = torch.where(hits, so_far / count, 0.0).double()
    within = count <= right
    right = right[:, 0].double()
    found = [gained.sum(dim=1) / right, (gained * within).sum(dim=1) / right, (hits & within).sum(dim=1) / right]
    found += [hits[:, :rank].any(dim=1).double() for rank in ranks]
    return torch.stack([one.double().sum() for one in found]).cpu()
