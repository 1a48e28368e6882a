"""Run folders written by the fgvc of before (tests/stored/runs_59efaac/README.md) are worth as much as new ones."""

import json
import math
import shutil
from pathlib import Path

import pytest
import yaml
from fakes.tiny_run import TREE, make_photos, read_csv

from fgvc.__main__ import main

STORED = Path(__file__).parent / "stored" / "runs_59efaac"
EPOCHS = {"whole_image": 1, "fcan": 2}


@pytest.fixture(params=EPOCHS)
def run(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_photos(Path("photos"))
    return Path(shutil.copytree(STORED / request.param, Path("runs") / request.param))


def same(found, stored):
    """Texts are equal; numbers, which come with six digits, nearly so."""
    try:
        return math.isclose(float(found), float(stored), abs_tol=1e-4)
    except ValueError:
        return found == stored


def test_what_is_stored_is_a_run_of_before():
    for name, epochs in EPOCHS.items():
        config = yaml.safe_load((STORED / name / "config.yaml").read_text())
        assert config["model"]["recognizer"]["class_path"].startswith("fgvc.recognizers.")
        assert config["data"]["source"]["class_path"] == "fgvc.data.image_folder.ImageFolder"
        assert config["trainer"]["max_epochs"] == epochs


def test_it_answers_as_it_did(run):
    stored, scores = read_csv(run / "predictions_test.csv"), json.loads((run / "test.json").read_text())
    (run / "predictions_test.csv").unlink()
    (run / "test.json").unlink()
    assert main(["test", str(run)]) == 0
    answers, now = read_csv(run / "predictions_test.csv"), json.loads((run / "test.json").read_text())
    assert len(answers) == len(stored) == 9
    for new, old in zip(answers, stored, strict=True):
        new_names = {"score": "score_uncalibrated"}
        assert [key for key in old if not same(new[new_names.get(key, key)], old[key])] == []
        assert new["score"] == new["species_score"] and TREE[new["species_pred"]] == new["genus_pred"]
    # then a level was answered by its best class, but in these runs that was always the ancestor of the best species
    assert scores["test/inconsistency"] == 0
    of_five = [key for key in scores if key.endswith("/top5")]  # of three classes it is no longer told
    assert of_five and {scores.pop(key) for key in of_five} == {1.0} and not now.keys() & set(of_five)
    assert [key for key in scores if not same(now[key], scores[key])] == []
    by_level = [key for key in scores if key.startswith(("test/genus/", "test/species/"))]
    assert by_level and [key for key in by_level if not same(now[f"test/own/{key[5:]}"], scores[key])] == []
    assert now["readout"] == "own"
    assert run.name in (run / "report.html").read_text()


def test_it_is_asked_about_photographs(run):
    assert main(["predict", str(run), "photos/test", "--output", "answers.csv"]) == 0
    answers = {Path(row["path"]).relative_to("photos").as_posix(): row for row in read_csv(Path("answers.csv"))}
    stored = read_csv(run / "predictions_test.csv")
    assert len(answers) == len(stored)
    for old in stored:
        new = answers[old["path"]]
        for level in ("genus", "species"):
            assert new[level] == old[f"{level}_pred"] and same(new[f"{level}_score"], old[f"{level}_score"])


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # Lightning tells that the run was moved
def test_it_goes_on_where_it_stopped(run):
    stored = read_csv(run / "metrics.csv")
    steps = 18 // 4
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs", str(EPOCHS[run.name] + 1)]) == 0
    rows = read_csv(run / "metrics.csv")
    kept = {(row["epoch"], row["step"], key, row[key]) for row in stored for key in row if row[key]}
    assert kept <= {(row["epoch"], row["step"], key, row[key]) for row in rows for key in row if row[key]}
    assert {int(row["epoch"]) for row in rows} == set(range(EPOCHS[run.name] + 1))
    assert max(int(row["step"]) for row in rows) == (EPOCHS[run.name] + 1) * steps - 1
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["source"]["class_path"] == "ImageFolder"  # short from now on
    assert "class_path: fgvc." not in (run / "config.yaml").read_text()
    assert main(["test", str(run)]) == 0
    assert len(read_csv(run / "predictions_test.csv")) == 9


COMMANDS = {
    "validate RUN": "validate.json",
    "calibrate RUN": "model/fgvc.json",
    "report RUN": "report.html",
    "explain RUN photos/test --output explained": "../../explained/explain.json",
    "info RUN": "model/fgvc.json",
    "data verify RUN --output problems.csv": "../../problems.csv",
    "data stats RUN --output stats.json": "../../stats.json",
}


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_reads_it(run, words):
    assert main([str(run) if word == "RUN" else word for word in words.split()]) == 0
    assert (run / COMMANDS[words]).stat().st_size > 0


def test_another_run_starts_from_its_weights(run):
    words = ["--config", str(run / "config.yaml"), "--init_from", str(run), "--trainer.max_epochs", "1"]
    assert main(["fit", *words, "--name", "next", "--data.source", "fgvc.data.sources.image_folder.ImageFolder"]) == 0
    assert Path("runs/next/model/fgvc.json").is_file()
