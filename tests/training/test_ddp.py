"""Two processes over gloo: everything is counted once, and the answer is that of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import NET, data_flags, make_photos, read_csv

from fgvc.__main__ import main

pytestmark = pytest.mark.timeout(900)  # four times the imports of any other test
TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]


def fgvc(folder, *words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fgvc", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Nine val and fifteen test images, 5 and 4, and 8 and 7, per process."""
    folder = tmp_path_factory.mktemp("home")
    make_photos(folder / "photos", train=8, val=3, test=5)
    flags = [*NET, *TWO, *data_flags(Path("photos")), "--name", "two", "--model.lr", "0.01"]
    phases = ["--phases", "[{name: head, epochs: 1}, {name: all, epochs: 1}]", "--trainer.max_epochs", "2"]
    done = fgvc(folder, "fit", *flags, *phases)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return folder


def test_two_processes_count_like_one(home, monkeypatch):
    monkeypatch.chdir(home)
    rows = [row for row in read_csv(Path("runs/two/metrics.csv")) if row["val/species/top1"]]
    steps = [row["step"] for row in rows]
    assert steps == ["2", "5"]  # 24 images, two processes, batches of 4
    one = ["--trainer.devices", "1", "--trainer.strategy", "auto"]
    # the last epoch trained the backbone: both processes must have used the batch statistics that were saved
    assert main(["validate", "runs/two", *one, "--ckpt_path", "runs/two/checkpoints/last.ckpt"]) == 0
    for name, value in json.loads(Path("runs/two/validate.json").read_text()).items():
        assert value == pytest.approx(float(rows[-1][name]), abs=2e-6), name

    done = fgvc(home, "test", "runs/two", "--model.tta", "[flip]")
    assert done.returncode == 0, done.stderr
    by_two = json.loads(Path("runs/two/test.json").read_text())
    table = Path("runs/two/predictions_test.csv").read_text()
    assert main(["test", "runs/two", *one, "--model.tta", "[flip]"]) == 0
    by_one = json.loads(Path("runs/two/test.json").read_text())
    assert by_two.keys() == by_one.keys() and "test/tta_flip/species/top1" in by_one
    for name, value in by_one.items():
        assert by_two[name] == (pytest.approx(value, abs=2e-6) if name == "test/loss" else value), name
    names = [str(path.relative_to("photos")) for path in sorted(Path("photos/test").rglob("*.png"))]
    assert [row["path"] for row in read_csv(Path("runs/two/predictions_test.csv"))] == names
    assert [line.split(",")[0] for line in table.splitlines()[1:]] == names
