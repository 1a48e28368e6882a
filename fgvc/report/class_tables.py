"""The tables of a test for other programs: precision, recall and F1 of every class, and the confusion matrix."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from fgvc.confidence.per_class import Codes, class_scores, confusion
from fgvc.files.answer_table import Answers
from fgvc.files.run_folder import CLASSES, CONFUSION
from fgvc.files.whole_files import open_whole

Classes = Mapping[str, Sequence[str]]
"""Level -> the names of its classes, in the order of the tables."""


def write_tables(
    folder: Path, answers: Answers, classes: Classes, training: Mapping[str, Sequence[int]] | None = None
) -> tuple[Path, Path]:
    """Write `classes_test.csv` and `confusion_test.csv` and return their paths.

    The first has a row for each class of each level: images, answers, right answers, precision, recall, F1 and
    training images, with empty cells where there is nothing to divide by and where the training is not known. The
    second has a row for each pair of true and answered class that occurs, right answers included: the confusion matrix
    without its zeros.

    Args:
        folder: to write into.
        answers: of the test.
        classes: all that the model knows.
        training: level -> training images of its classes, or None.

    Raises:
        FgvcError: a file cannot be written.
    """
    tables = ((CLASSES, _class_rows(answers, classes, training or {})), (CONFUSION, _confusion_rows(answers, classes)))
    for name, rows in tables:
        with open_whole(folder / name) as file:
            csv.writer(file).writerows(rows)
    return folder / CLASSES, folder / CONFUSION


def macro_scores(answers: Answers) -> dict[str, float]:
    """Return `<level>/macro_precision` and `<level>/macro_f1`, means over the classes that have test images."""
    return {
        f"{level}/{name}": value
        for depth, level in enumerate(answers.levels)
        for name, value in class_scores(
            answers.truth[:, depth], answers.answer[:, depth], len(answers.names[depth])
        ).macro.items()
    }


def absent(answers: Answers, classes: Classes) -> list[str]:
    """Return the finest classes that have no test image."""
    seen = {answers.leaf(code) for code in np.unique(answers.truth[:, -1]).tolist()}
    return [name for name in classes[answers.levels[-1]] if name not in seen]


def _class_rows(
    answers: Answers, classes: Classes, training: Mapping[str, Sequence[int]]
) -> Iterator[Sequence[object]]:
    yield "level", "class", "images", "answered", "right", "precision", "recall", "f1", "training_images"
    for level, (truth, answer) in _recoded(answers, classes):
        found = class_scores(truth, answer, len(classes[level]))
        counts = np.stack([found.images, found.answered, found.right], axis=1).tolist()
        shares = np.stack([found.precision, found.recall, found.f1], axis=1).tolist()
        trained: Sequence[object] = training.get(level) or [""] * len(classes[level])
        for name, numbers, parts, learnt in zip(classes[level], counts, shares, trained, strict=True):
            yield level, name, *numbers, *("" if math.isnan(part) else f"{part:.6f}" for part in parts), learnt


def _confusion_rows(answers: Answers, classes: Classes) -> Iterator[Sequence[object]]:
    yield "level", "true", "answered", "images"
    for level, (truth, answer) in _recoded(answers, classes):
        names = classes[level]
        pairs, counts = confusion(truth, answer, len(names))
        for (true, other), count in zip(pairs.tolist(), counts.tolist(), strict=True):
            yield level, names[true], names[other], count


def _recoded(answers: Answers, classes: Classes) -> Iterator[tuple[str, tuple[Codes, Codes]]]:
    """Yield each level and its truths and answers (N,) as places among all its classes."""
    for depth, level in enumerate(answers.levels):
        place = {name: i for i, name in enumerate(classes[level])}
        places = np.array([place[name] for name in answers.names[depth]] + [-1], dtype=np.int64)  # the last for -1
        yield level, (places[answers.truth[:, depth]], places[answers.answer[:, depth]])
