"""Probabilities of photographs by linear classifiers that did not see them.

Shape letters: N photographs, M of them with a known leaf, D width of a feature, K classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fgvc.data.splitting import name_keys, stratified_folds
from fgvc.errors import UsageError
from fgvc.training.logistic import AT_ONCE, fit, standardised
from fgvc.training.probe import LOOSE, PENALTIES, Images, choose

FOLDS = 5
MOST = 1 << 30
"""How many probabilities are kept at most, 4 GiB."""


class OutOfFold(NamedTuple):
    """What was found.

    rows: (M,) int64 places of the photographs that have a known leaf. probabilities: (M, K) float32. judged: (M,) bool,
    False where the class of the label was in no other fold, so that no classifier could know it. penalty: of all fits.
    right: share of the judged whose most probable class is the label.
    """

    rows: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    judged: npt.NDArray[np.bool_]
    penalty: float
    right: float


def out_of_fold(
    images: Images,
    num_classes: int,
    folds: int = FOLDS,
    penalties: Sequence[float] = PENALTIES,
    groups: npt.NDArray[np.int64] | None = None,
    seed: int = 0,
) -> OutOfFold:
    """Deal photographs out to folds, and answer each fold by a classifier of the others.

    The penalty is chosen once, on the first fold, and holds for all. Every class is spread over the folds; a group is
    in one fold.

    Args:
        images: features, labels and paths; labels that are no leaves are passed over.
        num_classes: K.
        folds: how many, at least 2.
        penalties: falling; with one, nothing is chosen.
        groups: (N,) numbers of groups (a site, a burst), or None.
        seed: of the folds.

    Raises:
        UsageError: fewer photographs or groups than folds, or too many photographs and classes.
        FgvcError: features that are no numbers.
    """
    labels = images.labels.cpu().numpy()
    rows = np.flatnonzero((labels >= 0) & (labels < num_classes))
    if len(rows) * num_classes > MOST:
        raise UsageError(
            f"{len(rows):,} photographs of {num_classes:,} classes: more than {MOST:,} probabilities do not fit; audit "
            "some of the classes at a time"
        )
    known = labels[rows]
    keys = name_keys([images.paths[row] for row in rows.tolist()])
    fold_of = stratified_folds(known, folds, seed, None if groups is None else groups[rows], keys)
    penalty = penalties[0]
    if len(penalties) > 1:
        rest, first = (torch.from_numpy(rows[mask]) for mask in (fold_of != 0, fold_of == 0))
        penalty = choose(images, rest, images, first, num_classes, penalties)[0]
    probabilities = np.zeros((len(rows), num_classes), dtype=np.float32)
    judged = np.zeros(len(rows), dtype=np.bool_)
    for fold in range(folds):
        inside = fold_of == fold
        part = standardised(images.features, images.labels, torch.from_numpy(rows[~inside]))
        linear = part.folded(fit(part, num_classes, penalty, None, LOOSE, f"fold {fold + 1} of {folds}"))
        places = np.flatnonzero(inside)
        for some in np.array_split(places, max(1, len(places) * num_classes // AT_ONCE)):
            features = images.features[torch.from_numpy(rows[some]).to(images.features.device)]
            probabilities[some] = linear.logits(features).softmax(dim=1).cpu().numpy()
        judged[places] = np.isin(known[places], known[~inside])
    right = float((probabilities.argmax(axis=1) == known)[judged].mean()) if judged.any() else 0.0
    return OutOfFold(rows, probabilities, judged, penalty, right)
