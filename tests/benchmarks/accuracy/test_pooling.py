import sys

import numpy as np
import timm
import torch
from fakes.cub import make_fake
from safetensors.torch import save_file

from benchmarks.accuracy import linear_probe
from benchmarks.accuracy import pooling as script


def test_principal_axes_are_those_of_all_positions():
    maps = torch.randn(70, 6, 2, 3, generator=torch.Generator().manual_seed(0)).cumsum(dim=1)
    mean, axes = script.principal_axes(maps, 3)
    rows = maps.permute(0, 2, 3, 1).reshape(-1, 6).double().numpy()
    assert np.allclose(mean.numpy(), rows.mean(axis=0), atol=1e-5)
    _, _, directions = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    assert np.allclose(np.abs(axes.double().numpy() @ directions[:3].T), np.eye(3), atol=1e-4)  # up to the sign


def test_a_line_for_each_pooling_that_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(linear_probe, "PENALTIES", (0.1,))
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "w.safetensors")
    words = [
        "--root",
        make_fake(tmp_path)["root"],
        "--protocol",
        "standard",
        "--weights",
        str(tmp_path / "w.safetensors"),
    ]
    more = ["--backbone", "test_resnet", "--image_size", "64", "--reduced", "4", "--only", "average", "iSQRT"]
    monkeypatch.setattr(sys, "argv", ["pooling", *words, *more])
    script.main()
    head, average, second = capsys.readouterr().out.splitlines()
    channels = int(average.split("|")[2].replace(",", ""))
    assert head.startswith("test_resnet 64 px, maps (") and f", {channels}, " in head
    assert average.startswith("| average | ") and second.startswith("| iSQRT-COV, 4 axes | 10 | ")
