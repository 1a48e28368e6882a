import json
from pathlib import Path

import pytest
import torch
import yaml

from fgvc.config.own_data import from_data
from fgvc.errors import UsageError

FOLDER = ["--data.source", "ImageFolder", "--data.source.init_args.root", "photos/apples"]
TABLE = ["--data.source", "Table", "--data.source.init_args.path", "photos.csv"]


@pytest.fixture(params=[False, True], ids=["cpu", "gpu"])
def recipe(request, tmp_path, monkeypatch):
    """The recipe of a machine with or without a GPU; the working folder holds photographs, a table and configs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    Path("photos/apples").mkdir(parents=True)
    Path("photos.csv").touch()
    Path("net.yaml").write_text("model: {recognizer: {init_args: {backbone: {init_args: {name: resnet18}}}}}\n")
    Path("long.yaml").write_text("trainer: {max_epochs: 50}\ndata: {batch_size: 4}\n")
    Path("mine.yaml").write_text("data: {source: {class_path: ImageFolder, init_args: {root: photos}}}\n")
    return "whole_image" if request.param else "small"


@pytest.mark.parametrize(
    ("word", "flags", "name"), [("photos/apples", FOLDER, "apples"), ("photos.csv", TABLE, "photos")]
)
def test_one_word_is_the_data_and_the_machine_chooses_the_recipe(recipe, word, flags, name):
    start = from_data([word, "--model.lr", "0.1"])
    assert start.words == ["--name", name, "--config", recipe, *flags, "--model.lr", "0.1"]
    assert (start.recipe, start.chooses_epochs, start.chooses_batch) == (recipe, recipe == "small", True)
    assert from_data(["--model.lr", "0.1", word, "--name=x"]).words[2:] == [*flags, "--model.lr", "0.1", "--name=x"]


def test_without_a_free_word_nothing_changes(recipe):
    for words in (["--config", "cub", "--config", "hse"], ["--resume", "runs/x"], []):
        assert from_data(words) == (words, "", False, False)


def test_a_method_that_is_given_wins_and_a_network_alone_is_no_method(recipe):
    start = from_data(["photos/apples", "--config", "hse", "--config", "long.yaml"])
    assert start.words == ["--name", "apples-hse-long", *FOLDER, "--config", "hse", "--config", "long.yaml"]
    assert (start.recipe, start.chooses_epochs, start.chooses_batch) == ("", False, False)
    assert from_data(["photos/apples", "--model.recognizer", "WholeImage"]).recipe == ""
    start = from_data(["photos/apples", "--config=net.yaml", "--model.recognizer.backbone.weights", "none"])
    assert start.words[:4] == ["--name", "apples-net", "--config", recipe]  # in front: the network wins
    assert start.recipe == recipe


@pytest.mark.parametrize(
    ("more", "epochs", "batch"),
    [
        (["--trainer.max_epochs", "3"], False, True),
        (["--trainer.max_steps=7"], False, True),
        (["--trainer.max_time", "00:01:00:00"], False, True),
        (["--data.batch_size=8"], True, False),
        (["--config", "long.yaml"], False, False),
    ],
)
def test_a_length_or_a_batch_that_is_given_wins(recipe, more, epochs, batch):
    start = from_data(["photos/apples", *more])
    assert (start.chooses_epochs, start.chooses_batch) == (epochs and recipe == "small", batch)


def test_the_cpu_may_be_asked_for(recipe):
    assert from_data(["photos/apples", "--trainer.accelerator", "cpu"]).recipe == "small"


def test_a_run_gives_its_photographs_and_not_its_method(recipe):
    source = {"class_path": "ImageFolder", "init_args": {"root": "photos", "levels": ["a", "b"]}}
    data = {
        "source": source,
        "batch_size": 7,
        "val_fraction": 0.3,
        "fit": "squash",
        "limits": None,
        "on_bad_image": "skip",
    }
    Path("runs/old").mkdir(parents=True)
    Path("runs/latest").write_text("old\n")
    Path("runs/old/config.yaml").write_text(yaml.safe_dump({"data": data, "model": {"lr": 3.0}, "name": "old"}))
    for word in ("runs/old", "runs/latest"):
        words = from_data([word]).words
        assert words[:4] == ["--name", "old-again", "--config", recipe]
        assert words[4::2] == ["--data.source", "--data.val_fraction", "--data.on_bad_image"]
        assert [*map(json.loads, words[5:8:2]), words[9]] == [source, 0.3, "skip"]


def test_a_yaml_file_is_a_config(recipe):
    words = ["--name", "mine", "--config", recipe, "--config", "mine.yaml"]
    assert from_data(["mine.yaml"]).words == words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["photos", "photos.csv"], "fgvc fit: 'photos.csv' is one word too many; give one folder, table or run"),
        (["nowhere"], "nowhere: no such folder of photographs, table or run"),
        (["hse"], "hse: no such folder of photographs, table or run; for the config of that name give --config hse"),
        (["photos", "--resume", "runs/x"], "--resume goes on with the data of its run; leave 'photos' out"),
        (["photos", "--config", "cub"], "fgvc fit: 'photos' and --config cub both say where the data are; give one of"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_line(recipe, words, said):
    with pytest.raises(UsageError) as caught:
        from_data(words)
    assert str(caught.value).startswith(said)
