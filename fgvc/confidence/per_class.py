"""Precision, recall and F1 of every class, and which class was taken for which, from the answers alone.

Shape letters: N images, C classes, P pairs of classes that occur.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


class ClassScores(NamedTuple):
    """Counts of each class, (C,) each: its images, how often it was the answer, and how often rightly.

    Images whose truth is not known count nowhere.
    """

    images: Codes
    answered: Codes
    right: Codes

    @property
    def precision(self) -> Numbers:
        """(C,) right answers over answers; NaN of a class that was never the answer."""
        return _ratio(self.right, self.answered)

    @property
    def recall(self) -> Numbers:
        """(C,) right answers over images, the accuracy of the class; NaN of a class without images."""
        return _ratio(self.right, self.images)

    @property
    def f1(self) -> Numbers:
        """(C,) harmonic mean of precision and recall; NaN of a class that is neither a truth nor an answer."""
        return _ratio(2 * self.right, self.images + self.answered)

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """(C,) whether a class has images."""
        return self.images > 0

    @property
    def macro(self) -> dict[str, float]:
        """The means `macro_precision` and `macro_f1` over the classes that have images; NaN where none has.

        A class that has images and was never the answer has a precision of 0 here. The mean recall is what
        `mean_per_class` of fgvc.training.metrics is.
        """
        if not self.present.any():
            return {"macro_precision": float("nan"), "macro_f1": float("nan")}
        precision = np.nan_to_num(self.precision[self.present])
        return {"macro_precision": float(precision.mean()), "macro_f1": float(self.f1[self.present].mean())}


def class_scores(truth: Codes, answer: Codes, classes: int) -> ClassScores:
    """Count images, answers and right answers of each class.

    Args:
        truth: (N,) classes in 0 .. C-1, -1 where not known.
        answer: (N,) the same of the answers.
        classes: C.
    """
    known = truth >= 0
    truth, answer = truth[known], answer[known]
    right = truth[truth == answer]
    return ClassScores(*(np.bincount(codes[codes >= 0], minlength=classes) for codes in (truth, answer, right)))


def confusion(truth: Codes, answer: Codes, classes: int) -> tuple[Codes, Codes]:
    """Return the pairs of true and answered class that occur, (P, 2) sorted, and (P,) how often; never a C x C table.

    Args:
        truth, answer: (N,) classes; an image counts where both are known.
        classes: C.
    """
    both = (truth >= 0) & (answer >= 0)
    pairs, counts = np.unique(truth[both] * classes + answer[both], return_counts=True)
    return np.stack(np.divmod(pairs, max(classes, 1)), axis=1), counts


def _ratio(part: Codes, whole: Codes) -> Numbers:
    shares: Numbers = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return shares
