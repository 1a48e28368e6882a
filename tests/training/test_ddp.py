"""Two processes over gloo: everything is counted once, and the answer is that of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fakes.tiny_run import NET, data_flags, make_photos, read_csv
from safetensors.torch import load_file

from fgvc.__main__ import main

pytestmark = pytest.mark.timeout(1800)  # four times the imports of any other test
TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
ONE = ["--trainer.devices", "1", "--trainer.strategy", "auto"]
KEEP = '''
import torch
from pytorch_lightning import Callback


class Keep(Callback):
    """Save what each process trained."""

    def on_train_start(self, trainer, pl_module):
        torch.save(pl_module.recognizer.state_dict(), f"start{trainer.global_rank}.pt")

    def on_train_end(self, trainer, pl_module):
        torch.save(pl_module.recognizer.state_dict(), f"end{trainer.global_rank}.pt")
'''


def fgvc(folder, *words):
    # Lightning would take a port that is free now and open it seconds later, when another test may have it.
    port = 10_000 + os.getpid() % 20_000  # one per test process, below those that the system hands out
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "fgvc", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Nine val and fifteen test images, 5 and 4, and 8 and 7, per process."""
    folder = tmp_path_factory.mktemp("home")
    make_photos(folder / "photos", train=8, val=3, test=5)
    flags = [*NET, *TWO, *data_flags(Path("photos")), "--name", "two", "--model.lr", "0.01"]
    phases = ["--phases", "[{name: head, epochs: 1}, {name: all, epochs: 1}]", "--trainer.max_epochs", "2"]
    done = fgvc(folder, "fit", *flags, *phases)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained 2 epochs") == done.stdout.count("val/species/top1") == 1  # one process tells
    for line in (
        "images: 24 to train, 9 to validate, 15 to test",
        "of 3 steps of 8 images",
        "epoch 1 of 2",
        "epoch 2 of",
    ):
        assert done.stderr.count(line) == 1
    assert "on 2 processes, each on the CPU" in done.stderr and "recommended" not in done.stderr
    return folder


def test_two_processes_count_like_one(home, monkeypatch):
    monkeypatch.chdir(home)
    rows = [row for row in read_csv(Path("runs/two/metrics.csv")) if row["val/species/top1"]]
    steps = [row["step"] for row in rows]
    assert steps == ["2", "5"]  # 24 images, two processes, batches of 4
    # the last epoch trained the backbone: both processes must have used the batch statistics that were saved
    assert main(["validate", "runs/two", *ONE, "--ckpt_path", "runs/two/checkpoints/last.ckpt"]) == 0
    for name, value in json.loads(Path("runs/two/validate.json").read_text()).items():
        assert value == pytest.approx(float(rows[-1][name]), abs=2e-6), name

    done = fgvc(home, "test", "runs/two", "--model.tta", "[flip]")
    assert done.returncode == 0, done.stderr
    by_two = json.loads(Path("runs/two/test.json").read_text())
    table = Path("runs/two/predictions_test.csv").read_text()
    assert main(["test", "runs/two", *ONE, "--model.tta", "[flip]"]) == 0
    by_one = json.loads(Path("runs/two/test.json").read_text())
    assert by_two.keys() == by_one.keys() and "test/tta_flip/species/top1" in by_one
    for name, value in by_one.items():
        assert by_two[name] == (pytest.approx(value, abs=2e-6) if name == "test/loss" else value), name
    names = [str(path.relative_to("photos")) for path in sorted(Path("photos/test").rglob("*.png"))]
    assert [row["path"] for row in read_csv(Path("runs/two/predictions_test.csv"))] == names
    assert [line.split(",")[0] for line in table.splitlines()[1:]] == names


def weights(moment):
    """Return the weights of both processes, which are the same."""
    first, second = (torch.load(f"{moment}{rank}.pt", weights_only=True) for rank in range(2))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    return first


