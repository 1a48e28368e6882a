"""Confident learning: which labels are probably wrong, from probabilities of a classifier that did not learn them.

Source: C. G. Northcutt, L. Jiang, I. L. Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR
2021. The estimate of how many labels are no better than drawn at random follows J. D. Storey, "A direct approach to
false discovery rates", 2002.

Probabilities are out of sample: of classifiers that did not see the photograph. Classes without labels are passed over.
Shape letters: N photographs, K classes.
"""

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def of_label(probabilities: Probabilities, labels: Ints) -> npt.NDArray[np.float64]:
    """Return (N,) self-confidence: the probability (N, K) of the label (N,)."""
    return probabilities[np.arange(len(labels)), labels].astype(np.float64)


def thresholds(probabilities: Probabilities, labels: Ints) -> npt.NDArray[np.float64]:
    """Return (K,) for each class the mean self-confidence of its photographs; infinite for a class without any."""
    num_classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, weights=of_label(probabilities, labels), minlength=num_classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_class(probabilities: Probabilities, labels: Ints) -> Ints:
    """Return (N,) the most probable of the classes whose probability reaches their threshold; -1 where none does."""
    reached = np.where(probabilities >= thresholds(probabilities, labels), probabilities, -1.0)
    return np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), -1)


def joint(probabilities: Probabilities, labels: Ints) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Estimate how many photographs of each class bear which label.

    The confident joint, whose rows are scaled to the number of photographs with that label. A label none of whose
    photographs is confidently anything counts as right. Only pairs that occur are kept, never a K x K table.

    Returns:
        (M, 2) pairs of (label, class), sorted, and (M,) the number of photographs of each.
    """
    num_classes = probabilities.shape[1]
    classes = confident_class(probabilities, labels)
    confident = classes >= 0
    codes, times = np.unique(labels[confident] * num_classes + classes[confident], return_counts=True)
    counts = np.bincount(labels, minlength=num_classes)
    of_row = np.bincount(codes // num_classes, weights=times, minlength=num_classes)
    silent = np.flatnonzero((counts > 0) & (of_row == 0))
    codes = np.concatenate([codes, silent * num_classes + silent])
    numbers = np.concatenate([times / np.maximum(of_row[codes[: len(times)] // num_classes], 1), np.ones(len(silent))])
    order = np.argsort(codes, kind="stable")
    pairs = np.stack(np.divmod(codes[order], num_classes), axis=1)
    return pairs, numbers[order] * counts[pairs[:, 0]]


def share_of_joint(pairs: Ints, numbers: npt.NDArray[np.float64]) -> float:
    """Return the share of wrong labels by the joint (M, 2), (M,): what lies off its diagonal."""
    return float(numbers[pairs[:, 0] != pairs[:, 1]].sum() / max(numbers.sum(), 1e-300))


def prune_by_class(probabilities: Probabilities, labels: Ints) -> Flags:
    """Return (N,) bool: of each label as many as the joint has off its diagonal, those of the least self-confidence."""
    pairs, numbers = joint(probabilities, labels)
    off = pairs[:, 0] != pairs[:, 1]
    wrong = np.bincount(pairs[off, 0], weights=numbers[off], minlength=probabilities.shape[1])
    own = of_label(probabilities, labels)
    flags = np.zeros(len(labels), dtype=np.bool_)
    for label, rows in _by_label(labels):
        number = int(np.rint(wrong[label]))
        flags[rows[np.argsort(own[rows], kind="stable")[:number]]] = True
    return flags


def prune_by_noise_rate(probabilities: Probabilities, labels: Ints) -> Flags:
    """Return (N,) bool: for each label and other class as many as the joint says, those of the largest margin.

    The margin is the probability of the other class less that of the label.
    """
    pairs, numbers = joint(probabilities, labels)
    rows_of = dict(_by_label(labels))
    flags = np.zeros(len(labels), dtype=np.bool_)
    for (label, other), expected in zip(pairs.tolist(), numbers.tolist(), strict=True):
        number = int(np.rint(expected))
        if label == other or number == 0:
            continue
        rows = rows_of[label]
        margin = probabilities[rows, other] - probabilities[rows, label]
        flags[rows[np.argsort(-margin, kind="stable")[:number]]] = True
    return flags


def both(probabilities: Probabilities, labels: Ints) -> Flags:
    """Return (N,) bool: what the two published rules agree on."""
    return prune_by_class(probabilities, labels) & prune_by_noise_rate(probabilities, labels)


def share_at_random(probabilities: Probabilities, labels: Ints) -> float:
    """Estimate which share of the labels says nothing of the photograph.

    Where a label says nothing, its class stands at any place among the K' labelled classes alike, when these are sorted
    by probability; where it is right, or a near relative, it stands in the better half. So twice the share in the worse
    half is the share of such labels. Labels of near relatives of the truth are not counted: see `joint`.
    """
    present = np.unique(labels)
    if len(present) < 2:
        return 0.0
    place = _places(probabilities, labels, present) / (len(present) - 1)
    # a place of exactly one half counts half
    worse = (place > 0.5).mean() + 0.5 * (place == 0.5).mean()
    return float(min(1.0, 2 * worse))


def at_random(probabilities: Probabilities, labels: Ints) -> Flags:
    """Return (N,) bool: as many as `share_at_random` says, those of the least self-confidence."""
    flags = np.zeros(len(labels), dtype=np.bool_)
    number = int(np.rint(share_at_random(probabilities, labels) * len(labels)))
    flags[np.argsort(of_label(probabilities, labels), kind="stable")[:number]] = True
    return flags


def likely_class(probabilities: Probabilities, labels: Ints) -> Ints:
    """Return (N,) the most probable class beside the label."""
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -1.0
    likely: Ints = others.argmax(axis=1)
    return likely


RULES = {"class": prune_by_class, "noise_rate": prune_by_noise_rate, "both": both, "random": at_random}
"""Names of the rules: two published ones, what they agree on, and that of labels at random."""


def _places(probabilities: Probabilities, labels: Ints, present: Ints) -> Ints:
    """Return (N,) how many of the classes (K',) are more probable than the label."""
    own = probabilities[np.arange(len(labels)), labels]
    places: Ints = (probabilities[:, present] > own[:, None]).sum(axis=1)
    return places


def _by_label(labels: Ints) -> list[tuple[int, Ints]]:
    """Return each label and its rows."""
    order = np.argsort(labels, kind="stable")
    found, starts = np.unique(labels[order], return_index=True)
    return list(zip(found.tolist(), np.split(order, starts[1:]), strict=True))
