"""The demo leaves what it promises: a trained run, a table and a contact sheet of the same pictures."""

import csv
import json

from PIL import Image

from fgvc.__main__ import main

TINY = {
    "data.source.init_args.num_orders": 1,
    "data.source.init_args.train_per_class": 4,
    "data.source.init_args.val_per_class": 1,
    "data.source.init_args.test_per_class": 3,
    "data.source.init_args.image_size": 96,
    "data.num_workers": 0,
    "data.batch_size": 8,
    "model.image_size": 32,
    "model.recognizer.init_args.backbone.init_args.name": "test_resnet",
}


def test_the_demo_trains_tests_predicts_and_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FGVC_CACHE", str(tmp_path / "cache"))
    keys = [word for key, value in TINY.items() for word in (f"--{key}", str(value))]
    assert main(["demo", "--output", str(tmp_path / "demo"), "--short", *keys]) == 0
    run = tmp_path / "demo" / "quickstart"
    with (tmp_path / "demo" / "predictions.csv").open(encoding="utf-8", newline="") as file:
        answers = list(csv.DictReader(file))
    with (run / "predictions_test.csv").open(encoding="utf-8", newline="") as file:
        tested = {row["path"]: row for row in csv.DictReader(file)}
    assert len(answers) == len(tested) == 24  # 8 species, 3 test pictures each
    for row in answers:  # two doors, one evaluation path: both must give the same answer
        same = next(tested[path] for path in tested if row["path"].endswith(path))
        assert row["label"] == same["species_pred"]
        assert abs(float(row["score"]) - float(same["species_score"])) < 1e-4  # calibrated both
    with Image.open(tmp_path / "demo" / "contact_sheet.jpg") as sheet:
        assert sheet.width > 1000
    share = sum(row["species_true"] == row["species_pred"] for row in tested.values()) / len(tested)
    scores = json.loads((run / "test.json").read_text(encoding="utf-8"))
    assert abs(scores["test/species/top1"] - share) < 1e-6
    told = capsys.readouterr()
    assert f"  {'test/species/top1':<40} {100 * share:>7.2f} %\n" in told.out
    assert "contact_sheet.jpg" in told.err and "predictions.csv" in told.err
