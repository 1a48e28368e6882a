from types import SimpleNamespace

import pytest
import torch
from fakes.tiny_run import CPU, NET, data_flags, make_photos

from fgvc.__main__ import main
from fgvc.data.records import Records
from fgvc.errors import FgvcError
from fgvc.training.callbacks.finite_loss import FiniteLoss

RECORDS = Records([f"{i}.jpg" for i in range(9)], range(9), "photos")


def trainer(step=7):
    return SimpleNamespace(current_epoch=1, global_step=step, datamodule=SimpleNamespace(records=lambda split: RECORDS))


MODULE = SimpleNamespace(hparams=SimpleNamespace(lr=0.01))


def batch(*index):
    return SimpleNamespace(index=torch.tensor(index))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_batch_is_named_and_listed(tmp_path, value):
    callback = FiniteLoss(tmp_path)
    callback.on_train_batch_end(trainer(), MODULE, {"loss": torch.tensor(1.0)}, batch(0, 1), 0)
    with pytest.raises(FgvcError) as caught:
        callback.on_train_batch_end(trainer(8), MODULE, {"loss": torch.tensor(value)}, batch(4, 2, 8, 3), 1)
    assert str(caught.value) == (
        "the loss is not finite at epoch 2, step 8; the batch: photos/4.jpg, photos/2.jpg, photos/8.jpg and 1 more "
        f"({tmp_path / 'not_finite.txt'}); lower --model.lr (now 0.01), give --trainer.gradient_clip_val 1, or train "
        "in --trainer.precision 32-true; nothing was saved yet"
    )
    listed = (tmp_path / "not_finite.txt").read_text().split()
    assert listed == ["photos/4.jpg", "photos/2.jpg", "photos/8.jpg", "photos/3.jpg"]


class OnAccelerator:
    """A loss whose device is not the processor."""

    def __init__(self, value):
        self.value = torch.tensor(value)

    def detach(self):
        return SimpleNamespace(device=SimpleNamespace(type="cuda"))


@pytest.mark.parametrize("hook", ["next step", "checkpoint"])
def test_on_an_accelerator_a_step_is_looked_at_later_but_before_anything_is_saved(tmp_path, monkeypatch, hook):
    callback = FiniteLoss(tmp_path)
    monkeypatch.setattr(torch, "isfinite", lambda loss: torch.tensor(False))
    callback.on_train_batch_end(trainer(), MODULE, {"loss": OnAccelerator(0.0)}, batch(4), 0)
    with pytest.raises(FgvcError, match=r"at epoch 2, step 7; the batch: photos/4.jpg "):
        if hook == "checkpoint":
            callback.on_save_checkpoint(trainer(8), MODULE, {})
        else:
            callback.on_train_batch_end(trainer(8), MODULE, {"loss": OnAccelerator(0.0)}, batch(5), 1)


def test_a_run_that_diverges_ends_in_one_line(tmp_path, monkeypatch, capsys):
    photos = make_photos(tmp_path / "photos", val=0, test=0)
    monkeypatch.chdir(tmp_path)
    words = [*data_flags(photos), "--model.lr", "1e30", "--model.optimizer", "sgd", "--model.warmup_epochs", "0"]
    assert main(["fit", *NET, *CPU, *words, "--name", "wild", "--save_every_minutes", "0"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("fgvc: the loss is not finite at epoch 1, step 2; the batch: ")
    assert last.endswith("; fgvc fit --resume runs/wild goes on from the last checkpoint")
    assert len((tmp_path / "runs/wild/not_finite.txt").read_text().splitlines()) == 4
    state = torch.load(tmp_path / "runs/wild/checkpoints/last.ckpt", weights_only=True)
    assert state["global_step"] == 1
