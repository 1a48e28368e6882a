import sys

import timm
from fakes.cub import make_fake
from safetensors.torch import save_file

from benchmarks.accuracy import linear_probe as script


def test_the_script_tells_penalties_and_the_score_on_test(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "PENALTIES", (0.1, 0.001))
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "w.safetensors")
    words = ["--root", make_fake(tmp_path)["root"], "--weights", str(tmp_path / "w.safetensors")]
    more = ["--backbone", "test_resnet", "--image_size", "32", "--fit", "crop", "--pooling", "average"]
    monkeypatch.setattr(sys, "argv", ["linear_probe", *words, *more])
    script.main()
    tried, told = capsys.readouterr().out.splitlines()
    assert tried.startswith("{0.1: ") and ", 0.001: " in tried
    assert told.startswith("test_resnet crop 1 area 32 px, average pooling: test top-1 ")
