import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fakes.tiny_run import CPU, NET, data_flags, make_photos, read_csv
from safetensors.torch import load_file

from fgvc.__main__ import main
from fgvc.config.run_cli import RunCLI
from fgvc.config.yaml_files import with_short_names
from fgvc.methods.heads.base import Head
from fgvc.methods.recognizers.whole_image import WholeImage
from fgvc.model_file.model import load
from fgvc.training.calibration import calibrate

# The last phase destroys what the first two epochs learnt: the best epoch is not the last one.
RUINED = ["--phases", "[{name: all, epochs: 2, lr: 0.01}, {name: all, epochs: 1, lr: 10}]", "--trainer.max_epochs", "3"]


class Own(WholeImage):
    """A recognizer that is not fgvc's."""


def fit(*words):
    return main(["fit", *NET, *CPU, "--model.warmup_epochs", "0", *words])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with photographs and the run `birds` of three epochs."""
    folder = tmp_path_factory.mktemp("home")
    make_photos(folder / "photos", train=8, val=5, test=5)
    with working_in(folder):
        assert fit(*data_flags(Path("photos")), *RUINED, "--name", "birds") == 0
    return folder


@contextlib.contextmanager
def working_in(folder):
    before = Path.cwd()
    os.chdir(folder)
    yield
    os.chdir(before)


@pytest.fixture
def run(home, tmp_path, monkeypatch):
    """A copy of the run in a folder of its own, which is the working folder."""
    shutil.copytree(home / "runs", tmp_path / "runs")
    (tmp_path / "photos").symlink_to(home / "photos")
    monkeypatch.chdir(tmp_path)
    return Path("runs/birds")


def described(run):
    return json.loads((run / "model/fgvc.json").read_text())


def val_rows(run):
    return [row for row in read_csv(run / "metrics.csv") if row["val/species/top1"]]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def weights_of(checkpoint, key="state_dict", prefix="recognizer."):
    state = torch.load(checkpoint, weights_only=True)[key]
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def test_a_run_leaves_its_files(run):
    expected = {"config.yaml", "environment.json", "metrics.csv", "checkpoints", "model", "tensorboard"}
    assert expected <= {path.name for path in run.iterdir()}
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert {path.name for path in (run / "model").iterdir()} == {"fgvc.json", "model.safetensors"}
    assert list((run / "tensorboard").glob("events.*"))
    assert Path("runs/latest").read_text() == "birds\n"
    assert [path for path in run.rglob("*") if path.suffix == ".part"] == []


def test_the_model_file_holds_the_best_validation_epoch(run):
    scores = [float(row["val/species/top1"]) for row in val_rows(run)]
    best = scores.index(max(scores))
    assert len(scores) == 3 and best < 2, scores
    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    assert checkpoint["epoch"] == best
    model = load_file(run / "model/model.safetensors")
    assert same(model, weights_of(run / "checkpoints/best.ckpt"))
    assert not same(model, weights_of(run / "checkpoints/last.ckpt"))
    provenance = json.loads((run / "model/fgvc.json").read_text())["provenance"]
    assert provenance["checkpoint"] == "best.ckpt"
    assert provenance["metrics"] == {"val/species/top1": pytest.approx(max(scores), abs=1e-6)}


def test_the_model_file_is_calibrated_on_the_val_images(run, monkeypatch):
    seen = []
    original = RunCLI.build
    monkeypatch.setattr(RunCLI, "build", lambda cli: (seen.append(cli), original(cli)))
    assert main(["validate", str(run)]) == 0
    model, found = load(run), described(run)
    batches = list(seen[0].datamodule.val_dataloader())
    with torch.no_grad():
        logits = torch.cat([model.recognizer(batch.image).logits["species"] for batch in batches])
    expected = calibrate({"species": logits}, torch.cat([batch.label for batch in batches]), model.taxonomy)
    assert found["temperatures"] == {"species": pytest.approx(expected.temperatures["species"], rel=1e-3)}
    assert found["temperatures"]["species"] != 1
    assert found["vouching"]["answered"] == list(expected.vouching.answered)
    assert found["vouching"]["answered"][0] == 7  # half of them
    calibration = found["provenance"]["calibration"]
    assert (calibration["split"], calibration["images"]) == ("val", 15)
    for errors in ("ece_before", "ece_after"):
        assert calibration[errors] == pytest.approx(expected.to_plain("val")[errors], abs=1e-3)


def test_a_test_divides_by_the_temperatures_of_the_model_file(run, monkeypatch):
    seen = []
    original = RunCLI.build
    monkeypatch.setattr(RunCLI, "build", lambda cli: (seen.append(cli), original(cli)))
    path = run / "model/fgvc.json"
    path.write_text(json.dumps({**described(run), "temperatures": {"species": 5.0}}))
    assert main(["test", str(run)]) == 0
    model = load(run)
    with torch.no_grad():
        batches = [model.recognizer(x.image).logits["species"] for x in seen[0].datamodule.test_dataloader()]
    logits = torch.cat(batches).double()
    calibrated, raw = ((logits / temperature).softmax(dim=1) for temperature in (5, 1))
    rows = read_csv(run / "predictions_test.csv")
    assert [float(row["species_score"]) for row in rows] == pytest.approx(calibrated.amax(dim=1).tolist(), abs=1e-4)
    assert [row["score"] for row in rows] == [row["species_score"] for row in rows]
    assert [float(row["score_uncalibrated"]) for row in rows] == pytest.approx(raw.amax(dim=1).tolist(), abs=1e-4)
    assert not torch.allclose(calibrated.amax(dim=1), raw.amax(dim=1), atol=1e-2)
    # the temperatures belong to the model file's weights, not to those of a checkpoint
    assert main(["test", str(run), "--ckpt_path", str(run / "checkpoints/best.ckpt")]) == 0
    rows = read_csv(run / "predictions_test.csv")
    assert [row["species_score"] for row in rows] == [row["score_uncalibrated"] for row in rows]


def test_checkpoints_are_plain_data(run):
    hyper_parameters = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["hyper_parameters"]
    queue = [dict(hyper_parameters)]
    while queue:
        value = queue.pop()
        if isinstance(value, dict | list):
            queue += value.values() if isinstance(value, dict) else value
        else:
            assert value is None or type(value) in (str, int, float, bool), value


def test_validate_and_test_need_the_run_only(run, monkeypatch, capsys):
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("weights: none", "weights: pretrained"))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a trained model asked the network"))
    capsys.readouterr()
    assert main(["validate", str(run)]) == 0
    assert main(["test", "runs/latest"]) == 0
    out, err = capsys.readouterr()
    assert "15 val images\n" in out and "15 test images\n" in out and "%" not in err
    best = max(val_rows(run), key=lambda row: float(row["val/species/top1"]))
    for name, value in json.loads((run / "validate.json").read_text()).items():
        assert value == pytest.approx(float(best[name]), abs=1e-5), name
    rows = read_csv(run / "predictions_test.csv")
    names = sorted(path.relative_to("photos") for path in Path("photos/test").rglob("*.png"))
    assert [row["path"] for row in rows] == [str(name) for name in names]
    results = json.loads((run / "test.json").read_text())
    for level in ("genus", "species"):
        hits = [row[f"{level}_true"] == row[f"{level}_pred"] for row in rows]
        assert results[f"test/{level}/top1"] == pytest.approx(sum(hits) / 15, abs=1e-6)
        assert f"test/{level}/top1" in out


def test_what_is_typed_beats_what_the_run_remembers(run, monkeypatch):
    seen = []
    original = RunCLI.build
    monkeypatch.setattr(RunCLI, "build", lambda cli: (seen.append(cli), original(cli)))
    assert main(["test", str(run), "--data.batch_size", "3", "--model.tta", "[flip]", "--model.lr", "0.3"]) == 0
    assert seen[0].datamodule.test_dataloader().batch_size == 3
    assert seen[0].model.hparams["lr"] == 0.3
    results = json.loads((run / "test.json").read_text())
    assert {"test/species/top1", "test/tta_flip/species/top1"} <= set(results)
    assert main(["validate", str(run), "--ckpt_path", str(run / "checkpoints/last.ckpt"), "--model.lr", "0.4"]) == 0
    assert seen[1].model.hparams["lr"] == 0.4
    last = val_rows(run)[-1]
    for name, value in json.loads((run / "validate.json").read_text()).items():
        assert value == pytest.approx(float(last[name]), abs=1e-5), name


def test_the_config_of_a_run_repeats_it(run):
    assert main(["fit", "--config", str(run / "config.yaml"), "--name", "again"]) == 0
    assert (run.parent / "again/metrics.csv").read_text() == (run / "metrics.csv").read_text()
    assert same(load_file(run / "model/model.safetensors"), load_file(run.parent / "again/model/model.safetensors"))


def printed(capsys, *words):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["fit", *words, "--print_config"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_a_printed_config_can_be_fed_back(run, capsys):
    flags = [*NET, *CPU, "--model.warmup_epochs", "0", *data_flags(Path("photos")), *RUINED, "--name", "birds"]
    text = printed(capsys, *flags)
    Path("printed.yaml").write_text(text)
    assert printed(capsys, "--config", "printed.yaml") == text
    stored = yaml.safe_load((run / "config.yaml").read_text())
    again = yaml.safe_load(with_short_names(text))
    open_keys = {key for key, value in again["data"].items() if value is None and stored["data"][key] is not None}
    assert open_keys == {"fit", "crop_fraction", "interpolation"}  # the stored config holds what they became
    assert {**again, "data": stored["data"]} == stored


def test_a_later_config_overrides_key_by_key(run, capsys):
    head = {"class_path": "LinearHead", "init_args": {"dropout": 0.3}}
    first = {"lr": 0.1, "weight_decay": 0.2, "recognizer": {"class_path": "WholeImage", "init_args": {"head": head}}}
    second = {"lr": 0.5, "recognizer": {"init_args": {"head": {"init_args": {"label_smoothing": 0.25}}}}}
    for name, model in {"a": first, "b": second}.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump({"model": model}))
    text = printed(capsys, *data_flags(Path("photos")), "--config", "a.yaml", "--config", "b.yaml")
    model = yaml.safe_load(text)["model"]
    assert (model["lr"], model["weight_decay"]) == (0.5, 0.2)
    arguments = model["recognizer"]["init_args"]["head"]["init_args"]
    assert (arguments["dropout"], arguments["label_smoothing"]) == (0.3, 0.25)
    assert yaml.safe_load(text)["name"] == "a-b"


def test_a_run_is_not_overwritten_unasked(run, capsys):
    before = (run / "metrics.csv").read_text()
    short = [*data_flags(Path("photos")), "--name", "birds", "--trainer.max_epochs", "1"]
    assert fit(*short) == 2
    assert "this run exists already" in capsys.readouterr().err
    assert (run / "metrics.csv").read_text() == before
    assert fit(*short, "--overwrite", "true") == 0
    assert len(val_rows(run)) == 1


@pytest.fixture
def empty(home, tmp_path, monkeypatch):
    """A working folder without runs, whose photographs have no val split."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for split in ("train", "test"):
        (tmp_path / "photos" / split).symlink_to(home / "photos" / split)
    return tmp_path


