import math
from pathlib import Path

import pytest
import torch
import yaml
from fakes.tiny_run import CPU, NET, data_flags, make_photos, read_csv

from fgvc.__main__ import main
from fgvc.training import rate_finder
from fgvc.training.rate_finder import steepest


def test_the_steepest_fall_of_a_known_curve_is_found():
    rates = [10 ** (-6 + 6 * i / 99) for i in range(100)]
    middle = 1e-3
    losses = [2 - math.tanh(2 * math.log10(rate / middle)) for rate in rates]  # falls fastest at the middle
    assert steepest(rates, losses) == pytest.approx(middle, rel=0.15)
    assert steepest(rates, [2 + rate for rate in rates]) is None
    assert steepest(rates[:15], losses[:15]) is None
    assert steepest(rates, [*losses[:80], math.nan, *losses[81:]]) == pytest.approx(middle, rel=0.15)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_photos(tmp_path / "photos", train=8, val=2, test=0)


def test_a_run_takes_the_rate_of_its_sweep(photos, monkeypatch, capsys):
    seen = {}
    original = rate_finder.pl.Trainer.fit

    def fit(trainer, model, **keys):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        original(trainer, model, **keys)
        if trainer.max_steps == rate_finder.STEPS:
            sweep = next(one for one in trainer.callbacks if isinstance(one, rate_finder.RateSweep))
            groups = trainer.optimizers[0].param_groups
            seen.update(sweep=sweep, before=before, groups={group["name"]: group["lr"] for group in groups})
        else:
            seen["started_from"] = before

    monkeypatch.setattr(rate_finder.pl.Trainer, "fit", fit)
    words = [*NET, *CPU, *data_flags(photos), "--trainer.max_epochs", "1", "--find_lr", "true"]
    assert main(["fit", *words, "--name", "swept", "--model.warmup_epochs", "0"]) == 0
    rates = seen["sweep"].rates
    assert rates == sorted(rates) and rates[0] == pytest.approx(1e-6) and len(rates) <= rate_finder.STEPS
    assert seen["groups"]["head.decay"] == pytest.approx(5 * rates[-1])  # the head's share of the rate holds
    found = float(f"{steepest(rates, seen['sweep'].losses):.2g}")
    stored = yaml.safe_load(Path("runs/swept/config.yaml").read_text())
    assert (stored["model"]["lr"], stored["find_lr"]) == (found, False)
    assert f"learning rate: {found:g}\n" in capsys.readouterr().err
    for name, tensor in seen["before"].items():
        assert torch.equal(tensor, seen["started_from"][name]), name  # the sweep left the weights as they were
    first = next(row for row in read_csv(Path("runs/swept/metrics.csv")) if row["train/lr"])
    assert 0 < float(first["train/lr"]) <= found


def test_where_the_loss_falls_at_no_rate_the_user_is_told(photos, monkeypatch, capsys):
    monkeypatch.setattr(rate_finder, "steepest", lambda rates, losses: None)
    words = [*NET, *CPU, *data_flags(photos), "--trainer.max_epochs", "1", "--find_lr", "true"]
    assert main(["fit", *words, "--name", "swept"]) == 2
    said = "fgvc: --find_lr: the loss fell at no learning rate; look at the data, or give --model.lr"
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert not Path("runs/swept").exists()