@pytest.fixture
def kept(home, tmp_path, monkeypatch):
    """A working folder with the photographs, the run `two`, and a callback that keeps the weights."""
    for name in ("photos", "runs"):
        (tmp_path / name).symlink_to(home / name)
    (tmp_path / "keep_weights.py").write_text(KEEP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def train(folder, name, recognizer, *words):
    """Train by two processes on photographs, or on the data that the words name."""
    backbone = {"class_path": "Backbone", "init_args": {"name": "test_resnet", "weights": "none"}}
    recognizer = {"class_path": recognizer[0], "init_args": {"backbone": backbone, **recognizer[1]}}
    model = {"image_size": 32, "lr": 0.01, "warmup_epochs": 0, "recognizer": recognizer}
    trainer = {"callbacks": [{"class_path": "keep_weights.Keep"}], "num_sanity_val_steps": 0}
    Path(f"{name}.yaml").write_text(yaml.safe_dump({"model": model, "trainer": trainer}))
    done = fgvc(folder, "fit", "--config", f"{name}.yaml", *TWO, "--data.num_workers", "0", *words)
    assert done.returncode == 0, done.stderr
    return done


PHASES = ["locate", "recognise", "attend", "refine", "head", "all"]  # the last one is the phase that `validate` is in
BIRDS = {
    "num_orders": 1, "families_per_order": 1, "genera_per_family": 1, "species_per_genus": 3, "train_per_class": 6,
    "val_per_class": 3, "test_per_class": 0, "image_size": 64, "mark_size": 0.06, "num_processes": 1, "root": "cache",
}  # fmt: skip


def test_two_processes_look_closer_in_every_phase(kept):
    attention = {"class_path": "APN", "init_args": {"hidden": 8, "grid": 2}}
    source = {"class_path": "GeneratedBirds", "init_args": BIRDS}
    phases = [{"name": name, "epochs": 1} for name in PHASES]
    Path("birds.yaml").write_text(yaml.safe_dump({"data": {"source": source, "batch_size": 4, "source_size": 64}}))
    Path("phases.yaml").write_text(yaml.safe_dump({"phases": phases, "trainer": {"max_epochs": len(PHASES)}}))
    words = ["--config", "birds.yaml", "--config", "phases.yaml", "--runs", "closer"]
    recognizer = {"attention": attention, "erase_weight": 0.5, "shrink_weight": 0.1, "num_scales": 2}
    train(kept, "steps", ("RACNN", recognizer), *words, "--name", "steps")
    start, end = weights("start"), weights("end")
    for part in ("scales.0.backbone", "scales.1.backbone", "scales.0.head", "attentions.0", "fusion"):
        assert any(not torch.equal(start[name], end[name]) for name in end if name.startswith(part)), part
    rows = [row for row in read_csv(Path("closer/steps/metrics.csv")) if row["val/species/top1"]]
    assert len(rows) == len(PHASES)
    assert main(["validate", "closer/steps", *ONE, "--ckpt_path", "closer/steps/checkpoints/last.ckpt"]) == 0
    found = json.loads(Path("closer/steps/validate.json").read_text())
    assert {"val/box1_iou", "val/box1_mark_kept", "val/box1_side", "val/scale2/species/top1"} <= found.keys()
    for name, value in found.items():
        assert value == pytest.approx(float(rows[-1][name]), abs=5e-6), name


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("WSDAN", {"num_attentions": 4, "counterfactual": True}),
        ("FCAN", {"num_samples": 1}),
        ("SpatialTransformer", {}),
    ],
    ids=["WSDAN", "FCAN", "SpatialTransformer"],
)
def test_two_processes_train_without_phases(kept, name, arguments):
    flags = data_flags(Path("photos"))
    start_from = ["--init_from", "runs/two"] if name == "SpatialTransformer" else []
    words = ["--trainer.max_epochs", "1", "--runs", "others", "--name", name, *start_from]
    done = train(kept, name, (name, arguments), *flags, *words)
    start, end = weights("start"), weights("end")
    learnt = [key for key in end if end[key].is_floating_point() and "running" not in key]
    assert any(not torch.equal(start[key], end[key]) for key in learnt)
    if start_from:  # the second process is told what the first one read
        assert done.stderr.count("start from") == 1
        trained = load_file("runs/two/model/model.safetensors")
        assert torch.equal(start["trunks.1.net.conv1.0.weight"], trained["backbone.net.conv1.0.weight"])
