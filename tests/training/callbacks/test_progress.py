import re
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from fgvc.config import quiet
from fgvc.training.callbacks.progress import EpochLines, StderrProgressBar, print_summary


class Tiny(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, _):
        return self.layer(batch).sum()

    def validation_step(self, batch, _):
        self.log("val/loss", self.layer(batch).sum())

    def test_step(self, batch, _):
        self.log("test/loss", self.layer(batch).sum())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Known(Tiny):
    """Losses and accuracies that are known: the loss of batch i is i, the accuracy of validation n is n / 8."""

    monitor = "val/species/top1"
    validated = 0

    def training_step(self, batch, i):
        loss = 0 * self.layer(batch).sum() + i
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=1)
        return {"loss": loss}

    def on_validation_epoch_end(self):
        self.validated += not self.trainer.sanity_checking
        self.log("val/species/top1", self.validated / 8)


def make_trainer(tmp_path, bar, **more):
    quiet.libraries()
    log = pl.loggers.CSVLogger(str(tmp_path))  # its version number must stay out of the bar
    keys = {"logger": log, "enable_checkpointing": False, "enable_model_summary": False, "log_every_n_steps": 1}
    return pl.Trainer(accelerator="cpu", max_epochs=2, callbacks=[bar], **keys, **more)


@pytest.fixture
def trainer(tmp_path):
    return make_trainer(tmp_path, StderrProgressBar(refresh_rate=1))


def test_bars_go_to_stderr_and_stdout_stays_empty(trainer, capsys):
    loader = DataLoader(torch.rand(4, 1))
    module = Tiny()
    trainer.fit(module, loader, loader)
    out, err = capsys.readouterr()
    assert out == ""
    for word in ("Sanity", "Epoch 1", "Epoch 2", "Validation", "4/4"):
        assert word in err
    assert "v_num" not in err
    trainer.test(module, loader, verbose=False)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Testing" in err


def test_the_summary_tells_all_of_the_answer_and_the_gist_of_its_views(capsys):
    levels = {f"{level}/{kind}": 0.5 for level in ("genus", "species") for kind in ("top1", "top5", "mean_per_class")}
    tree = {"full_path": 0.25, "severity": 1.5, "hd@1": 0.75, "hd@5": 2.0, "h_f1": 0.5}
    numbers = {f"test/{view}{key}": x for view in ("", "scale1/", "crm/") for key, x in (levels | tree).items()}
    print_summary("3 images", {**numbers, "test/loss": 2.0, "val/loss": 1.0}, "test/")
    out, err = capsys.readouterr()
    told = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines() if "/" in line}
    assert err == "" and out.startswith("3 images\n")
    assert {f"test/{key}" for key in levels | tree} | {"test/loss"} <= set(told)
    gist = {f"test/{view}/{key}" for view in ("scale1", "crm") for key in ("genus/top1", "species/top1", "hd@1")}
    assert {name for name in told if name.count("/") > 1 and ("scale1" in name or "crm" in name)} == gist
    assert told["test/full_path"] == "25.00 %" and told["test/hd@1"] == "0.7500" and "val/loss" not in told


@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_bar_shows_the_loss_of_the_last_batch_and_the_finest_accuracy(tmp_path, capsys, accumulated):
    loader = DataLoader(torch.rand(4, 1))
    bar = StderrProgressBar(refresh_rate=1)
    make_trainer(tmp_path, bar, accumulate_grad_batches=accumulated).fit(Known(), loader, loader)
    first = capsys.readouterr().err.partition("Epoch 2")[0]
    for i in range(4):
        assert f"{i + 1}/4" in first and f"loss={i}.000" in first
    assert "val/species/top1=12.50 %" in first


def test_a_log_gets_one_line_per_epoch_without_control_characters(tmp_path, capsys):
    loader = DataLoader(torch.rand(4, 1))
    make_trainer(tmp_path, EpochLines(), check_val_every_n_epoch=2).fit(Known(), loader, loader)
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert out == ""
    assert re.fullmatch(r"epoch 1 of 2: loss 1\.5000, [\d.]+ s", first)  # the mean of 0, 1, 2, 3; not validated
    assert re.fullmatch(r"epoch 2 of 2: loss 1\.5000, val/species/top1 12\.50 %, [\d.]+ s", second)


def test_an_epoch_that_is_resumed_in_its_middle_is_timed_from_then_on(capsys):
    trainer = SimpleNamespace(callback_metrics={}, max_epochs=2, current_epoch=0)
    lines = EpochLines()
    lines.on_train_start(trainer)  # and no start of the epoch: it has begun before
    lines.on_train_epoch_end(trainer, Tiny())
    took = re.fullmatch(r"epoch 1 of 2: ([\d.]+) s", capsys.readouterr().err.strip())
    assert took is not None and float(took[1]) < 60  # and not the hours that the machine has been on


def test_every_process_but_the_first_is_silent(tmp_path, capsys):
    lines = EpochLines()
    trainer = make_trainer(tmp_path, lines)
    lines.disable()
    trainer.fit(Tiny(), DataLoader(torch.rand(4, 1)))
    assert "epoch" not in capsys.readouterr().err
