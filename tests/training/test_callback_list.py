import io
import sys

import pytest
import pytorch_lightning as pl
import torch
from fakes.tiny_run import read_csv
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from fgvc.config import quiet
from fgvc.training import callback_list
from fgvc.training.callbacks.bad_images import BadImages
from fgvc.training.callbacks.crop_health import CropHealth
from fgvc.training.callbacks.ema import EMA
from fgvc.training.callbacks.finite_loss import FiniteLoss
from fgvc.training.callbacks.known_metrics import KnownMetrics
from fgvc.training.callbacks.phases import Phase, PhaseSchedule
from fgvc.training.callbacks.progress import EpochLines, StderrProgressBar
from fgvc.training.callbacks.step_checkpoints import StepCheckpoint

SCORES = [0.25, 0.75, 0.5]
"""What the tiny module below reaches in each epoch: the second is the best."""


class Tiny(pl.LightningModule):
    """One weight that says how many epochs it has seen."""

    def __init__(self):
        super().__init__()
        self.seen = nn.Parameter(torch.tensor(0.0))

    def training_step(self, batch, batch_idx):
        return -self.seen

    def validation_step(self, batch, batch_idx):
        self.log("val/score", SCORES[self.current_epoch])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def trained(folder, found, loggers=False):
    """Train for three epochs of one step with these callback_list."""
    quiet.libraries()
    plain = {"accelerator": "cpu", "devices": 1, "max_epochs": 3, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
    silent = {"enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": folder}
    trainer = pl.Trainer(**plain, **silent, logger=loggers, callbacks=found)
    one = torch.utils.data.DataLoader([0])
    trainer.fit(Tiny(), one, one)
    return trainer


def checkpoints(folder):
    read = {path.name: torch.load(path, weights_only=True) for path in (folder / "checkpoints").iterdir()}
    return {name: (state["epoch"], float(state["state_dict"]["seen"])) for name, state in read.items()}


def test_a_run_keeps_its_best_and_its_last_epoch(tmp_path):
    trainer = trained(tmp_path, callback_list.training(tmp_path, None, False, 0.0, "val/score"))
    assert checkpoints(tmp_path) == {"best.ckpt": (1, 2), "last.ckpt": (2, 3)}
    assert callback_list.best_of(trainer) == {"val/score": 0.75}
    # a second training replaces them and numbers none
    trained(tmp_path, callback_list.training(tmp_path, None, False, 0.0, "val/score"))
    assert set(checkpoints(tmp_path)) == {"best.ckpt", "last.ckpt"}


def test_where_nothing_is_held_out_only_the_last_epoch_is_kept_and_none_is_the_best(tmp_path):
    trainer = trained(tmp_path, callback_list.training(tmp_path, [], False, 0.0, None))
    assert checkpoints(tmp_path) == {"last.ckpt": (2, 3)}
    assert callback_list.best_of(trainer) == {}


def test_before_any_epoch_none_is_the_best(tmp_path):
    made = callback_list.training(tmp_path, None, False, 0.0, "val/score")
    assert callback_list.best_of(pl.Trainer(accelerator="cpu", devices=1, logger=False, callbacks=made)) == {}


def test_the_stages_follow_one_another_and_the_average_starts_with_the_last_one(tmp_path):
    phases = [Phase("head", 2), Phase("all", 1), Phase("head", 4)]
    made = callback_list.training(tmp_path, phases, True, 0.9, "val/score")
    assert [type(one) for one in made] == [
        FiniteLoss,
        BadImages,
        KnownMetrics,
        PhaseSchedule,
        EMA,
        ModelCheckpoint,
        StepCheckpoint,
    ]
    schedule, average = made[3:5]
    assert (schedule.phases, schedule.cycle) == (phases, True)
    assert (average.decay, average.start_epoch) == (0.9, 3)
    without = callback_list.training(tmp_path, None, False, 0.9, None)
    assert [type(one) for one in without] == [FiniteLoss, BadImages, KnownMetrics, EMA, StepCheckpoint]
    assert without[3].start_epoch == 0


def test_the_loggers_write_into_the_run_folder_itself(tmp_path):
    trained(tmp_path, [ModelCheckpoint(tmp_path / "checkpoints")], callback_list.loggers(tmp_path))
    rows = read_csv(tmp_path / "metrics.csv")
    assert [float(row["val/score"]) for row in rows if row["val/score"]] == SCORES
    assert list((tmp_path / "tensorboard").glob("events.*"))
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.csv", "tensorboard", "checkpoints"}


@pytest.mark.parametrize(("person", "kind"), [(True, StderrProgressBar), (False, EpochLines)])
def test_a_terminal_gets_a_bar_and_a_log_gets_lines(monkeypatch, person, kind):
    screen = io.StringIO()
    screen.isatty = lambda: person
    monkeypatch.setattr(sys, "stderr", screen)
    bar, health = callback_list.watching()
    assert type(bar) is kind
    assert isinstance(health, CropHealth)
