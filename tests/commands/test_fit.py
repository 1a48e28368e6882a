"""Runs that are stopped at chosen steps and resumed, against the run that was left alone."""

import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
import timm
import torch
import yaml
from fakes.killing import Killed, kill_after
from fakes.stages import write_stages
from fakes.tiny_run import BACKBONE, CPU, NET, data_flags, make_new_classes, make_photos, read_csv
from safetensors.torch import save_file

from fgvc.__main__ import main
from fgvc.training.module import FineGrainedModule

PLAIN = ["--save_every_minutes", "0", "--trainer.max_epochs", "3", "--trainer.log_every_n_steps", "1"]
"""5 steps an epoch: 20 training images in batches of 4, or 3 where two of them are accumulated."""
KINDS = {
    "plain": [],
    "averaged": ["--ema", "0.9", "--model.mixup", "0.4", "--trainer.gradient_clip_val", "1"],
    "accumulated": ["--trainer.accumulate_grad_batches", "2", "--data.balance", "class_balanced"],
    "phases": ["--phases", "[{name: head, epochs: 1, lr: 0.01}, {name: all, epochs: 1}]", "--cycle_phases", "true"],
    "retrained": [
        "--phases",
        "[{name: all, epochs: 1}, {name: head, epochs: 2, balance: effective_number, new_classifiers: true}]",
    ],
    "reweighted": [
        "--model.recognizer.init_args.head", "LinearHead", "--model.recognizer.init_args.head.init_args.loss", "LDAM",
        "--phases", "[{name: all, epochs: 2}, {name: all, epochs: 1, reweight: true}]",
        "--data.long_tail", "{most: 7, least: 6}",
    ],
    "drawn": [
        "--data.stages", "stages.csv", "--data.stage_weights", "[1, 0.5, 0.25]", "--model.mixup", "0.4", "--phases",
        "[{name: all, epochs: 1, subsets: [clean], balance: sqrt}, {name: all, epochs: 1, subsets: 2}, "
        "{name: all, epochs: 1}]",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos"), train=7, val=2, test=0)


@pytest.fixture
def folder(tmp_path, monkeypatch, photos):
    """An empty folder to work in, but for a table that calls a third of the photographs clean."""
    monkeypatch.chdir(tmp_path)
    write_stages(tmp_path / "stages.csv", photos)
    return tmp_path


def fit(photos, name, *words):
    return main(["fit", *NET, *CPU, *data_flags(photos), *PLAIN, *words, "--name", name])


def tensors(thing, name=""):
    if isinstance(thing, torch.Tensor):
        return {name: thing}
    pairs = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list | tuple) else ()
    return {key: value for k, v in pairs for key, value in tensors(v, f"{name}/{k}").items()}


def state(name):
    found = torch.load(Path("runs", name, "checkpoints/last.ckpt"), weights_only=True)
    return tensors({key: found[key] for key in found if "state" in key and key != "callbacks"})


def same(one, other):
    assert one.keys() == other.keys()
    return [key for key in one if not torch.equal(one[key], other[key])] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_killed_and_resumed_becomes_the_run_that_was_left_alone(photos, folder, monkeypatch, kind):
    assert fit(photos, "straight", *KINDS[kind]) == 0
    kill_after(monkeypatch, [2, 2, 1, 3])  # in the middle of an epoch, and at the end of one
    with pytest.raises(Killed):
        fit(photos, "killed", *KINDS[kind])
    for _ in range(3):
        with pytest.raises(Killed):
            main(["fit", "--resume", "runs/killed"])
    assert not same(state("straight"), state("killed"))
    assert main(["fit", "--resume", "runs/latest"]) == 0
    assert same(state("straight"), state("killed"))
    rows = [read_csv(Path("runs", name, "metrics.csv")) for name in ("straight", "killed")]
    steps = [[row["step"] for row in part if row["val/species/top1"]] for part in rows]
    scores = [[row["val/species/top1"] for row in part if row["val/species/top1"]] for part in rows]
    assert steps[0] == steps[1]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 3
    models = [Path("runs", name, "model/model.safetensors").read_bytes() for name in ("straight", "killed")]
    assert models[0] == models[1]
    told = [json.loads(Path("runs", name, "model/fgvc.json").read_text()) for name in ("straight", "killed")]
    assert told[0]["architecture"] == told[1]["architecture"]
    assert told[0]["temperatures"] == told[1]["temperatures"]
    assert len(json.loads(Path("runs/killed/environment.json").read_text())["resumed"]) == 4


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "SIGINT"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_signal_saves_after_the_step_under_way(photos, folder, monkeypatch, capsys, number, code, name):
    assert fit(photos, "straight") == 0
    original = FineGrainedModule.on_train_batch_start

    def start(self, batch, batch_idx):
        original(self, batch, batch_idx)
        if self.global_step == 6:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(FineGrainedModule, "on_train_batch_start", start)
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert fit(photos, "stopped", "--save_every_minutes", "100") == code
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"fgvc: {name}: stopped at epoch 2, step 7; fgvc fit --resume runs/stopped goes on after step 7"
    monkeypatch.setattr(FineGrainedModule, "on_train_batch_start", original)
    assert main(["fit", "--resume", "runs/stopped"]) == 0
    assert "resume runs/stopped: 1 of 3 epochs trained, after step 7\n" in capsys.readouterr().err
    assert same(state("straight"), state("stopped"))


def test_a_signal_during_validation_stops_and_says_where_the_run_goes_on(photos, folder, monkeypatch, capsys):
    original = FineGrainedModule.validation_step

    def step(self, sample, batch_idx):
        answered = original(self, sample, batch_idx)
        if self.global_step == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return answered

    monkeypatch.setattr(FineGrainedModule, "validation_step", step)
    assert fit(photos, "stopped", "--save_every_minutes", "100") == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "fgvc: SIGINT: stopped at epoch 2, step 10; fgvc fit --resume runs/stopped goes on after step 5"
    assert main(["fit", "--resume", "runs/stopped", "--trainer.max_epochs", "2"]) == 130
    monkeypatch.setattr(FineGrainedModule, "validation_step", original)
    assert main(["fit", "--resume", "runs/stopped", "--trainer.max_epochs", "2"]) == 0


def test_what_is_typed_beside_a_resume_wins_over_what_was_stored(photos, folder, monkeypatch, capsys):
    assert fit(photos, "birds", "--trainer.max_epochs", "1", "--model.lr", "0.001") == 0
    more = [
        "--trainer.max_epochs",
        "2",
        "--model.lr",
        "0.01",
        "--model.head_lr_ratio",
        "2",
        "--model.warmup_epochs",
        "0",
    ]
    seen = []
    original = FineGrainedModule.on_train_batch_start

    def start(self, batch, batch_idx):
        original(self, batch, batch_idx)
        seen.append({group["name"].partition("/")[0]: group["lr"] for group in self.optimizers().param_groups})

    monkeypatch.setattr(FineGrainedModule, "on_train_batch_start", start)
    assert main(["fit", "--resume", "runs/birds", *more]) == 0
    assert len(seen) == 5
    rates = sorted(set(seen[0].values()))
    # half of a cosine over ten steps is left
    assert rates == pytest.approx([0.005, 0.01], rel=1e-6)
    stored = yaml.safe_load(Path("runs/birds/config.yaml").read_text())
    assert (stored["trainer"]["max_epochs"], stored["model"]["lr"], stored["resume"]) == (2, 0.01, None)


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    before = Path.cwd()
    os.chdir(folder)
    kill = pytest.MonkeyPatch()
    kill_after(kill, [3])
    with pytest.raises(Killed):
        fit(photos, "birds")
    kill.undo()
    os.chdir(before)
    return folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--resume"], "--resume: give the run folder to go on with, e.g. fgvc fit --resume runs/latest"),
        (
            ["--resume", "runs/nothing"],
            "runs/nothing: no run folder (no config.yaml in it); give the folder that `fgvc fit` printed",
        ),
        (["--resume", "runs/birds", "--name", "x"], "--resume goes on in the same run; --name does not go with it"),
        (["--resume=runs/birds", "--init_from=x"], "--resume goes on in the same run; --init_from does not go with it"),
        (
            ["--resume", "runs/birds", "--model.optimizer", "sgd"],
            "--model.optimizer: sgd, but runs/birds/checkpoints/last.ckpt holds the state of adamw; resume with it, or "
            "start a new run with --init_from",
        ),
        (
            ["--resume", "runs/birds", "--model.recognizer.init_args.head", "CosineHead"],
            "runs/birds/checkpoints/last.ckpt: made by another model or for other classes (4 tensors differ, "
            "recognizer.head.classifier.bias first); --resume goes on with the same one, --init_from starts a new run "
            "from its weights",
        ),
    ],
)
def test_what_cannot_be_resumed_is_told_in_a_line_and_nothing_changes(finished, monkeypatch, capsys, words, said):
    monkeypatch.chdir(finished)
    files = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    assert main(["fit", *words]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"fgvc: {said}"
    assert {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()} == files


def test_a_run_without_a_checkpoint_is_started_again(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("runs/young").mkdir(parents=True)
    Path("runs/young/config.yaml").write_bytes(Path(finished, "runs/birds/config.yaml").read_bytes())
    assert main(["fit", "--resume", "runs/young"]) == 2
    said = "runs/young: no checkpoint to go on from; start the run again with --overwrite"
    assert capsys.readouterr().err == f"fgvc: {said}\n"


def test_fewer_epochs_than_are_trained_are_refused(finished, monkeypatch, capsys, photos, folder):
    assert fit(photos, "two", "--trainer.max_epochs", "2") == 0
    assert main(["fit", "--resume", "runs/two", "--trainer.max_epochs", "0"]) == 2
    said = "--trainer.max_epochs: 0, but runs/two has trained 2 already; give more"
    assert capsys.readouterr().err.splitlines()[-1] == f"fgvc: {said}"


def test_a_finished_run_has_nothing_left_to_train(photos, folder, capsys):
    assert fit(photos, "birds", "--trainer.max_epochs", "1") == 0
    files = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    assert main(["fit", "--resume", "runs/birds", "--model.lr", "0.1"]) == 2
    said = "runs/birds: nothing left to train after 1 epoch; give --trainer.max_epochs 2 or more"
    assert capsys.readouterr().err.splitlines()[-1] == f"fgvc: {said}"
    assert {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()} == files
    shutil.rmtree("runs/birds/model")  # killed before it was written: a resume writes it
    assert main(["fit", "--resume", "runs/birds"]) == 0
    assert Path("runs/birds/model/model.safetensors").read_bytes() == files[Path("runs/birds/model/model.safetensors")]


def test_a_finished_epoch_is_followed_by_one_of_other_batches(photos, folder, monkeypatch, capsys):
    assert fit(photos, "birds", "--trainer.max_epochs", "1") == 0
    seen = watched(monkeypatch)
    assert main(["fit", "--resume", "runs/birds", "--data.batch_size", "2", "--trainer.max_epochs", "2"]) == 0
    assert {len(batch) for batch in seen} == {2} and len({index for batch in seen for index in batch}) == 20
    assert "begins anew" not in capsys.readouterr().err


@pytest.mark.parametrize("kill", [1, 7])  # in the first and in the second epoch
def test_an_epoch_begins_anew_where_its_rest_cannot_be_told(photos, folder, monkeypatch, capsys, kill):
    with monkeypatch.context() as killing:
        kill_after(killing, [kill])
        with pytest.raises(Killed):
            fit(photos, "birds")
    state = torch.load("runs/birds/checkpoints/last.ckpt", weights_only=True)
    done = state["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    assert done == (0 if kill == 1 else 1) and state["global_step"] % 5  # inside an epoch of five steps
    capsys.readouterr()
    seen = watched(monkeypatch)
    assert main(["fit", "--resume", "runs/birds", "--data.batch_size", "10"]) == 0
    assert f"data.batch_size was 4 and is 10: epoch {done + 1} begins anew" in capsys.readouterr().err
    epochs = [{index for batch in seen[i : i + 2] for index in batch} for i in range(0, len(seen), 2)]
    assert [len(indices) for indices in epochs] == [20] * (3 - done)  # of 21 images: a rest is left out
    rows = [row for row in read_csv(Path("runs/birds/metrics.csv")) if row["val/species/top1"]]
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]


def watched(monkeypatch):
    """Return the list of the batches that will be trained on, as lists of positions in the training images."""
    seen = []
    original = FineGrainedModule.training_step

    def step(self, sample, batch_idx):
        seen.append(sample.index.tolist())
        return original(self, sample, batch_idx)

    monkeypatch.setattr(FineGrainedModule, "training_step", step)
    return seen


def test_a_class_that_was_renamed_is_refused(photos, folder, monkeypatch, capsys):
    shutil.copytree(photos, "photos")
    assert fit(Path("photos"), "birds", "--trainer.max_epochs", "1") == 0
    for split in ("train", "val"):
        Path("photos", split, "Larus/Larus canus").rename(Path("photos", split, "Larus/Larus zanus"))
    files = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    path = "runs/birds/checkpoints/last.ckpt"
    difference = "made for other classes (species 'Larus > Larus canus' is not in the data)"
    capsys.readouterr()
    assert main(["fit", "--resume", "runs/birds", "--trainer.max_epochs", "4"]) == 2
    said = f"fgvc: {path}: {difference}; give the data it was trained on, or start a new run with --init_from"
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert main(["test", "runs/birds", "--ckpt_path", path]) == 1
    said = f"fgvc: {path}: {difference}; give the data it was trained on"
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()} == files


def test_what_a_weight_file_filled_is_always_printed(photos, folder, capsys):
    net = timm.create_model("test_resnet", num_classes=7)
    save_file({key: value for key, value in net.state_dict().items() if key != "conv1.0.weight"}, "w.safetensors")
    weights = [f"{BACKBONE}.weights", "w.safetensors"]
    assert fit(photos, "birds", *weights, "--trainer.max_epochs", "1") == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("test_resnet from ")]
    assert line.endswith("tensors, reset 1 (conv1.0.weight), ignored 2 (fc.bias, fc.weight)")
    save_file({"conv1.0.weight": net.state_dict()["conv1.0.weight"]}, "few.safetensors")
    assert fit(photos, "few", f"{BACKBONE}.weights", "few.safetensors") == 2
    assert capsys.readouterr().err.startswith("fgvc: backbone weights: few.safetensors fills ")
    assert not Path("runs/few").exists()


