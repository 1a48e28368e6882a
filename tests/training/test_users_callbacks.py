import csv
from pathlib import Path

import pytest
from fakes.tiny_run import CPU, NET, data_flags, make_photos, read_csv
from pytorch_lightning import callbacks as lightning

from fgvc.__main__ import main
from fgvc.errors import UsageError
from fgvc.training.callbacks.ema import EMA
from fgvc.training.users_callbacks import check


@pytest.mark.parametrize(
    ("callback", "arguments", "said"),
    [
        (lightning.LearningRateFinder, {}, "LearningRateFinder does not work here: .*--find_lr$"),
        (
            lightning.StochasticWeightAveraging,
            {"swa_lrs": 0.1},
            "StochasticWeightAveraging does not work here: ",
        ),
        (lightning.BatchSizeFinder, {}, "BatchSizeFinder does not work here: .*--find_batch_size true"),
        (lightning.EMAWeightAveraging, {}, "EMAWeightAveraging does not work here: .*--ema"),
        (lightning.EarlyStopping, {"monitor": "val/species/top1"}, "watches val/species/top1, of which more is better"),
        (
            lightning.ModelCheckpoint,
            {"monitor": "val/h_f1", "mode": "min"},
            "watches val/h_f1, of which more",
        ),
    ],
)
def test_a_callback_that_works_against_the_run_is_refused(callback, arguments, said):
    with pytest.raises(UsageError, match=said):
        check([(lightning.Timer, {}), (callback, arguments)])


def test_other_callbacks_are_taken():
    taken = check(
        [
            (lightning.EarlyStopping, {"monitor": "val/loss"}),
            (lightning.EarlyStopping, {"monitor": "val/species/top1", "mode": "max"}),
            (lightning.ModelCheckpoint, {"monitor": "val/hd@1", "mode": "min"}),
            (lightning.ModelCheckpoint, {}),
            (EMA, {"decay_max": 0.9}),
        ]
    )
    assert taken is None


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_photos(tmp_path / "photos", train=4, val=2, test=0)


def fit(photos, *words):
    return main(["fit", *NET, *CPU, *data_flags(photos), *words, "--name", "birds"])


def test_the_refusal_comes_before_anything_is_written(photos, capsys):
    assert fit(photos, "--trainer.callbacks+=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.1") == 2
    assert capsys.readouterr().err.startswith("fgvc: trainer.callbacks: StochasticWeightAveraging does not work here")
    assert not Path("runs/birds").exists()


def test_a_users_logger_is_added_to_the_runs_own(photos):
    logger = ["--trainer.logger+=CSVLogger", "--trainer.logger.save_dir=mine", "--trainer.logger.version=1"]
    assert fit(photos, "--trainer.max_epochs", "1", *logger) == 0
    own, mine = read_csv(Path("runs/birds/metrics.csv")), read_csv(next(Path("mine").rglob("metrics.csv")))
    assert any(row["val/species/top1"] for row in own) and own == mine
    assert list(Path("runs/birds/tensorboard").iterdir())


def test_no_logger_is_no_logger(photos):
    assert fit(photos, "--trainer.max_epochs", "1", "--trainer.logger", "false") == 0
    assert not Path("runs/birds/metrics.csv").exists()


def test_early_stopping_waits_for_a_better_validation(photos, monkeypatch):
    assert fit(photos, "--trainer.max_epochs", "12", "--early_stopping", "1", "--model.lr", "1e-9") == 0
    with Path("runs/birds/metrics.csv").open(newline="") as file:
        scores = [row["val/species/top1"] for row in csv.DictReader(file) if row["val/species/top1"]]
    assert len(scores) == 2 and scores[0] == scores[1]  # the second epoch was no better


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--early_stopping", "-1"], "early_stopping: -1; it must be at least 0"),
        (
            ["--early_stopping", "2", "--data.val_fraction", "0"],
            "early_stopping: 2; it watches the validation, and no ",
        ),
    ],
)
def test_a_patience_that_means_nothing_is_refused(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    photos = make_photos(tmp_path / "photos", train=4, val=0, test=0)
    assert fit(photos, *words) == 2
    assert capsys.readouterr().err.startswith(f"fgvc: {said}")
