"""Labels that are probably wrong, one row each, with what the photograph more likely shows.

Shape letters: N photographs, K classes, S suspects.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fgvc.features.labels.confident import RULES, Ints, Probabilities, likely_class, of_label, thresholds
from fgvc.taxonomy.names import written_names
from fgvc.taxonomy.tree import Taxonomy

HEAD = (
    *("path", "label", "likely_label", "kind", "suspicion", "probability", "likely_probability", "margin"),
    *("ranks_apart", "common_ancestor"),
)
"""The columns of the table."""
NEAR = 2
"""Ranks above the leaf within which two classes are relatives: the genus and the family."""
KINDS = {
    "relative": "another class of the genus or family is likelier",
    "far": "a class of another family is likelier",
    "stranger": "no class is likely",
}


class Suspect(NamedTuple):
    """A label that is probably wrong.

    place: of the photograph, 0 .. N-1. label, likely: leaves. kind: see KINDS. suspicion: natural logarithm of how much
    likelier `likely` is. probability, likely_probability: out of sample. ranks_apart: height of the lowest common
    ancestor in the tree; ancestor: its name, "" for the root.
    """

    place: int
    label: int
    likely: int
    kind: str
    suspicion: float
    probability: float
    likely_probability: float
    ranks_apart: int
    ancestor: str


def suspects(probabilities: Probabilities, labels: Ints, taxonomy: Taxonomy, rule: str = "random") -> list[Suspect]:
    """Return the labels that a rule flags, the most suspicious first.

    A photograph is a stranger where no class reaches the probability that its own photographs, those that are not
    flagged, have on average for it.

    Args:
        probabilities: (N, K), out of sample.
        labels: (N,) leaves.
        taxonomy: the classes.
        rule: a name of `RULES`.
    """
    flags = RULES[rule](probabilities, labels)
    rows = np.flatnonzero(flags)
    if not len(rows):
        return []
    trusted = ~flags
    reach = thresholds(probabilities[trusted], labels[trusted]) if trusted.any() else np.full(len(probabilities.T), 0)
    strange = (probabilities[rows] >= reach).sum(axis=1) == 0
    likely = likely_class(probabilities[rows], labels[rows])
    own, other = (of_label(probabilities[rows], of) for of in (labels[rows], likely))
    tiny = np.finfo(np.float32).tiny
    doubt = np.log(np.maximum(other, tiny)) - np.log(np.maximum(own, tiny))
    apart, shared = _tree(taxonomy, labels[rows], likely)
    nearest = max(0, len(taxonomy.levels) - 1 - NEAR)
    found = []
    for i in np.argsort(-doubt, kind="stable").tolist():
        kind = "stranger" if strange[i] else "relative" if shared[i] >= nearest else "far"
        ancestor = taxonomy.path(int(likely[i]))[shared[i]] if shared[i] >= 0 else ""
        numbers = (float(doubt[i]), float(own[i]), float(other[i]), int(apart[i]))
        found.append(Suspect(int(rows[i]), int(labels[rows[i]]), int(likely[i]), kind, *numbers, ancestor))
    return found


def table(found: Sequence[Suspect], paths: Sequence[str], taxonomy: Taxonomy) -> list[list[str]]:
    """Return the rows of a table, HEAD first; a stranger has no likely label.

    Args:
        found: the suspects.
        paths: N, of the photographs.
        taxonomy: the classes.
    """
    names = written_names(taxonomy)
    rows = [list(HEAD)]
    for one in found:
        likely = "" if one.kind == "stranger" else names[one.likely]
        margin = one.likely_probability - one.probability
        numbers = (one.suspicion, one.probability, one.likely_probability, margin)
        cells = [paths[one.place], names[one.label], likely, one.kind, *(f"{number:.4f}" for number in numbers)]
        rows.append([*cells, str(one.ranks_apart), one.ancestor])
    return rows


def typical(probabilities: Probabilities, labels: Ints, flagged: Sequence[int], number: int) -> dict[int, list[int]]:
    """Return leaf -> the places of its photographs that are the surest, at most `number`, none of them flagged."""
    trusted = np.ones(len(labels), dtype=np.bool_)
    trusted[list(flagged)] = False
    own = of_label(probabilities, labels)
    found: dict[int, list[int]] = {}
    for row in np.argsort(-own, kind="stable").tolist():
        of_class = found.setdefault(int(labels[row]), [])
        if trusted[row] and len(of_class) < number:
            of_class.append(row)
    return found


def _tree(taxonomy: Taxonomy, labels: Ints, likely: Ints) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return (S,) heights of the common ancestors, and (S,) their depths; a depth of -1 is the root."""
    one, other = torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(likely.astype(np.int64))
    same = (taxonomy.ancestors[one] == taxonomy.ancestors[other]).long()
    return taxonomy.lca_height(one, other).numpy(), same.cumprod(dim=1).sum(dim=1).numpy() - 1