def test_files_passed_over_are_told_once_at_the_start(photos, folder, capsys):
    notes = photos / "train/notes.txt"
    notes.write_text("words")
    try:
        assert fit(photos, "noted") == 0
    finally:
        notes.unlink()
    told = f"passed over 1 file that is no picture fgvc reads: 1 .txt; first {notes}"
    assert capsys.readouterr().err.splitlines().count(told) == 1


def test_an_epoch_of_one_step_is_told_with_the_batch_that_makes_it_more(photos, folder, capsys):
    assert fit(photos, "one", "--data.batch_size", "20", "--trainer.max_epochs", "1") == 0
    note = "note: an epoch is one step of 20 of 21 training images: --data.batch_size 2 learns more often"
    assert note in capsys.readouterr().err.splitlines()
    assert fit(photos, "five", "--trainer.max_epochs", "1", "--data.source.levels", "[class]") == 0
    assert "note:" not in capsys.readouterr().err


def test_nested_folders_of_which_the_outermost_are_classes_are_told(photos, folder, capsys):
    assert fit(photos, "outer", "--trainer.max_epochs", "1", "--data.source.init_args.levels", "null") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(said) == 1 and "note: 3 folders with names of their own lie 2 deep in " in said[0]
    assert '--data.source.levels "[group, class]"' in said[0]


