"""Which classes a run takes for which, and how near they are in the tree.

Shape letters: L levels, K leaves.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fgvc.confidence.intervals import Share
from fgvc.confidence.per_class import class_scores, confusion
from fgvc.files.answer_table import Answers, Codes

PAIRS = 12
"""How many pairs of confused classes a report shows."""
MOST_IN_MATRIX = 40
"""How many classes a confusion matrix has at most; a table of more can be read by nobody."""


class ClassRow(NamedTuple):
    """A class of the test images: how many of its images are right, and its most frequent mistake ("" for none).

    answered: how many images were given its name; precision, f1: NaN where there is nothing to divide by.
    """

    share: Share
    mistake: str
    times: int
    answered: int
    precision: float
    f1: float


class Pair(NamedTuple):
    """Two leaves of which one was taken for the other.

    truth, answer: their names; times: how many images.
    height: levels up to their lowest common ancestor; shared: the level of that ancestor, None where there is none.
    row: the surest of these images; truth_row, answer_row: the surest image of each class that was recognised, or None.
    """

    truth: str
    answer: str
    times: int
    height: int
    shared: str | None
    row: int
    truth_row: int | None
    answer_row: int | None


def lineage_of(answers: Answers) -> Codes:
    """Return (K, L): the codes above each leaf, from the truths; for leaves that were only answered, as answered."""
    lineage = np.full((len(answers.names[-1]), len(answers.levels)), -1, dtype=np.int64)
    rising = np.array(answers.rising, dtype=np.int64)  # of several rows of a leaf, the surest one is written last
    for rows, codes in ((rising[answers.answer[rising, -1] >= 0], answers.answer), (answers.known, answers.truth)):
        lineage[codes[rows, -1]] = codes[rows]
    return lineage


def confused_pairs(answers: Answers, wrong: Sequence[int], lineage: Codes) -> Iterator[Pair]:
    """Yield the most frequent mistakes; of equally frequent ones, in the order of their names."""
    recognised = {int(answers.truth[row, -1]): row for row in answers.rising if answers.right[row]}
    mistaken = {_leaves(answers, row): row for row in answers.rising if answers.known[row]}
    counts = Counter(_leaves(answers, row) for row in wrong)
    ranked = sorted(counts, key=lambda pair: (-counts[pair], *map(answers.leaf, pair)))
    for truth, answer in ranked[:PAIRS]:
        height = int((lineage[truth] != lineage[answer]).sum())
        shared = answers.levels[-1 - height] if height < len(answers.levels) else None
        yield Pair(
            answers.leaf(truth),
            answers.leaf(answer),
            counts[truth, answer],
            height,
            shared,
            mistaken[truth, answer],
            recognised.get(truth),
            recognised.get(answer),
        )


def class_rows(answers: Answers, wrong: Sequence[int]) -> list[ClassRow]:
    """Return the classes that have test images, the worst first."""
    found = class_scores(answers.truth[:, -1], answers.answer[:, -1], len(answers.names[-1]))
    worst: dict[int, tuple[str, int]] = {}
    counts = Counter(_leaves(answers, row) for row in wrong)
    for (truth, answer), times in sorted(counts.items(), key=lambda item: (-item[1], answers.leaf(item[0][1]))):
        worst.setdefault(truth, (answers.leaf(answer), times))
    rows = [
        ClassRow(
            Share(answers.leaf(code), int(found.right[code]), int(found.images[code])),
            *worst.get(code, ("", 0)),
            int(found.answered[code]),
            float(found.precision[code]),
            float(found.f1[code]),
        )
        for code in np.flatnonzero(found.images).tolist()
    ]
    return sorted(rows, key=lambda row: (row.share.value, -row.share.total, row.share.name))


class Matrix(NamedTuple):
    """A confusion matrix that a person can look at.

    level: of which level; names: its C classes that are a truth or an answer, relatives beside each other.
    counts: (C, C) images, truth by answer.
    """

    level: str
    names: list[str]
    counts: Codes


def matrix(answers: Answers, lineage: Codes) -> Matrix | None:
    """Return the confusion matrix of the finest level that has 2 to 40 classes; None where no level has.

    Args:
        answers: of the test.
        lineage: (K, L) codes above each leaf, see `lineage_of`.
    """
    for depth in range(len(answers.levels) - 1, -1, -1):
        names = answers.names[depth]
        if 2 <= len(names) <= MOST_IN_MATRIX:
            above = {int(row[depth]): tuple(answers.names[d][row[d]] for d in range(depth)) for row in lineage.tolist()}
            order = sorted(range(len(names)), key=lambda code: (above.get(code, ()), names[code]))
            place = np.argsort(order)
            pairs, times = confusion(answers.truth[:, depth], answers.answer[:, depth], len(names))
            counts = np.zeros((len(names), len(names)), dtype=np.int64)
            counts[place[pairs[:, 0]], place[pairs[:, 1]]] = times
            return Matrix(answers.levels[depth], [names[code] for code in order], counts)
    return None


def _leaves(answers: Answers, row: int) -> tuple[int, int]:
    return int(answers.truth[row, -1]), int(answers.answer[row, -1])
