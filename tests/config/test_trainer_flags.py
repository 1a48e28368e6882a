"""Every flag of Lightning's Trainer either works or is refused in one line of fgvc's own words."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from fakes.tiny_run import CPU, NET, data_flags, make_photos, read_csv
from fakes.trainer_settings import DEFAULTS, SETTINGS
from pytorch_lightning import Callback

from fgvc.__main__ import main
from fgvc.config.trainer_flags import check, check_batches, in_one_line
from fgvc.errors import UsageError
from fgvc.training.module import FineGrainedModule

STEPS, VAL_BATCHES = 5, 3  # of the data below: 21 training images and 9 others in batches of 4

WALK = {
    "accelerator": [("cpu", None), ("tpu", "'tpu'; it takes auto, gpu, cpu, cuda, mps")],
    "strategy": [("auto", None), ("fsdp", "'fsdp'; a run keeps the whole network in each process: auto or ddp")],
    "devices": [("1", None), ("auto", None), ("0", "0; it must be at least 1, or auto"),
                ("[0, 1]", "[0, 1]; on the CPU it is the number of processes, e.g. 2")],
    "num_nodes": [("1", None), ("0", "0; it must be a number of at least 1")],
    "precision": [("bf16-mixed", None), ("64", None),
                  ("transformer-engine", "transformer-engine replaces timm's layers; give bf16-mixed")],
    "logger": [("true", None), ("false", None),
               ("WandbLogger", "WandbLogger: needs a package that is not installed: pip install 'wandb>=")],
    "callbacks": [("LearningRateMonitor", None),
                  ("RichProgressBar", "RichProgressBar: needs a package that is not installed: pip install 'rich'"),
                  ("BatchSizeFinder", "BatchSizeFinder does not work here: a batch belongs to the order of the images; "
                   "give --find_batch_size true"),
                  ("LearningRateFinder", "LearningRateFinder does not work here: the run sets its own rates; "
                   "give --find_lr")],
    "fast_dev_run": [("true", None), ("2", None), ("-1", "-1; it must be a number of at least 0")],
    "max_epochs": [("1", None), ("0", "0 trains nothing; give at least 1")],
    "min_epochs": [("1", None), ("-3", "-3; it must be a number of at least 0")],
    "max_steps": [("3", None), ("-5", "-5; it must be a number of at least -1")],
    "min_steps": [("7", None), ("-7", "-7; it must be a number of at least 0")],
    "max_time": [("00:00:01:00", None), ("{minutes: 1}", None),
                 ("soon", "'soon'; a time is written DD:HH:MM:SS, as in 00:02:00:00 for two hours")],
    "limit_train_batches": [("0.5", None), ("2", None),
                            ("0.01", "0.01 of 5 batches is none; give at least 0.2, or a whole number of batches"),
                            ("1.5", "1.5; a share of at most 1.0, or a whole number of batches")],
    "limit_val_batches": [("0", None), ("1", None),
                          ("0.01", "0.01 of 3 batches is none; give at least 0.334, or a whole number of batches"),
                          ("-1", "-1; it must be a number of at least 0")],
    "limit_test_batches": [("1", None), ("-1", "-1; it must be a number of at least 0")],
    "limit_predict_batches": [("1", None), ("-1", "-1; it must be a number of at least 0")],
    "overfit_batches": [("1", "does not go with the order of the images; use limit_train_batches")],
    "val_check_interval": [("2", None), ("0.5", None), ("00:00:00:01", None),
                           ("1000", "1000, but an epoch has 5 batches; give at most 5, or "
                            "--trainer.check_val_every_n_epoch null to count over all epochs"),
                           ("1.5", "1.5; a share of at most 1.0, or a whole number of batches"),
                           ("soon", "'soon'; a time is written DD:HH:MM:SS, as in 00:02:00:00 for two hours")],
    "check_val_every_n_epoch": [("2", None), ("null", None), ("0", "0; it must be a number of at least 1")],
    "num_sanity_val_steps": [("0", None), ("-1", None), ("-2", "-2; it must be a number of at least -1")],
    "log_every_n_steps": [("3", None), ("0", "0; it must be a number of at least 1")],
    "enable_checkpointing": [("true", None), ("false", None)],
    "enable_progress_bar": [("true", None), ("false", None)],
    "enable_model_summary": [("true", None), ("false", None)],
    "accumulate_grad_batches": [("2", None), ("0", "0; it must be a number of at least 1")],
    "gradient_clip_val": [("1", None), ("-1", "-1.0; it must be a number of at least 0")],
    "gradient_clip_algorithm": [("value", None), ("vale", "'vale'; it takes norm or value; did you mean 'value'?")],
    "deterministic": [("true", None), ("warn", None)],
    "benchmark": [("false", None), ("maybe", "'maybe' given, but it takes true or false or null")],
    "inference_mode": [("false", None)],
    "use_distributed_sampler": [("true", "the data share the images among the processes themselves; leave it out")],
    "profiler": [("simple", None), ("SimpleProfiler", None),
                 ("simpel", "'simpel'; it takes simple or advanced or pytorch; did you mean 'simple'?")],
    "detect_anomaly": [("true", None)],
    "barebones": [("true", None)],
    "plugins": [("DoublePrecision", None),
                ("AsyncCheckpointIO", "a run writes its checkpoints in a way of its own; leave CheckpointIO out")],
    "sync_batchnorm": [("true", None)],
    "reload_dataloaders_every_n_epochs": [("1", None), ("-1", "-1; it must be a number of at least 0")],
    "default_root_dir": [("elsewhere", None)],
    "enable_autolog_hparams": [("false", None)],
    "model_registry": [("mine", "a run sends its model nowhere; it is written to runs/NAME/model; leave it out")],
}  # fmt: skip
"""Flag -> values, each with None where it works or how the one line goes on after `trainer.FLAG: `."""


def test_every_flag_of_this_lightning_has_its_row():
    assert set(DEFAULTS) == set(WALK)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos"), train=7, val=3, test=1)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    yield monkeypatch.chdir(tmp_path)
    torch.use_deterministic_algorithms(False)  # of trainer.deterministic


def fit(photos, *words):
    return main(["fit", *NET, *CPU, *data_flags(photos), "--trainer.max_epochs", "1", *words, "--name", "birds"])


def steps(monkeypatch, method="training_step"):
    """Return a list that grows by one with each step."""
    seen, original = [], getattr(FineGrainedModule, method)
    monkeypatch.setattr(FineGrainedModule, method, lambda self, *a: (seen.append(1), original(self, *a))[1])
    return seen


@pytest.mark.filterwarnings("ignore")  # Lightning advises on many of them
@pytest.mark.parametrize(("flag", "value", "line"), [(flag, *row) for flag, rows in WALK.items() for row in rows])
def test_a_flag_works_or_is_refused_in_one_line(photos, capsys, flag, value, line):
    code = fit(photos, f"--trainer.{flag}", value)
    said = [part for part in capsys.readouterr().err.splitlines() if part.startswith("fgvc: ")]
    if line is None:
        assert (code, said) == (0, [])
        assert Path("runs/birds/model/model.safetensors").is_file()
    else:
        assert code == 2 and len(said) == 1
        assert said[0].startswith(f"fgvc: trainer.{flag}: {line}")
        assert not Path("runs/birds").exists()


def test_the_number_1_is_one_batch_and_the_share_1_is_all_of_them(photos, monkeypatch):
    seen = steps(monkeypatch)
    assert fit(photos, "--trainer.limit_train_batches", "1") == 0
    assert len(seen) == 1
    assert fit(photos, "--trainer.limit_train_batches", "1.0", "--overwrite", "true") == 0
    assert len(seen) == 1 + STEPS


def test_no_progress_bar_is_no_progress_bar(photos, capsys, monkeypatch):
    assert fit(photos, "--trainer.enable_progress_bar", "false") == 0
    said = capsys.readouterr().err
    assert "epoch 1 of" not in said and "%|" not in said
    assert fit(photos, "--overwrite", "true") == 0
    assert "epoch 1 of" in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert fit(photos, "--trainer.enable_progress_bar", "false", "--overwrite", "true") == 0
    assert "%|" not in capsys.readouterr().err
    assert fit(photos, "--overwrite", "true") == 0
    assert "%|" in capsys.readouterr().err


def test_a_bar_of_the_users_own_takes_the_place_of_ours(photos, capsys):
    assert fit(photos, "--trainer.callbacks", "TQDMProgressBar") == 0
    assert "epoch 1 of" not in capsys.readouterr().err


def test_without_checkpoints_the_model_is_that_of_the_last_step(photos, capsys):
    assert fit(photos, "--trainer.max_epochs", "2") == 0
    model = Path("runs/birds/model/model.safetensors").read_bytes()
    assert fit(photos, "--trainer.max_epochs", "2", "--data.val_fraction", "0", "--overwrite", "true",
               "--trainer.enable_checkpointing", "false") == 0  # fmt: skip
    assert "no checkpoints were written: the model is that of the last step" in capsys.readouterr().err
    assert not Path("runs/birds/checkpoints").exists()
    described = json.loads(Path("runs/birds/model/fgvc.json").read_text())
    assert described["provenance"]["checkpoint"] == "none: the weights of the last step"
    assert len(Path("runs/birds/model/model.safetensors").read_bytes()) == len(model)
    assert main(["predict", "runs/birds", str(photos / "test")]) == 0
    assert main(["fit", "--resume", "runs/birds"]) == 2
    assert "no checkpoint to go on from" in capsys.readouterr().err


def test_a_bare_run_logs_nothing_and_leaves_a_model(photos, capsys):
    assert fit(photos, "--trainer.barebones", "true") == 0
    assert not Path("runs/birds/metrics.csv").exists()
    assert main(["test", "runs/birds", "--trainer.barebones", "false"]) == 0
    assert main(["test", "runs/birds"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("fgvc: trainer.barebones: it counts nothing")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--trainer.barebones", "true", "--early_stopping", "2"],
         "early_stopping: watches the validation, and trainer.barebones logs none; leave one of them out"),
        (["--trainer.barebones", "true", "--trainer.profiler", "simple"],
         "trainer.barebones: true goes without profiler; leave --trainer.profiler out"),
        (["--trainer.enable_progress_bar", "false", "--trainer.callbacks", "TQDMProgressBar"],
         "trainer.enable_progress_bar: false goes without TQDMProgressBar; leave it out of trainer.callbacks"),
        (["--trainer.callbacks+", "EarlyStopping", "--trainer.callbacks.monitor", "val/loss",
          "--trainer.callbacks.mode", "maxx"], "trainer.callbacks: `mode` can be min, max, got maxx"),
        (["--trainer.logger", "WandbLoger"], "trainer.logger: no class 'WandbLoger'; did you mean 'WandbLogger'"),
        (["--trainer.logger+", "MLFlowLogger"],
         "trainer.logger: MLFlowLogger: needs a package that is not installed: pip install 'mlflow"),
        (["--trainer.callbacks", "OnExceptionCheckpoint", "--trainer.callbacks.dirpath", "x"],
         "trainer.callbacks: OnExceptionCheckpoint does not work here: a run saves itself when it stops"),
        (["--find_batch_size", "true"],
         "--find_batch_size: it fills the memory of an accelerator, and there is none; give --data.batch_size"),
        (["--data.batch_size", "1"],
         "data.batch_size: a batch of 1 image gives batch normalisation a single number per channel; give "
         "--data.batch_size 2 or more"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_told_in_one_line(photos, capsys, words, line):
    assert fit(photos, *words) == 2
    said = [part for part in capsys.readouterr().err.splitlines() if part.startswith("fgvc: ")]
    assert len(said) == 1 and said[0].startswith(f"fgvc: {line}")
    assert not Path("runs/birds").exists()


MONITOR = "--trainer.callbacks.monitor"


@pytest.mark.parametrize("callback", ["EarlyStopping", "ModelCheckpoint"])
@pytest.mark.parametrize(("sanity", "trained"), [("2", 0), ("0", STEPS)])
def test_a_number_that_nobody_logs_is_told_as_soon_as_it_is_known(
    photos, monkeypatch, capsys, callback, sanity, trained
):
    seen = steps(monkeypatch)
    words = ["--trainer.callbacks", callback, MONITOR, "val_loss", "--trainer.num_sanity_val_steps", sanity]
    assert fit(photos, *words) == 2
    assert len(seen) == trained
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        f"fgvc: trainer.callbacks: {callback} watches 'val_loss', which is not logged; did you mean "
    )
    assert "'val/loss'" in said and "val/species/top1" in said and "Lightning" not in said


def test_a_number_of_the_training_is_known_after_an_epoch(photos, monkeypatch, capsys):
    assert fit(photos, "--trainer.callbacks", "EarlyStopping", MONITOR, "train/loss") == 0
    seen = steps(monkeypatch)
    assert fit(photos, "--trainer.callbacks", "EarlyStopping", MONITOR, "train/los", "--overwrite", "true") == 2
    assert len(seen) == STEPS
    assert "watches 'train/los', which is not logged; did you mean 'train/loss'?" in capsys.readouterr().err


class LateLogger(Callback):
    """Logs a number of its own, but not before the first epoch ends."""

    def on_train_epoch_end(self, trainer, pl_module):
        pl_module.log("mine", 1.0)


def test_a_callback_of_the_users_own_may_log_what_is_watched(photos):
    words = ["--trainer.callbacks+", f"{__name__}.LateLogger", "--trainer.callbacks+", "ModelCheckpoint"]
    assert fit(photos, *words, MONITOR, "mine", "--trainer.callbacks.save_on_train_epoch_end", "true") == 0


def test_a_validation_that_comes_every_second_epoch_may_be_watched(photos):
    every = ["--trainer.check_val_every_n_epoch", "2", "--trainer.max_epochs", "2"]
    watch = ["--trainer.callbacks", "EarlyStopping", MONITOR, "val/loss", "--trainer.num_sanity_val_steps", "0"]
    assert fit(photos, *every, *watch) == 0
    assert len([row for row in read_csv(Path("runs/birds/metrics.csv")) if row["val/loss"]]) == 1


def test_shares_of_batches_are_counted_as_lightning_counts_them():
    counts = {"train": 10, "val": 4}
    for key, value in (("limit_train_batches", 0.1), ("val_check_interval", 10), ("val_check_interval", None)):
        check_batches({**SETTINGS, key: value}, counts)
    check_batches({**SETTINGS, "val_check_interval": 11, "check_val_every_n_epoch": None}, counts)
    check_batches({**SETTINGS, "val_check_interval": 11}, {"train": 10})
    with pytest.raises(UsageError, match="an epoch has 5 batches"):
        check_batches({**SETTINGS, "val_check_interval": 6, "limit_train_batches": 0.5}, counts)
    with pytest.raises(UsageError, match="an epoch has 3 batches"):
        check_batches({**SETTINGS, "val_check_interval": 6, "limit_train_batches": 3}, counts)
    with pytest.raises(UsageError, match=r"limit_train_batches: 0.09 of 10 batches is none; give at least 0.1"):
        check_batches({**SETTINGS, "limit_train_batches": 0.09}, counts)


def test_numbers_that_are_none_pass():
    assert check({**SETTINGS, "gradient_clip_val": None, "min_epochs": None}, begins=True) is None
    with pytest.raises(UsageError, match="gradient_clip_val: nan"):
        check({**SETTINGS, "gradient_clip_val": math.nan}, begins=True)


def test_a_missing_package_is_told_with_the_command_that_installs_it():
    told = in_one_line(ModuleNotFoundError("Requirement 'psutil>=5' not met.\n HINT: Try `pip install -U 'psutil>=5'`"))
    assert told == "trainer: needs a package that is not installed: pip install 'psutil>=5'"
