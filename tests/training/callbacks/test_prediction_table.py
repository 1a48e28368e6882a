import json
from types import SimpleNamespace

import pytest
import torch
from fakes.tiny_run import read_csv

from fgvc.data.records import Records
from fgvc.datatypes import Sample
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.callbacks.prediction_table import PredictionTable

TREE = Taxonomy(["genus", "species"], [("Larus", "L. canus"), ("Larus", "L. fuscus"), ("Sterna", "S. hirundo")])
LABELS = [2, 0, TREE.find("Larus"), 1, -1]
SPECIES = torch.tensor([[1, 2, 7], [6, 2, 2], [1, 8, 1], [5, 3, 2], [2, 2, 6]]) / 10.0
SCORES = {"species": SPECIES.log(), "genus": torch.stack([SPECIES[:, :2].sum(1), SPECIES[:, 2]], 1).log()}


LINEAGE = torch.arange(10).view(5, 2) / 10
VIEWS = torch.tensor([0.25, 0.0, 0.75, 1.0]).expand(5, 4)  # the middle half of the photograph's width is shown


def written(tmp_path, views=None, boxes=None):
    names = [f"test/picture, {i}.jpg" for i in range(4)] + ["/elsewhere/5.jpg"]
    records = Records(names, LABELS, tmp_path)
    table = PredictionTable(tmp_path / "predictions_test.csv")
    trainer = SimpleNamespace(is_global_zero=True, datamodule=SimpleNamespace(records=lambda split: records))
    module = SimpleNamespace(taxonomy=TREE)
    for batch, chosen in enumerate(([3, 1], [0, 4, 2])):  # in any order
        index = torch.tensor(chosen)
        sample = Sample(torch.zeros(0), torch.tensor(LABELS)[index], index, VIEWS[index])
        answers = {
            "scores": {level: scores[index] for level, scores in SCORES.items()},
            "lineage": LINEAGE[index],
            "boxes": None if boxes is None else boxes[index],
            "views": {name: torch.tensor(leaves)[index] for name, leaves in (views or {}).items()},
        }
        table.on_test_batch_end(trainer, module, answers, sample, batch)
    table.on_test_epoch_end(trainer, module)
    return read_csv(tmp_path / "predictions_test.csv")


@pytest.fixture
def rows(tmp_path):
    return written(tmp_path)


def test_each_view_of_a_method_has_a_column(tmp_path):
    rows = written(tmp_path, {"scale1": [0, 1, 2, 0, 1], "scale2": [2, 2, 2, 1, 0]})
    names = ["species_pred", "species_of_scale1", "species_of_scale2", "genus_score", "species_score", "score"]
    assert list(rows[0])[-7:] == [*names, "score_uncalibrated"]
    assert [row["species_of_scale1"] for row in rows][:3] == ["L. canus", "L. fuscus", "S. hirundo"]
    assert [row["species_of_scale2"] for row in rows][3:] == ["L. fuscus", "L. canus"]


def test_rows_stand_in_the_order_of_the_records(rows):
    assert [row["path"] for row in rows] == [f"test/picture, {i}.jpg" for i in range(4)] + ["/elsewhere/5.jpg"]


def test_truth_and_guess_are_named_at_every_level(rows):
    names = ["genus_true", "genus_pred", "species_true", "species_pred", "genus_score", "species_score", "score"]
    assert list(rows[0]) == ["path", *names, "score_uncalibrated"]
    assert [row["species_true"] for row in rows] == ["S. hirundo", "L. canus", "", "L. fuscus", ""]
    assert [row["genus_true"] for row in rows] == ["Sterna", "Larus", "Larus", "Larus", ""]
    assert [row["species_pred"] for row in rows] == ["S. hirundo", "L. canus", "L. fuscus", "L. canus", "S. hirundo"]
    assert [row["genus_pred"] for row in rows] == ["Sterna", "Larus", "Larus", "Larus", "Sterna"]


def test_the_genus_is_that_of_the_guessed_leaf_also_where_its_own_classifier_says_another(tmp_path, monkeypatch):
    monkeypatch.setitem(SCORES, "genus", SCORES["genus"].flip(1))
    assert [row["genus_pred"] for row in written(tmp_path)] == ["Sterna", "Larus", "Larus", "Larus", "Sterna"]


def test_the_score_is_calibrated_and_that_of_the_network_stands_beside_it(rows):
    assert [float(row["score_uncalibrated"]) for row in rows] == pytest.approx([0.7, 0.6, 0.8, 0.5, 0.6])
    assert [float(row["score"]) for row in rows] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])


def test_the_calibrated_lineage_has_a_column_per_level(rows):
    assert [float(row["genus_score"]) for row in rows] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    assert [float(row["species_score"]) for row in rows] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])


def test_boxes_are_told_as_fractions_of_the_photograph(tmp_path):
    boxes = torch.tensor([[0.5, 0.1, 1.0, 0.3]]).expand(5, 1, 4)
    row = written(tmp_path, boxes=boxes)[0]
    assert json.loads(row["boxes"]) == [[0.5, 0.1, 0.75, 0.3]]


def test_nothing_half_written_is_left(rows, tmp_path):
    assert [path.name for path in tmp_path.iterdir()] == ["predictions_test.csv"]