def test_without_validation_the_model_file_holds_the_last_epoch(empty):
    assert fit(*data_flags(Path("photos")), "--name", "all", "--trainer.max_epochs", "2") == 0
    assert [path.name for path in Path("runs/all/checkpoints").iterdir()] == ["last.ckpt"]
    assert torch.load("runs/all/checkpoints/last.ckpt", weights_only=True)["epoch"] == 1
    assert same(load_file("runs/all/model/model.safetensors"), weights_of("runs/all/checkpoints/last.ckpt"))
    assert not any(name.startswith("val/") for name in read_csv(Path("runs/all/metrics.csv"))[0])
    found = described(Path("runs/all"))
    assert (found["temperatures"], found["vouching"]) == ({}, None)
    assert "calibration" not in found["provenance"]
    assert main(["test", "runs/all"]) == 0


def test_a_held_out_part_chooses_the_epoch(empty):
    flags = data_flags(Path("photos"), val_fraction=0.25)
    assert fit(*flags, "--name", "held", "--trainer.max_epochs", "1") == 0
    assert len(val_rows(Path("runs/held"))) == 1
    assert main(["validate", "runs/held"]) == 0
    assert described(Path("runs/held"))["provenance"]["calibration"]["images"] == 6  # a quarter of 24


def test_with_averaging_the_model_file_holds_the_averaged_weights(empty):
    assert fit(*data_flags(Path("photos")), "--name", "ema", "--trainer.max_epochs", "2", "--ema", "0.9") == 0
    model = load_file("runs/ema/model/model.safetensors")
    last = Path("runs/ema/checkpoints/last.ckpt")
    assert same(model, weights_of(last))
    assert not same(model, weights_of(last, "current_model_state"))


