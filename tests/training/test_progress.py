import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from fgvc import quiet
from fgvc.training.progress import StderrProgressBar


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


@pytest.fixture
def trainer(tmp_path):
    quiet.libraries()
    log = pl.loggers.CSVLogger(str(tmp_path))  # its version number must stay out of the bar
    keys = {"logger": log, "enable_checkpointing": False, "enable_model_summary": False, "log_every_n_steps": 1}
    return pl.Trainer(accelerator="cpu", max_epochs=2, callbacks=[StderrProgressBar(refresh_rate=1)], **keys)


def test_bars_go_to_stderr_and_stdout_stays_empty(trainer, capsys):
    loader = DataLoader(torch.rand(4, 1))
    module = Tiny()
    trainer.fit(module, loader, loader)
    out, err = capsys.readouterr()
    assert out == ""
    for word in ("Sanity", "Epoch 0", "Epoch 1", "Validation", "4/4"):
        assert word in err
    assert "v_num" not in err
    trainer.test(module, loader, verbose=False)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Testing" in err
