import math

import pytest
import timm
import torch
from fakes.cub import make_fake
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from benchmarks.accuracy import small_calibration as script
from benchmarks.accuracy.small_calibration import Recipe, likeliest, probe


def test_the_likeliest_temperature_is_the_best_of_a_grid():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(400, 5, generator=generator)
    targets = torch.multinomial((logits / 2).softmax(1), 1, generator=generator)[:, 0]
    grid = [1.01**i for i in range(-100, 200)]
    best = min(grid, key=lambda value: float(cross_entropy(logits.double() / value, targets)))
    assert likeliest(logits, targets) == pytest.approx(best, rel=0.02)


def test_smoothing_makes_a_probe_less_sure():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    x = torch.nn.functional.one_hot(y, 3) + 0.1 * torch.randn(60, 3, generator=generator)
    sure, unsure = (probe(x, y, 3, Recipe(800, label_smoothing=s))(x).softmax(1).amax(1).mean() for s in (0.0, 0.3))
    assert sure > unsure + 0.02


def test_the_table_has_a_row_per_probe_and_their_mean(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "RECIPES", {"short": Recipe(2), "long": Recipe(5)})
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "w.safetensors")
    words = ["--root", make_fake(tmp_path)["root"], "--weights", str(tmp_path / "w.safetensors")]
    assert script.main([*words, "--backbone", "test_resnet", "--image_size", "32", "--sets", "2"]) == 0
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["probe", "---", "short", "long", "mean"]
    numbers = [[float(cell) for cell in row[2:]] for row in rows[2:]]
    for column in zip(*numbers, strict=True):
        assert all(0 <= value <= 1 for value in column)
        assert math.isclose(column[2], (column[0] + column[1]) / 2, abs_tol=1e-4)
