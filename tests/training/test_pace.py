from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from fgvc.config import quiet
from fgvc.training.pace import STEPS, Stopwatch, batch_for, epochs_for, seconds_per_epoch, seconds_per_step


@pytest.mark.parametrize(("epoch", "epochs"), [(0.0, 20), (10, 20), (60, 10), (61, 9), (150, 4), (1000, 3)])
def test_ten_minutes_of_epochs_three_at_least_twenty_at_most(epoch, epochs):
    assert epochs_for(epoch) == epochs


@pytest.mark.parametrize(
    ("images", "batch"), [(1, 2), (2, 2), (5, 5), (12, 8), (32, 8), (63, 8), (64, 16), (127, 16), (128, 32), (9999, 32)]
)
def test_a_small_data_set_has_small_batches(images, batch):
    assert batch_for(images) == batch


def test_the_first_step_warms_up_and_a_late_one_counts_once():
    watch = Stopwatch()
    watch.moments = [100.0, 101.0, 103.0, 113.0, 115.0]
    assert watch.seconds() == 2.0


@pytest.mark.parametrize(
    ("train", "val", "splits", "seconds"),
    [(1.0, 1.0, "train val", 28.0), (2, 0, "train val", 4.0), (0.5, 5, "train val", 14.0), (1.0, 1.0, "train", 20.0)],
)
def test_an_epoch_is_its_steps_and_its_validation(train, val, splits, seconds):
    data = SimpleNamespace(train_dataloader=lambda: range(10), val_dataloader=lambda: range(10), splits=splits.split())
    settings = {"limit_train_batches": train, "limit_val_batches": val}
    assert seconds_per_epoch(2.0, data, settings) == pytest.approx(seconds)


def test_a_measured_model_is_left_as_it_was():
    quiet.libraries()

    class Tiny(pl.LightningModule):
        steps = 0

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1))

        def training_step(self, batch, _):
            self.steps += 1
            return self.layer(batch).square().sum() + self.layer[0].weight.sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    class Data(pl.LightningDataModule):
        def train_dataloader(self):
            return DataLoader(torch.rand(6, 1), batch_size=3)

    model = Tiny()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert seconds_per_step(model, Data(), {"accelerator": "cpu", "precision": None}) > 0
    assert model.steps == STEPS
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
