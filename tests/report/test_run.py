import time

import pytest
from fakes.fake_run import random_rows, rows_of, write

from fgvc.errors import UsageError
from fgvc.report.run import AFTER, BEFORE, LOOKS, READOUTS, answer_words, read
from fgvc.taxonomy.readouts import LINEAGE_READOUTS

METRICS = """epoch,step,train/loss,val/loss,val/genus/top1,val/species/top1,val/crop/species/top1
0,9,,2.0,0.5,0.25,0.1
0,9,3.5,,,,
1,19,,1.5,0.75,0.5,0.2
1,14,2.75,,,,
1,19,2.5,nan,,,
"""
CONFIG = """
seed_everything: 7
trainer: {max_epochs: 4}
model:
  image_size: 160
  recognizer:
    class_path: fgvc.methods.recognizers.ra_cnn.RACNN
    init_args:
      backbone: {class_path: fgvc.methods.backbone.Backbone, init_args: {name: mobilenetv2_100}}
      head: {class_path: LinearHead}
      attention: null
data:
  source: {class_path: fgvc.data.sources.cub.CUB, init_args: {root: birds}}
"""


def test_a_whole_run(tmp_path):
    run = write(
        tmp_path / "runs" / "one",
        rows_of(),
        metrics_csv=METRICS,
        config_yaml=CONFIG,
        test_json='{"test/hd@1": 0.5, "photographs": "birds"}',
    )
    report = read(run)
    assert report.name == "one"
    assert report.day == time.strftime("%Y-%m-%d", time.localtime((run / "predictions_test.csv").stat().st_mtime))
    assert dict(report.facts) == {
        "method": "RACNN", "head": "LinearHead", "backbone": "mobilenetv2_100", "data": "CUB", "image size": "160",
        "epochs": "4", "seed": "7",
    }  # fmt: skip
    assert report.final == {"test/hd@1": 0.5} and report.answered == ""  # a test of before did not say
    assert [(share.name, share.right, share.total) for share in report.levels] == [
        ("family", 7, 8), ("genus", 6, 8), ("species", 4, 8),
    ]  # fmt: skip
    assert report.heights == [2, 1, 1]
    assert set(report.reliability) == {BEFORE, AFTER}
    assert len(report.pairs) == 3 and len(report.classes) == 4
    assert report.pictured == [3, 0, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("readout", "words"),
    [
        ('"marginal"', "the sum over the species below (marginal)"),
        (
            '"own"',
            "from the level's own classifier, where the method has one, or else the sum over the species below (own)",
        ),
        ('["own"]', None),
        ('"gone"', None),
    ],
)
def test_what_an_answer_is_stands_in_words(tmp_path, readout, words):
    report = read(write(tmp_path, rows_of(), test_json=f'{{"readout": {readout}}}'))
    start = "the most probable species and its family, genus; the probability of each level above: "
    assert report.answered == (start + words if words else "")
    assert report.final == {}
    assert set(READOUTS) == set(LINEAGE_READOUTS)
    assert answer_words("own", ["class"]) == "the most probable class"


def test_curves_have_the_last_value_of_each_epoch_and_no_gaps(tmp_path):
    curves = read(write(tmp_path, metrics_csv=METRICS)).curves
    assert curves["train/loss"] == [(0, 3.5), (1, 2.5)]
    assert curves["val/loss"] == [(0, 2.0), (1, 1.5)]
    assert curves["val/species/top1"] == [(0, 0.25), (1, 0.5)]


def test_without_answers_the_curves_stand_alone_and_without_curves_the_answers(tmp_path):
    alone = read(write(tmp_path / "a", metrics_csv=METRICS))
    assert alone.answers is None and alone.levels == [] and alone.pictured == []
    assert read(write(tmp_path / "b", rows_of())).curves == {}


def test_one_level_and_one_image(tmp_path):
    row = {"path": "a.png", "class_true": "gull", "class_pred": "gull", "score": "0.5"}
    report = read(write(tmp_path, [row]))
    assert report.heights == [0] and report.pairs == []
    assert report.risk.aurc == 0 and report.reliability[BEFORE].ece == pytest.approx(0.5)
    assert list(report.reliability) == [BEFORE]


def test_tables_of_which_nothing_can_be_said_leave_their_parts_out(tmp_path):
    row = {"path": "a.png", "class_true": "", "class_pred": "gull"}
    report = read(write(tmp_path, [row]))
    assert report.levels[0].total == 0 and report.classes == [] and report.risk is None and report.reliability == {}


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [(30, 30, (6, 6)), (2, 30, (2, 10)), (30, 1, (11, 1)), (0, 3, (0, 3))],
)
def test_pictures_with_boxes_are_right_and_wrong_ones(tmp_path, right, wrong, expected):
    row = rows_of()[0] | {"boxes": "[[0, 0, 0.5, 0.5]]"}
    none = row | {"boxes": ""}
    rows = [none] * 5 + [row] * right + [row | {"species_pred": "kittiwake"}] * wrong
    report = read(write(tmp_path, rows))
    hits = [bool(report.answers.right[row]) for row in report.looks]
    assert (hits.count(True), hits.count(False)) == expected
    assert min(report.looks) >= 5 and len(set(report.looks)) == len(report.looks) <= LOOKS


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "run `fgvc test"),
        ({"metrics_csv": METRICS, "config_yaml": "a: [1"}, "config.yaml"),
        ({"metrics_csv": METRICS, "test_json": "{"}, "test.json"),
        ({"metrics_csv": METRICS, "test_json": "[]"}, "test.json: no mapping of scores"),
        ({"metrics_csv": "epoch,val/loss\n0,much\n"}, "metrics.csv"),
        ({"metrics_csv": "epoch,val/loss\nlast,1\n"}, "metrics.csv"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(tmp_path, files, words):
    with pytest.raises(UsageError, match=words) as error:
        read(write(tmp_path / "run", **files))
    assert "\n" not in str(error.value)


def test_ten_thousand_classes_take_seconds(tmp_path):
    write(tmp_path, random_rows(20_000, 10_000))
    start = time.process_time()
    report = read(tmp_path)
    assert time.process_time() - start < 5
    assert len(report.classes) == 10_000 and len(report.pairs) == 12
