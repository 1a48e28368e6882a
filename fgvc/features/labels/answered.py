"""Wrong labels by the answers of a run alone: what each photograph was taken for and how sure the run was.

Shape letters: N photographs, L levels.
"""

import math

import numpy as np

from fgvc.features.labels.suspects import HEAD, NEAR
from fgvc.files.answer_table import Answers


def disputed(answers: Answers) -> list[list[str]]:
    """Return the rows of a table as `suspects.table` does, HEAD first: labels that a run confidently contradicts.

    A photograph is named where the answer is another leaf and its probability reaches the mean probability of the
    answers that agree with a label of this leaf: the off-diagonal of the confident joint as far as the first answer
    tells it. The probability of the label itself is not in such a table, so its cells are empty, and strangers are not
    told apart.

    Args:
        answers: of photographs that the run was not trained on, such as `out_of_fold.csv`.
    """
    truth, answer = answers.truth[:, -1], answers.answer[:, -1]
    sure = np.nan_to_num(answers.confidence, nan=0.0)
    number = len(answers.names[-1])
    counts = np.bincount(answer[answers.right], minlength=number)
    sums = np.bincount(answer[answers.right], weights=sure[answers.right], minlength=number)
    reach = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    differs = answers.known & (answer >= 0) & (answer != truth)
    rows = np.flatnonzero(differs & (sure >= reach[answer]))
    same = answers.truth[rows] == answers.answer[rows]
    apart, shared = (~same).sum(axis=1), same.cumprod(axis=1).sum(axis=1) - 1
    nearest = max(0, len(answers.levels) - 1 - NEAR)
    found = [list(HEAD)]
    for i in np.argsort(-sure[rows], kind="stable").tolist():
        row = int(rows[i])
        score = min(float(sure[row]), 1 - 1e-6)
        kind = "relative" if shared[i] >= nearest else "far"
        ancestor = answers.names[shared[i]][answers.truth[row, shared[i]]] if shared[i] >= 0 else ""
        cells = [answers.paths[row], answers.leaf(int(truth[row])), answers.leaf(int(answer[row])), kind]
        found.append([*cells, f"{math.log(score / (1 - score)):.4f}", "", f"{score:.4f}", "", str(apart[i]), ancestor])
    return found
