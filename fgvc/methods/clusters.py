"""Clusters: k-means that starts alike every time, and spectral clustering on it.

Shape letters: R rows, F numbers of a row, k clusters.
"""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.cluster.vq import kmeans2
from scipy.linalg import eigh

Rows = npt.NDArray[np.floating[Any]]
STARTS = 10
"""Of k-means, of which the best counts."""


def kmeans_owners(rows: Rows, number: int) -> npt.NDArray[np.int64]:
    """Return (R,): the cluster of each row (R, F), of at most k; the same at every call."""
    number = min(number, len(np.unique(rows, axis=0)))
    best, least = np.zeros(len(rows), dtype=np.int64), np.inf
    for seed in range(STARTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a cluster that lost its rows: another start does better
            centres, owners = kmeans2(np.asarray(rows, dtype=np.float64), number, minit="++", seed=seed)
        spread = float(np.square(rows - centres[owners]).sum())
        if spread < least:
            best, least = owners.astype(np.int64), spread
    return best


def spectral_groups(affinity: Rows, number: int) -> npt.NDArray[np.int64]:
    """Return (R,): the group of each of R things by the eigenvectors of their affinity.

    Andrew Ng, Michael Jordan, Yair Weiss, "On Spectral Clustering: Analysis and an algorithm", NIPS 2001: the first k
    eigenvectors of D^-1/2 A D^-1/2, each row of length 1, clustered by k-means.

    Args:
        affinity: A, (R, R), symmetric, not negative; its diagonal does not count.
        number: k.
    """
    likeness = np.array(affinity, dtype=np.float64)
    np.fill_diagonal(likeness, 0)
    scale = 1 / np.sqrt(np.maximum(likeness.sum(axis=1), 1e-12))
    count = len(likeness)
    number = min(number, count)
    _, vectors = eigh(scale[:, None] * likeness * scale, subset_by_index=[count - number, count - 1])
    return kmeans_owners(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), number)
