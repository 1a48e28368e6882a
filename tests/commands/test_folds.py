"""`fgvc fit --folds`: every training image is answered once, by a run that did not train on it."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from fakes.killing import Killed
from fakes.tiny_run import CPU, NET, data_flags, make_photos, read_csv

import fgvc
from fgvc.__main__ import main
from fgvc.commands import evaluate, folds
from fgvc.commands import fit as one_run
from fgvc.config.run_cli import RunCLI
from fgvc.errors import StoppedError, UsageError
from fgvc.files import answer_table

WORDS = [*NET, *CPU, *data_flags(Path("photos"), val_fraction=0.25), "--trainer.max_epochs", "1"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_photos(Path("photos"), train=9, val=0, test=2)
        assert main(["fit", *WORDS, "--name", "birds", "--folds", "3"]) == 0
    return folder


@pytest.fixture
def calls(monkeypatch):
    """The runs that are trained and tested, in order."""
    seen = []
    fit, test = one_run.fit, evaluate.test
    monkeypatch.setattr(one_run, "fit", lambda words: (seen.append("fit"), fit(words))[1])
    monkeypatch.setattr(evaluate, "test", lambda words: (seen.append(words), test(words))[1])
    return seen


def test_every_training_image_is_answered_once_by_a_run_that_did_not_train_on_it(home, monkeypatch):
    monkeypatch.chdir(home)
    rows = read_csv(Path("runs/birds/out_of_fold.csv"))
    everything = sorted(path.relative_to("photos").as_posix() for path in Path("photos/train").rglob("*.png"))
    assert sorted(row["path"] for row in rows) == everything
    counts = Counter((row["fold"], row["species_true"]) for row in rows)
    assert len(counts) == 9 and set(counts.values()) == {3}
    for fold in "123":
        words = ["--config", f"runs/birds/fold{fold}/config.yaml"]
        cli = RunCLI("test", words)
        cli.without_weights()
        cli.build()
        held = {row["path"] for row in rows if row["fold"] == fold}
        records = {split: cli.datamodule.records(split) for split in ("train", "val", "test")}
        parts = {split: {of.relative_path(i) for i in range(len(of))} for split, of in records.items()}
        assert parts["test"] == held and parts["train"] | parts["val"] == set(everything) - held
        assert not parts["train"] & parts["val"] and parts["val"]


def test_the_summary_is_the_mean_over_the_folds_tests(home, monkeypatch):
    monkeypatch.chdir(home)
    told = json.loads(Path("runs/birds/out_of_fold.json").read_text())["test/species/top1"]
    each = [json.loads(Path(f"runs/birds/fold{k}/test.json").read_text())["test/species/top1"] for k in (1, 2, 3)]
    assert told["of_folds"] == each and told["mean"] == pytest.approx(sum(each) / 3)
    rows = read_csv(Path("runs/birds/out_of_fold.csv"))
    right = sum(row["species_true"] == row["species_pred"] for row in rows) / len(rows)
    assert told["mean"] == pytest.approx(right, abs=1e-5)  # folds of one size
    run = fgvc.TrainedRun(Path("runs/birds"))
    assert run.scores["test/species/top1"] == told["mean"]


@pytest.mark.parametrize("again", [["--resume", "runs/{}"], None])
def test_what_is_done_is_kept_and_the_rest_goes_on(home, monkeypatch, calls, again):
    monkeypatch.chdir(home)
    name = "resumed" if again else "repeated"
    words = ["fit", *WORDS, "--name", name, "--folds", "3"]
    fit = one_run.fit

    def stopped(words):
        if any(word == "fold2" for word in words):
            raise StoppedError("SIGINT: stopped", 2)
        return fit(words)

    monkeypatch.setattr(one_run, "fit", stopped)
    assert main(words) == 130
    monkeypatch.setattr(one_run, "fit", fit)
    assert calls == ["fit", [f"runs/{name}/fold1"]]
    calls.clear()
    assert main(["fit", *(word.format(name) for word in again)] if again else words) == 0
    assert calls == ["fit", [f"runs/{name}/fold2"], "fit", [f"runs/{name}/fold3"]]
    assert read_csv(Path(f"runs/{name}/out_of_fold.csv")) == read_csv(Path("runs/birds/out_of_fold.csv"))


def test_a_fold_that_is_trained_but_not_tested_is_tested(home, monkeypatch, calls):
    monkeypatch.chdir(home)
    shutil.copytree("runs/birds", "runs/copy")
    state = json.loads(Path("runs/copy/folds.json").read_text())
    assert state["folds"] == 3 and "--folds" not in state["words"]
    Path("runs/copy/fold2/predictions_test.csv").unlink()
    Path("runs/copy/out_of_fold.csv").unlink()
    assert main(["fit", "--resume", "runs/copy"]) == 0
    assert calls == [["runs/copy/fold2"]]
    assert read_csv(Path("runs/copy/out_of_fold.csv")) == read_csv(Path("runs/birds/out_of_fold.csv"))


def test_a_fold_that_was_killed_before_its_calibration_is_calibrated(home, monkeypatch, calls):
    monkeypatch.chdir(home)

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(one_run, "calibrate_model", killed)
        main(["fit", *WORDS, "--name", "killed", "--folds", "3"])
    assert main(["fit", "--resume", "runs/killed"]) == 0
    assert calls[1:3] == ["fit", ["runs/killed/fold1"]]
    assert read_csv(Path("runs/killed/out_of_fold.csv")) == read_csv(Path("runs/birds/out_of_fold.csv"))


def test_words_that_failed_before_any_training_are_forgotten(home, monkeypatch):
    monkeypatch.chdir(home)
    with pytest.raises(UsageError, match=r"batch_size: 400, but there are only"):
        fgvc.fit(*WORDS, name="again", folds=3, **{"data.batch_size": 400})
    assert sorted(path.name for path in Path("runs/again").iterdir()) == ["folds.json"]
    run = fgvc.fit(*WORDS, name="again", folds=3)
    assert read_csv(run.folder / "out_of_fold.csv") == read_csv(Path("runs/birds/out_of_fold.csv"))
    with pytest.raises(fgvc.FgvcError, match="runs/again: no model here"):
        run.predictor()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--folds", "1"], "--folds 1: give a number of 2 or more, e.g. --folds 5"),
        (["--folds", "many"], "--folds many: give a number of 2 or more, e.g. --folds 5"),
        (["--folds"], "--folds None: give a number of 2 or more, e.g. --folds 5"),
        (["--folds", "3", "--resume", "runs/birds/fold1"], "--folds: goes with no --resume RUN; give --resume the"),
        (["--resume", "runs/birds", "--model.lr", "1"], "--resume: folds go on with the words that they were begun"),
        (
            [*WORDS, "--folds", "3", "--name", "birds", "--model.lr", "1"],
            "runs/birds: folds of other words lie there; choose another --name, or give --overwrite true",
        ),
        ([*WORDS, "--folds", "2", "--name", "birds"], "runs/birds: folds of other words lie there"),
        ([*WORDS, "--folds", "3", "--name", "birds/fold1"], "runs/birds/fold1: a run or something else lies there"),
        ([*WORDS, "--folds", "30", "--name", "many"], "folds: 30; give at least 2 and at most 27, for there are 27"),
        ([*WORDS, "--folds", "3", "--trainer.devices", "2"], "--folds: one process trains the folds in turn; give"),
        ([*WORDS, "--data.folds", "3", "--data.fold", "4"], "data.fold: 4; there are the folds 1 to 3"),
    ],
)
def test_what_cannot_be_is_one_line(home, monkeypatch, words, said):
    monkeypatch.chdir(home)
    with pytest.raises(UsageError) as caught:
        fgvc.fit(*words)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_overwrite_begins_anew(home, monkeypatch, calls):
    monkeypatch.chdir(home)
    shutil.copytree("runs/birds", "runs/old")
    words = [*WORDS, "--name", "old", "--folds", "2", "--overwrite", "true"]
    assert main(["fit", *words]) == 0
    assert [path.name for path in sorted(Path("runs/old").iterdir()) if path.is_dir()] == ["fold1", "fold2"]
    assert calls == ["fit", ["runs/old/fold1"], "fit", ["runs/old/fold2"]]
    assert len(read_csv(Path("runs/old/out_of_fold.csv"))) == 27


def test_the_precision_over_all_folds_is_what_so_many_right_answers_certify(tmp_path):
    """300 of 400 images are sure and right, of the others half; every second image counts: 150 without a mistake."""
    rows = []
    for i in range(400):
        sure = i // 2 % 4 != 0
        right = sure or i // 2 % 8 == 0
        name = "gull" if right else "tern"
        score = "0.95" if sure else "0.4"
        rows.append([f"{i}.jpg", "gull", name, score, score, score])
    answer_table.write(tmp_path / "out_of_fold.csv", ["class"], [], False, rows)
    highest = max(p for p in range(50, 100) if (p / 100) ** 150 <= 0.1)
    said = folds.prospect(tmp_path / "out_of_fold.csv")
    assert f"400 images count: answers can be vouched for up to a precision of {highest / 100}, of 75% of the" in said