TINY = [*CPU, "--model.recognizer.backbone.name", "test_resnet", "--model.recognizer.backbone.weights", "none",
        "--model.image_size", "32", "--data.num_workers", "0"]  # fmt: skip


def test_a_folder_alone_is_trained_and_its_config_repeats_what_was_chosen(photos, folder, monkeypatch, capsys):
    """21 images make 2 batches of 8, and 6 more are validated in 1: 2.4 steps of 80 s, so 3 epochs fit ten minutes."""
    monkeypatch.setattr("fgvc.commands.fit.seconds_per_step", lambda *_: 80.0)
    shutil.copytree(photos, "birds")
    assert main(["fit", "birds", *TINY, "--data.source.levels", "[genus, species]"]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[:6] == [
        "recipe: small, for the CPU; --config METHOD takes another (fgvc configs lists them)",
        "3 epochs, about 10 minutes; --trainer.max_epochs N trains longer or shorter",
        "images: 21 to train, 6 to validate, in birds",
        "classes: genus 2, species 3",
        "network: test_resnet, 0.4 million numbers, 32 px, on the CPU",
        "training: 3 epochs of 2 steps of 8 images; each epoch leaves out 5 (the rest of a batch), others each time",
    ]
    assert out.startswith("trained 3 epochs\n")
    config = yaml.safe_load(Path("runs/birds/config.yaml").read_text())
    assert (config["trainer"]["max_epochs"], config["data"]["batch_size"]) == (3, 8)
    monkeypatch.setattr("fgvc.commands.fit.seconds_per_step", lambda *_: pytest.fail("measured again"))
    assert main(["fit", "--config", "runs/birds/config.yaml", "--name", "again"]) == 0
    models = [Path("runs", name, "model/model.safetensors").read_bytes() for name in ("birds", "again")]
    assert models[0] == models[1]


def test_a_run_alone_is_its_data_again_and_what_is_typed_wins(photos, folder, capsys):
    assert fit(photos, "birds", "--trainer.max_epochs", "1") == 0
    capsys.readouterr()
    assert main(["fit", "runs/birds", *TINY, "--trainer.max_epochs", "1", "--data.batch_size", "5"]) == 0
    err = capsys.readouterr().err
    assert "1 epoch, about " in err  # measured
    assert "training: 1 epoch of 4 steps of 5 images; each epoch leaves out 1 (the rest of a batch)" in err
    config = yaml.safe_load(Path("runs/birds-again/config.yaml").read_text())
    assert config["data"]["source"] == yaml.safe_load(Path("runs/birds/config.yaml").read_text())["data"]["source"]


def test_steps_that_are_counted_otherwise_are_not_measured(photos, folder, monkeypatch, capsys):
    monkeypatch.setattr("fgvc.commands.fit.seconds_per_step", lambda *_: pytest.fail("measured"))
    assert main(["fit", str(photos), *TINY, "--trainer.max_steps", "4"]) == 0
    assert "\ntraining: at most 4 steps, 10 epochs of 2 steps of 8 images" in capsys.readouterr().err


def test_a_val_split_of_new_classes_chooses_and_calibrates_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photos = make_new_classes(tmp_path / "photos")
    words = [*NET, *CPU, *data_flags(photos), "--data.source.init_args.new_classes", "true", "--name", "birds"]
    assert main(["fit", *words, "--trainer.max_epochs", "1"]) == 0
    told = capsys.readouterr().err
    assert "none of the classes of val is trained on: its scores choose no epoch and calibrate nothing" in told
    assert "not calibrated: none of the classes of val is trained on" in told and "vouched" not in told
    stored = json.loads(Path("runs/birds/model/fgvc.json").read_text())
    assert stored["vouching"] is None and stored["temperatures"] == {}


def test_a_long_tail_is_told_kept_and_judged_by_its_rare_classes(folder, capsys):
    photos = make_photos(folder / "photos", train=20, val=3, test=3, noise=200)
    tail = ["--data.long_tail.most", "20", "--data.long_tail.least", "2"]
    assert fit(photos, "tail", *tail, "--trainer.max_epochs", "1") == 0
    err = capsys.readouterr().err
    # 20, 20 * sqrt(0.1) = 6.3, 2
    assert "long tail: 28 of 60 training images are kept, 20 to 2 per class (data.long_tail)\n" in err
    kept = read_csv(Path("runs/tail/long_tail.csv"))
    assert sorted(Counter(row["class"] for row in kept).values()) == [2, 6, 20]
    assert all((photos / row["path"]).is_file() and f"/{row['class']}/" in row["path"] for row in kept)
    curves = [row for row in read_csv(Path("runs/tail/metrics.csv")) if row["val/species/few"]]
    assert len(curves) == 1 and set(curves[0]) >= {"val/species/many", "val/species/medium", "val/species/few"}
    assert main(["test", "runs/tail"]) == 0
    scores = json.loads(Path("runs/tail/test.json").read_text())
    counts = Counter(row["class"] for row in kept)
    rows = [row for row in read_csv(Path("runs/tail/classes_test.csv")) if row["level"] == "species"]
    assert {row["class"]: int(row["training_images"]) for row in rows} == counts
    recall = {row["training_images"]: float(row["recall"]) for row in rows}
    told = [scores[f"test/species/{name}"] for name in ("many", "medium", "few")]
    assert told == pytest.approx([recall["20"], recall["6"], recall["2"]], abs=1e-6)
    # the same photographs for another training
    assert main(["fit", "runs/tail", *TINY, "--trainer.max_epochs", "1", "--name", "again"]) == 0
    assert Path("runs/again/long_tail.csv").read_text() == Path("runs/tail/long_tail.csv").read_text()
