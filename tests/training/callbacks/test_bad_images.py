import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fakes.tiny_run import CPU, NET, data_flags, make_photos, read_csv
from PIL import Image
from safetensors.torch import load_file

from fgvc.__main__ import main
from fgvc.config.run_cli import RunCLI
from fgvc.data.records import Records
from fgvc.errors import FgvcError
from fgvc.images.decoding import Limits
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.callbacks import bad_images
from fgvc.training.callbacks.bad_images import BadImage, BadImages
from fgvc.training.callbacks.prediction_table import PredictionTable

EMPTY = "the file is empty; copy or download it again"
TEXT = "not a picture (it begins b'This pag'); remove it or save it as JPEG"
BAD = {
    "train/Larus/Larus canus/train1.png": (b"", EMPTY),
    "train/Sterna/Sterna hirundo/train4.png": (b"This page", TEXT),
    "val/Larus/Larus canus/val0.png": (b"", EMPTY),
    "val/Larus/Larus canus/val1.png": (b"This page", TEXT),
    "test/Larus/Larus fuscus/test2.png": (b"", EMPTY),
}
SKIP = ["--data.on_bad_image", "skip"]


def fit(root, *words):
    return main(
        ["fit", *NET, *CPU, "--model.warmup_epochs", "0", "--trainer.max_epochs", "1", *data_flags(root), *words]
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with five damaged pictures, and `clean`, which lacks those of val and test."""
    home = tmp_path_factory.mktemp("home")
    make_photos(home / "photos", train=8, val=4, test=4)
    shutil.copytree(home / "photos", home / "clean")
    for name, (content, _) in BAD.items():
        (home / "photos" / name).write_bytes(content)
        if name.startswith("train"):
            (home / "clean" / name).write_bytes(content)
        else:
            (home / "clean" / name).unlink()
    return home


@pytest.fixture
def home(photos, tmp_path, monkeypatch):
    for name in ("photos", "clean"):
        (tmp_path / name).symlink_to(photos / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expected(*splits):
    rows = []
    for path, (_, reason) in sorted(BAD.items(), key=lambda item: (item[0].partition("/")[0], item[0])):
        split, *names = path.split("/")[:3]
        rows += (
            [{"path": path, "split": split, "label": " > ".join(names), "reason": reason}] if split in splits else []
        )
    return rows


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_bad_image_stops_a_run_with_one_line(home, capsys, workers):
    assert fit(Path("photos"), "--data.num_workers", workers, "--trainer.num_sanity_val_steps", "0") == 1
    line = capsys.readouterr().err.replace("\r", "\n").rstrip().splitlines()[-1].strip()
    line = line[line.index("fgvc: ") :]
    lines = [
        f"fgvc: photos/{path}: {BAD[path][1]} (train image {place} of 24), "
        "or go on without it: --data.on_bad_image skip"
        for path, place in (("train/Larus/Larus canus/train1.png", 2), ("train/Sterna/Sterna hirundo/train4.png", 21))
    ]
    assert line in lines
    assert not list(Path("runs").glob("*/model"))


def test_a_run_goes_on_without_bad_images_and_lists_them(home, capsys):
    assert fit(Path("photos"), *SKIP, "--name", "alone") == 0
    told = capsys.readouterr().err
    assert "\n2 of 24 training images could not be read and were skipped: runs/alone/bad_images.csv\n" in told
    assert "\n2 of 12 val images could not be read and were skipped: runs/alone/bad_images.csv\n" in told
    assert "calibrated on 10 val images" in told
    assert read_csv(Path("runs/alone/bad_images.csv")) == expected("train", "val")
    assert [path.name for path in Path("runs/alone").iterdir() if "part" in path.name] == []

    # What is left counts as if the bad ones were not there, whoever reads them.
    assert fit(Path("clean"), *SKIP, "--name", "clean", "--data.num_workers", "2") == 0
    assert read_csv(Path("runs/clean/bad_images.csv")) == expected("train")
    first, second = (load_file(f"runs/{name}/model/model.safetensors") for name in ("alone", "clean"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert read_csv(Path("runs/alone/metrics.csv")) == read_csv(Path("runs/clean/metrics.csv"))
    kept = [json.loads(Path(f"runs/{name}/model/fgvc.json").read_text()) for name in ("alone", "clean")]
    assert kept[0]["temperatures"] == kept[1]["temperatures"] and kept[0]["vouching"] == kept[1]["vouching"]

    # A test leaves them out of metrics and table, and takes the place of what was known about its split.
    stale = Path("runs/alone/bad_images.csv")
    stale.write_text(stale.read_text() + "test/gone.png,test,Larus,of another day\n")
    results = [evaluated(name, "test") for name in ("alone", "clean")]
    assert results[0] == results[1] and results[0]["test/species/top1"] >= 0
    tables = [read_csv(Path(f"runs/{name}/predictions_test.csv")) for name in ("alone", "clean")]
    assert tables[0] == tables[1] and len(tables[0]) == 11
    assert "1 of 12 test images could not be read and were skipped" in capsys.readouterr().err
    assert read_csv(stale) == sorted(expected("train", "val", "test"), key=lambda row: (row["split"], row["path"]))


def evaluated(name, stage):
    run = Path("runs", name)
    cli = RunCLI(stage, ["--config", str(run / "config.yaml")])
    cli.build()
    cli.build_trainer(callbacks=[PredictionTable(run / "predictions_test.csv"), BadImages(run)])
    torch.manual_seed(0)
    cli.model.recognizer.load_state_dict(load_file(run / "model/model.safetensors"))
    return getattr(cli.trainer, stage)(cli.model, datamodule=cli.datamodule, verbose=False)[0]


def test_a_run_without_bad_images_has_no_list(home, capsys):
    make_photos(Path("whole"), train=4, val=2, test=0)
    assert fit(Path("whole"), *SKIP, "--name", "whole") == 0
    assert not Path("runs/whole/bad_images.csv").exists()
    assert "could not be read" not in capsys.readouterr().err


@pytest.mark.parametrize("split", ["train", "val"])
def test_where_no_image_of_a_split_can_be_read_a_run_stops(home, capsys, split):
    make_photos(Path("ruined"), train=4, val=2, test=0)
    for path in Path("ruined", split).rglob("*.png"):
        path.write_bytes(b"")
    assert fit(Path("ruined"), *SKIP, "--name", "ruined", "--trainer.num_sanity_val_steps", "0") == 1
    line = capsys.readouterr().err.replace("\r", "\n").rstrip().splitlines()[-1]
    if split == "train":
        assert "fgvc: none of 12 train images that were tried can be read; is their folder there? One of them: " in line
    else:
        first = "val/Larus/Larus canus/val0.png"
        assert (
            "fgvc: none of the 6 val images can be read, see runs/ruined/bad_images.csv; is their folder there? "
            f"One of them: {first}: {EMPTY}" in line
        )


# --- without a run ---

TREE = Taxonomy(["genus", "species"], [("Larus", "canus"), ("Larus", "fuscus")])


class Data:
    taxonomy = TREE
    limits = Limits()

    def __init__(self, folder, *unreadable):
        self.found = {"train": list(unreadable)}
        self._records = Records([f"{i}.jpg" for i in range(6)], [0, 1, TREE.find("Larus"), -1, 0, 1], folder)

    def records(self, split):
        return self._records

    def unreadable(self, split):
        return self.found.get(split, [])


def trainer_of(data):
    return SimpleNamespace(datamodule=data, is_global_zero=True)


def test_labels_of_any_rank_are_named_and_a_file_that_was_mended_is_said_to_be(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "2.jpg")
    rows = bad_images.described(Data(tmp_path), "train", [1, 2, 3])
    gone = "cannot be read (No such file or directory)"
    assert rows == [
        BadImage("1.jpg", "train", "Larus > fuscus", gone),
        BadImage("2.jpg", "train", "Larus", "could not be read at first, but can be read now"),
        BadImage("3.jpg", "train", "", gone),
    ]


def test_the_list_grows_from_epoch_to_epoch_and_over_a_resume(tmp_path, capsys):
    data, callback = Data(tmp_path, 1), BadImages(tmp_path)
    callback.setup(trainer_of(data), None, "fit")
    callback.on_train_epoch_end(trainer_of(data), None)
    assert [row["path"] for row in read_csv(callback.path)] == ["1.jpg"]
    data.found["train"] = [1, 4]
    callback.on_train_epoch_end(trainer_of(data), None)
    assert [row["path"] for row in read_csv(callback.path)] == ["1.jpg", "4.jpg"]
    data, callback = Data(tmp_path, 0), BadImages(tmp_path)
    callback.setup(trainer_of(data), None, "fit")
    callback.on_train_epoch_end(trainer_of(data), None)
    assert [row["path"] for row in read_csv(callback.path)] == ["0.jpg", "1.jpg", "4.jpg"]
    callback.teardown(trainer_of(data), None, "fit")
    assert capsys.readouterr().err == (
        f"3 of 6 training images could not be read and were skipped: {tmp_path}/bad_images.csv\n"
    )


def test_an_evaluation_that_finds_all_whole_again_clears_its_split(tmp_path, capsys):
    callback = BadImages(tmp_path)
    callback.path.write_text("path,split,label,reason\na.jpg,val,x,old\nb.jpg,train,x,old\n")
    callback.setup(trainer_of(Data(tmp_path)), None, "validate")
    callback.on_validation_epoch_end(trainer_of(Data(tmp_path)), None)
    callback.teardown(trainer_of(Data(tmp_path)), None, "validate")
    assert [row["path"] for row in read_csv(callback.path)] == ["b.jpg"]
    assert capsys.readouterr().err == ""


def test_processes_put_their_finds_together_and_stop_together(tmp_path, monkeypatch):
    others = {5: BadImage("5.jpg", "train", "", "x")}

    def gather(parts, own):
        parts[:] = [own, others]

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    data, callback = Data(tmp_path, 1), BadImages(tmp_path)
    callback.setup(trainer_of(data), None, "fit")
    callback.on_train_epoch_end(trainer_of(data), None)
    assert [row["path"] for row in read_csv(callback.path)] == ["1.jpg", "5.jpg"]
    others |= {i: BadImage(f"{i}.jpg", "train", "", "x") for i in (0, 2, 3, 4)}
    with pytest.raises(FgvcError, match=r"^none of the 6 training images can be read"):  # this process met one of them
        callback.on_train_epoch_end(trainer_of(data), None)


def test_a_path_of_any_bytes_comes_back_as_it_was(tmp_path):
    row = BadImage('b\udce9, "x"\nü.jpg', "train", "Larus", "the file is empty")
    bad_images._write(tmp_path / "list.csv", [row])
    assert bad_images._read(tmp_path / "list.csv") == [row]
