import math

import numpy as np
import pytest
from torch import tensor
from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
)

from fgvc.confidence.per_class import class_scores, confusion


def drawn(images=300, classes=7, seed=0):
    """Class 5 has no images but is answered, class 6 has images and is never answered, class 4 is neither."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([-1, 0, 1, 2, 3, 6], images)
    answer = np.where(rng.random(images) < 0.5, truth, rng.choice([0, 1, 2, 3, 5], images))
    return truth, np.where((answer == 6) | (answer < 0), 0, answer), classes


def slow_scores(truth, answer, classes):
    """The definitions, one class and one image at a time."""
    rows = []
    for c in range(classes):
        pairs = [(t, a) for t, a in zip(truth.tolist(), answer.tolist(), strict=True) if t >= 0]
        images = sum(t == c for t, _ in pairs)
        answered = sum(a == c for _, a in pairs)
        right = sum(t == a == c for t, a in pairs)
        precision = right / answered if answered else math.nan
        recall = right / images if images else math.nan
        f1 = 2 * right / (images + answered) if images + answered else math.nan
        rows.append((images, answered, right, precision, recall, f1))
    return rows


def test_every_class_is_that_of_a_slow_loop():
    for seed in range(3):
        found = class_scores(*drawn(seed=seed))
        columns = (found.images, found.answered, found.right, found.precision, found.recall, found.f1)
        for c, row in enumerate(slow_scores(*drawn(seed=seed))):
            assert [column[c] for column in columns] == pytest.approx(row, nan_ok=True)
        assert found.images[5] == 0 < found.answered[5] and found.precision[5] == 0 and math.isnan(found.recall[5])
        assert found.answered[6] == 0 < found.images[6] and found.f1[6] == 0 and math.isnan(found.precision[6])
        assert math.isnan(found.f1[4])


def test_precision_and_f1_are_those_of_torchmetrics():
    truth, answer, classes = drawn()
    known = truth >= 0
    found, options = class_scores(truth, answer, classes), {"num_classes": classes, "average": None}
    pair = tensor(answer[known]), tensor(truth[known])
    assert np.nan_to_num(found.precision) == pytest.approx(multiclass_precision(*pair, **options).numpy())
    assert np.nan_to_num(found.f1) == pytest.approx(multiclass_f1_score(*pair, **options).numpy())


def test_macro_means_are_over_the_classes_that_have_images():
    rows = [row for row in slow_scores(*drawn()) if row[0]]
    assert len(rows) == 5
    macro = class_scores(*drawn()).macro
    precisions = [0 if math.isnan(row[3]) else row[3] for row in rows]  # never answered: nothing of it was right
    assert macro["macro_precision"] == pytest.approx(sum(precisions) / 5)
    assert macro["macro_f1"] == pytest.approx(sum(row[5] for row in rows) / 5)
    nothing = class_scores(np.array([-1]), np.array([0]), 2).macro
    assert all(math.isnan(value) for value in nothing.values())


def test_the_confusion_matrix_without_its_zeros_is_that_of_torchmetrics():
    truth, answer, classes = drawn()
    known = truth >= 0
    pairs, counts = confusion(truth, answer, classes)
    matrix = np.zeros((classes, classes), dtype=np.int64)
    matrix[pairs[:, 0], pairs[:, 1]] = counts
    wanted = multiclass_confusion_matrix(tensor(answer[known]), tensor(truth[known]), classes)
    assert matrix.tolist() == wanted.tolist()
    assert (counts > 0).all() and pairs.tolist() == sorted(pairs.tolist())
    assert len(confusion(np.array([-1]), np.array([3]), 4)[1]) == 0


def test_ten_thousand_classes_need_no_table_of_all_pairs():
    truth = np.arange(200_000) % 10_000
    pairs, counts = confusion(truth, (truth * 7 + 1) % 10_000, 10_000)
    assert len(pairs) == 10_000 and set(counts.tolist()) == {20}
