from pathlib import Path

import pytest
import timm
import torch
from fakes.tiny_run import BACKBONE, CPU, NET, data_flags, make_photos, read_csv
from PIL import Image
from safetensors.torch import save_file

from fgvc.__main__ import main
from fgvc.data.dataset import PhotoDataset
from fgvc.methods.backbone import Backbone
from fgvc.training import frozen

PLAIN = ["--save_every_minutes", "0", "--trainer.log_every_n_steps", "1", "--model.lr", "0.01"]
STILL = ["--phases", "[{name: head, epochs: 2}]", "--data.augmentation.off", "true", "--trainer.max_epochs", "2"]
HEAD = "--model.recognizer.init_args.head"


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FGVC_CACHE", str(tmp_path / "cache"))
    return make_photos(tmp_path / "photos", train=7, val=3, test=0)


def fit(photos, name, *words):
    return main(["fit", *NET, *CPU, *data_flags(photos), *PLAIN, *words, "--name", name])


def weights(name):
    return torch.load(f"runs/{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"]


def in_both_ways(photos, monkeypatch, *words):
    """Train with vectors and with images; return what the training with vectors read and showed to the network."""
    read, shown = [], []
    sample, forward = PhotoDataset._sample, Backbone.forward
    with monkeypatch.context() as patched:
        patched.setattr(frozen, "remember", lambda *_: "")
        assert fit(photos, "images", *words) == 0
    with monkeypatch.context() as patched:
        patched.setattr(PhotoDataset, "_sample", lambda self, *key: read.append(self.split) or sample(self, *key))
        patched.setattr(Backbone, "forward", lambda self, x: shown.append(len(x)) or forward(self, x))
        assert fit(photos, "vectors", *words) == 0
    return read, shown


@pytest.mark.parametrize(
    "words",
    [
        [],
        [HEAD, "CosineHead", "--ema", "0.9"],
        [f"{HEAD}", "LinearHead", f"{HEAD}.pooling", "AveragePooling", f"{HEAD}.dropout", "0.5"],
        [HEAD, "LinearHead", f"{HEAD}.loss", "SymmetricCrossEntropy"],
        [
            "--phases",
            "[{name: head, epochs: 1}, {name: head, epochs: 1, balance: class_balanced, new_classifiers: true}]",
        ],
        [
            *(HEAD, "CosineHead", f"{HEAD}.loss", "LDAM", f"{HEAD}.scale", "30"),
            *("--phases", "[{name: head, epochs: 1}, {name: head, epochs: 1, reweight: true}]"),
        ],
        [HEAD, "HAFHead", "--model.optimizer", "sgd"],  # Adam's first steps turn a rounding of 0 into a step of lr
    ],
    ids=["linear", "cosine", "average and dropout", "robust loss", "re-trained", "re-weighted", "haf"],
)
def test_a_head_learns_the_same_from_vectors_as_from_images(photos, monkeypatch, capsys, words):
    read, shown = in_both_ways(photos, monkeypatch, *STILL, *words)
    told = capsys.readouterr().err
    assert told.count("the network stands still: the features of 30 photographs are computed once") == 1
    assert set(read) <= {"train", "val"} and read.count("train") == 0  # val: the calibration reads it once
    assert sum(shown) <= 30 + 4 + 4 + 2 * 9  # all once, the check, and what evaluates the finished model
    one, other = weights("images"), weights("vectors")
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-5)
    for row, wanted in zip(read_csv_of("vectors"), read_csv_of("images"), strict=True):
        assert row.keys() == wanted.keys()
        for key in [key for key in row if row[key] and "loss" in key]:
            assert float(row[key]) == pytest.approx(float(wanted[key]), rel=1e-3)


def read_csv_of(name):
    return read_csv(Path(f"runs/{name}/metrics.csv"))


def test_a_resumed_run_takes_the_network_of_its_checkpoint(photos, tmp_path, capsys):
    torch.manual_seed(7)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.safetensors")
    words = [*STILL, f"{BACKBONE}.weights", str(tmp_path / "weights.safetensors")]
    assert fit(photos, "whole", *words, "--trainer.max_epochs", "3") == 0
    assert fit(photos, "resumed", *words) == 0
    capsys.readouterr()
    assert main(["fit", "--resume", "runs/resumed", "--trainer.max_epochs", "3"]) == 0
    assert capsys.readouterr().err.count("photographs are known from before") == 1
    backbone = [name for name in weights("whole") if ".backbone." in name]
    assert backbone and all(torch.equal(weights("whole")[name], weights("resumed")[name]) for name in backbone)


def test_the_next_run_finds_the_features_and_a_resumed_one_too(photos, capsys):
    assert fit(photos, "first", *STILL) == 0
    assert fit(photos, "second", *STILL, "--model.lr", "0.02") == 0
    assert capsys.readouterr().err.count("photographs are known from before") == 1
    assert main(["fit", "--resume", "runs/first", "--trainer.max_epochs", "3"]) == 0
    assert capsys.readouterr().err.count("photographs are known from before") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["--data.augmentation.off", "false"],
        ["--model.mixup", "0.2"],
        ["--phases", "[{name: head, epochs: 1}, {name: all, epochs: 1}]"],
        ["--phases", "[]"],
        [HEAD, "LinearHead", f"{HEAD}.pooling", "GeMPooling"],
        ["--data.source_size", "48"],
        ["--trainer.max_epochs", "1"],
        ["--trainer.limit_train_batches", "2"],
        [HEAD, "HSEHead"],
    ],
    ids=" ".join,
)
def test_any_other_training_sees_images(photos, capsys, words):
    assert fit(photos, "images", *STILL, *words) == 0
    assert "stands still" not in capsys.readouterr().err


def test_photographs_that_cannot_be_read_stop_or_are_replaced_as_ever(photos, capsys):
    bad = next(photos.glob("train/*/*/*.png"))
    bad.write_bytes(b"no picture")
    assert fit(photos, "stopped", *STILL) == 1
    assert "or go on without it: --data.on_bad_image skip" in capsys.readouterr().err
    assert fit(photos, "skipped", *STILL, "--data.on_bad_image", "skip") == 0
    assert "stands still" not in capsys.readouterr().err
    Image.new("RGB", (48, 40)).save(bad)
    assert fit(photos, "mended", *STILL) == 0
    assert "the network stands still" in capsys.readouterr().err


def test_noise_and_a_table_of_what_is_left_out_train_on_the_vectors_that_are_there(photos, monkeypatch, capsys):
    assert fit(photos, "clean", *STILL) == 0
    noise = ["--data.noise.kind", "uniform", "--data.noise.share", "0.4"]
    assert fit(photos, "noisy", *STILL, *noise) == 0
    rows = read_csv(Path("runs/noisy/noise.csv"))
    assert len(rows) == 8  # of 21
    capsys.readouterr()
    words = [*noise, "--data.exclude", "runs/noisy/noise.csv"]
    read, shown = in_both_ways(photos, monkeypatch, *STILL, *words)
    told = capsys.readouterr().err
    assert "the features of 30 photographs are known from before" in told
    assert "left out by runs/noisy/noise.csv: 8 photographs (8 of train)" in told
    assert [row["path"] for row in read_csv(Path("runs/vectors/excluded.csv"))] == [row["path"] for row in rows]
    assert read.count("train") == 0 and sum(shown) <= 4 + 4 + 2 * 9
    one, other = weights("images"), weights("vectors")
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-5)
