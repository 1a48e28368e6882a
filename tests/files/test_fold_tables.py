import json
import statistics

import pytest
from fakes.fake_run import rows_of, write
from fakes.tiny_run import read_csv

from fgvc.errors import FgvcError, UsageError
from fgvc.files.answer_table import read_answers
from fgvc.files.fold_tables import join, summarise


def runs_of(folder, rows, scores):
    for i, (part, score) in enumerate(zip(rows, scores, strict=True), start=1):
        write(folder / f"fold{i}", part, test_json=json.dumps(score))
    return [folder / f"fold{i}" for i in range(1, len(rows) + 1)]


def test_the_joined_table_has_every_row_once_and_is_one_of_answers(tmp_path):
    rows = rows_of()
    runs = runs_of(tmp_path, [rows[:3], rows[3:4], rows[4:]], [{}] * 3)
    assert join(runs, tmp_path) == len(rows)
    folds = ["1"] * 3 + ["2"] + ["3"] * (len(rows) - 4)
    assert read_csv(tmp_path / "out_of_fold.csv") == [
        row | {"fold": fold} for row, fold in zip(rows, folds, strict=True)
    ]
    assert list(read_answers(tmp_path / "out_of_fold.csv").paths) == [row["path"] for row in rows]


def test_an_image_in_two_folds_or_a_fold_without_answers_is_one_line(tmp_path):
    rows = rows_of()
    with pytest.raises(FgvcError, match=r"answered in .*fold1 and in .*fold2; the data changed"):
        join(runs_of(tmp_path, [rows[:3], rows[2:]], [{}] * 2), tmp_path)
    (tmp_path / "fold2/predictions_test.csv").unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        join([tmp_path / "fold1", tmp_path / "fold2"], tmp_path)


def test_scores_have_their_mean_and_the_spread_of_a_sample(tmp_path):
    numbers = [0.5, 0.75, 0.7]
    scores = [{"test/a/top1": x, "photographs": "x", "test/b": float("nan")} for x in numbers]
    scores[0]["test/c"] = 1.0
    found = summarise(runs_of(tmp_path, [rows_of()] * 3, scores), tmp_path)
    assert list(found) == ["test/a/top1"]
    mean, variance = sum(numbers) / 3, sum((x - sum(numbers) / 3) ** 2 for x in numbers) / 2
    assert found["test/a/top1"].mean == pytest.approx(mean) == statistics.fmean(numbers)
    assert found["test/a/top1"].std == pytest.approx(variance**0.5)
    stored = json.loads((tmp_path / "out_of_fold.json").read_text())["test/a/top1"]
    assert stored == {"mean": found["test/a/top1"].mean, "std": found["test/a/top1"].std, "of_folds": numbers}
