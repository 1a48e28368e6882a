import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from fgvc.config import quiet
from fgvc.training.trial import trial_trainer, undone

SETTINGS = {"accelerator": "cpu", "precision": None}


class Noted(pl.LightningModule):
    """A weight, and a buffer that counts the batches."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.register_buffer("seen", torch.zeros(()))

    def training_step(self, batch, _):
        self.seen += 1
        return self.layer(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_so_many_steps_are_trained_and_undone_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quiet.libraries()
    model = Noted()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with undone(model):
        trial_trainer(SETTINGS, 3).fit(model, DataLoader(torch.rand(2, 1)))
        assert model.seen == 3 and not torch.equal(model.layer.weight, before["layer.weight"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.layer.weight.grad is None
    assert not list(tmp_path.iterdir()) and capsys.readouterr().out == ""


def test_it_is_undone_after_an_error_too():
    model = Noted()
    before = model.layer.weight.clone()
    with pytest.raises(MemoryError), undone(model):
        torch.nn.init.zeros_(model.layer.weight)
        raise MemoryError
    assert torch.equal(model.layer.weight, before)
