from collections import Counter

import pytest
from fakes.fake_run import LEVELS, TREE, lineage, rows_of, write
from fakes.tiny_run import read_csv

from fgvc.files.answer_table import read_answers
from fgvc.report.class_tables import absent, macro_scores, write_tables

# One class that no image has, and the order of the tree.
SPECIES = ["house crow", "raven", "common gull", "herring gull", "kittiwake"]
CLASSES = {"family": ["crows", "gulls"], "genus": ["Corvus", "Larus", "Rissa"], "species": SPECIES}


def written(folder):
    answers = read_answers(write(folder, rows_of()) / "predictions_test.csv")
    return answers, *map(read_csv, write_tables(folder, answers, CLASSES))


def test_every_class_of_every_level_has_a_row_in_the_order_of_the_tree(tmp_path):
    _, rows, _ = written(tmp_path)
    assert [(row["level"], row["class"]) for row in rows] == [
        (level, name) for level in LEVELS for name in CLASSES[level]
    ]
    for row in rows:
        pairs = [(one[f"{row['level']}_true"], one[f"{row['level']}_pred"]) for one in rows_of()]
        images = sum(true == row["class"] for true, _ in pairs)
        answered = sum(pred == row["class"] for _, pred in pairs)
        right = sum(true == pred == row["class"] for true, pred in pairs)
        assert [int(row[key]) for key in ("images", "answered", "right")] == [images, answered, right]
        assert row["precision"] == (f"{right / answered:.6f}" if answered else "")
        assert row["recall"] == (f"{right / images:.6f}" if images else "")
        assert row["f1"] == (f"{2 * right / (images + answered):.6f}" if images + answered else "")


def test_the_training_images_of_each_class_stand_beside_it_where_they_are_known(tmp_path):
    answers, rows, _ = written(tmp_path)
    assert {row["training_images"] for row in rows} == {""}
    training = {"family": [33, 60], "genus": [33, 50, 10], "species": [30, 3, 20, 30, 10]}
    rows = read_csv(write_tables(tmp_path, answers, CLASSES, training)[0])
    found = {level: [int(row["training_images"]) for row in rows if row["level"] == level] for level in LEVELS}
    assert found == training


def test_the_confusion_matrix_has_a_row_for_each_pair_that_occurs(tmp_path):
    _, _, rows = written(tmp_path)
    for level in LEVELS:
        wanted = Counter((one[f"{level}_true"], one[f"{level}_pred"]) for one in rows_of())
        found = {(row["true"], row["answered"]): int(row["images"]) for row in rows if row["level"] == level}
        assert found == wanted


def test_a_picture_that_is_known_to_its_genus_only_counts_there_alone(tmp_path):
    rows = rows_of()
    rows[0] |= {"species_true": ""}
    answers = read_answers(write(tmp_path, rows) / "predictions_test.csv")
    of_class, pairs = map(read_csv, write_tables(tmp_path, answers, CLASSES))
    counted = Counter()
    for row in of_class:
        counted[row["level"]] += int(row["images"])
    assert counted == {"family": 8, "genus": 8, "species": 7}
    assert sum(int(row["images"]) for row in pairs if row["level"] == "species") == 7


def test_means_are_over_the_classes_that_have_images_and_the_others_are_named(tmp_path):
    answers, rows, _ = written(tmp_path)
    scores = macro_scores(answers)
    for level in LEVELS:
        mine = [row for row in rows if row["level"] == level and row["images"] != "0"]
        precision = sum(float(row["precision"] or 0) for row in mine) / len(mine)
        assert scores[f"{level}/macro_precision"] == pytest.approx(precision, abs=1e-6)
        assert scores[f"{level}/macro_f1"] == pytest.approx(sum(float(row["f1"]) for row in mine) / len(mine), abs=1e-6)
    assert absent(answers, CLASSES) == ["raven"]
    assert set(TREE) == set(SPECIES) - {"raven"} and lineage("kittiwake")[1] in CLASSES["genus"]
