import numpy as np
import pytest
from fakes.fake_run import ANSWERS, rows_of, write
from fakes.tiny_model import certified, saved, tiny_model

from fgvc.confidence.vouching import GRID, PRECISIONS, Vouching
from fgvc.files.answer_table import read_answers
from fgvc.model_file.model import save
from fgvc.report.vouched import calibrated, vouched


def answers_of(folder, rows):
    return read_answers(write(folder, rows) / "predictions_test.csv")


def test_the_finest_level_that_is_sure_enough_answers(tmp_path):
    rows = rows_of()
    for row, (family, genus, species) in zip(rows, [(1, 0.9, 0.8), (1, 0.9, 0.1), (0.9, 0.1, 0.1)] * 3, strict=False):
        row |= {"family_score": str(family), "genus_score": str(genus), "species_score": str(species)}
    least = min(t for t in GRID if t >= 0.7)
    depths, right = [], 0
    for row in rows:
        passed = [i for i, level in enumerate(("family", "genus", "species")) if float(row[f"{level}_score"]) >= least]
        depths.append(max(passed) + 1)
        level = ("family", "genus", "species")[max(passed)]
        right += row[f"{level}_true"] == row[f"{level}_pred"]
    found = vouched(certified(0.7), answers_of(tmp_path, rows))
    assert [one.precision for one in found] == list(PRECISIONS)
    for one in found:
        assert one.threshold == least and one.refusal == ""
        assert one.summary.mean_depth == pytest.approx(np.mean(depths))
        assert (one.summary.answered, one.summary.right) == (len(ANSWERS), right)


def test_images_of_no_known_species_and_older_tables_say_nothing(tmp_path):
    rows = [row | {"species_true": ""} for row in rows_of()]
    assert vouched(certified(0.5), answers_of(tmp_path / "unknown", rows)) == []
    old = [{key: cell for key, cell in row.items() if key != "genus_score"} for row in rows_of()]
    assert vouched(certified(0.5), answers_of(tmp_path / "old", old)) == []


def test_what_cannot_be_vouched_for_says_why(tmp_path):
    few = Vouching((10,) * len(GRID), (0,) * len(GRID))
    for one in vouched(few, answers_of(tmp_path, rows_of())):
        assert one.threshold is one.summary is None and "cannot be vouched for" in one.refusal


def test_what_calibration_left_in_a_model_is_found_and_nothing_where_there_is_none(tmp_path):
    model = tiny_model(vouching=certified(0.5))
    model.provenance["calibration"] = {"split": "val", "images": 40}
    save(model, tmp_path / "model")
    found = calibrated(tmp_path)
    assert (found.split, found.vouching, found.told["images"]) == ("val", certified(0.5), 40)
    assert calibrated(saved(tmp_path / "plain")).vouching is None
    assert (calibrated(tmp_path / "gone").split, calibrated(tmp_path / "gone").vouching) == ("", None)