def test_a_class_of_the_users_own_trains_but_makes_no_model_file(empty, capsys):
    own = ["--model.recognizer", f"{__name__}.Own"]
    assert fit(*own, *NET[2:], *data_flags(Path("photos")), "--name", "own", "--trainer.max_epochs", "1") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "model file" in line]
    assert len(lines) == 1 and f"{__name__}.Own is not one of fgvc's own classes" in lines[0]
    assert "checkpoints/last.ckpt" in lines[0]
    assert not Path("runs/own/model").exists()
    assert main(["test", "runs/own"]) == 0


def test_the_class_counts_of_the_data_reach_the_head(empty, monkeypatch):
    shutil.copytree("photos/train", "uneven/train")
    for picture in sorted(Path("uneven/train/Larus/Larus fuscus").iterdir())[:5]:
        picture.unlink()
    seen = []
    monkeypatch.setattr(Head, "set_class_counts", lambda self, counts: seen.append(counts.tolist()))
    flags = [*data_flags(Path("uneven")), "--data.source.init_args.test_fraction", "0"]
    assert fit(*flags, "--name", "uneven", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1") == 0
    assert seen == [[8, 3, 8]]


@pytest.mark.parametrize("wrong", [["--data.source.init_args.root", "nowhere"], ["--model.optimizer", "adamwww"]])
def test_a_failed_start_leaves_no_run_folder(empty, wrong):
    assert fit(*data_flags(Path("photos")), *wrong, "--name", "failed") == 2
    assert not Path("runs/failed").exists()
    assert not Path("runs/latest").exists()


OUR_RESULTS = [r"trained 1 epoch", r"  val/[\w/@]+ +[\d.]+( %)?"]
OUR_LINES = [
    r"images: 24 to train, 15 to validate, 15 to test, in .*photos",
    r"classes: genus 2, species 3",
    r"network: test_resnet, [\d.]+ million numbers, 32 px, on the CPU",
    r"training: 1 epoch of 6 steps of 4 images",
    r"epoch 1 of 1: loss \d\.\d{4}, val/species/top1 [\d.]+ %, [\d.]+ s",
    r"calibrated on 15 val images: species temperature [\d.]+; too few to measure its error",
    r"nothing can be vouched for yet \(15 were held out\); .*",
    r"model: runs/quiet/model",
    r"next:  fgvc test runs/quiet",
    r"       fgvc predict runs/quiet PHOTO\.\.\.",
]


def test_libraries_do_not_talk(home, tmp_path):
    words = [*NET, *CPU, *data_flags(home / "photos"), "--name", "quiet", "--trainer.max_epochs", "1"]
    command = [sys.executable, "-m", "fgvc", "fit", *words, "--data.num_workers", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for text, ours in ((done.stdout, OUR_RESULTS), (done.stderr, OUR_LINES)):
        assert [line for line in text.splitlines() if not any(re.fullmatch(p, line) for p in ours)] == []
        assert all(letter.isprintable() or letter == "\n" for letter in text)  # nothing moves a cursor
    assert done.stderr.count("epoch 1 of 1") == 1
