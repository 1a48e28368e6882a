"""Photographs that are nearly the same, by their features.

Shape letters: N photographs, D numbers of a vector.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fgvc.prediction.retrieval.nearest import QUERIES, ExactSearch, Vectors

LEAST = 0.9
"""The cosine from which on two photographs are nearly the same. Among 5,994 photographs of birds (MobileNetV2, 224 px)
four pairs reach it, three of them of one scene. Of planted copies it finds all mirrored ones, 94 % of those cropped by
a tenth, 90 % re-encoded at quality 40 and 54 % shrunk to half. At 0.88 these are 98, 96 and 71 %, with 13 pairs."""


class Pair(NamedTuple):
    """Two photographs, rows of the features, `first` before `second`; their cosine; whether one is mirrored."""

    first: int
    second: int
    cosine: float
    mirrored: bool


def near_duplicates(whole: Vectors, least: float, mirrored: Vectors | None = None) -> Iterator[Pair]:
    """Yield all pairs whose cosine is at least `least`, in the order of `second`, each once.

    Memory is flat: a block of rows against a block of rows.

    Args:
        whole: (N, D) features of the photographs.
        least: the cosine from which on two are nearly the same.
        mirrored: (N, D) features of their mirror images: a pair then also counts where one photograph is as near to
            the other one's mirror image.
    """
    if len(whole) < 2:
        return
    searches = [(ExactSearch(whole), False)] + ([(ExactSearch(mirrored), True)] if mirrored is not None else [])
    for start in range(0, len(whole), QUERIES):
        rows = whole[start : start + QUERIES]
        best: dict[tuple[int, int], tuple[float, bool]] = {}
        for search, is_mirrored in searches:
            for begin, scores in search.scores(rows):
                if begin >= start + len(rows):
                    break
                for row, place in (scores >= least - 1e-5).nonzero().tolist():
                    key = (start + row, begin + place)
                    if key[1] < key[0]:
                        exact = float(search.compared(rows[row : row + 1], np.array([[key[1]]]))[0, 0])
                        if exact >= least and exact > best.get(key, (-np.inf, False))[0]:
                            best[key] = exact, is_mirrored
        for (second, first), (cosine, is_mirrored) in sorted(best.items()):
            yield Pair(first, second, min(cosine, 1.0), is_mirrored)
