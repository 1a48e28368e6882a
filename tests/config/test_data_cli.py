import csv
import sys
from pathlib import Path

import pytest
import yaml
from fakes.tiny_run import data_flags, make_photos

from fgvc.config.data_cli import parse
from fgvc.data.datamodule import FineGrainedData
from fgvc.data.sources.image_folder import ImageFolder
from fgvc.data.sources.table import Table
from fgvc.errors import UsageError


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # as the doors do
    monkeypatch.setattr("sys.path", [*sys.path])  # the folder of the test is added to it
    return make_photos(tmp_path / "photos", train=10, val=0, test=2)


def options(parser):
    parser.add_argument("--output", default=None)
    parser.add_argument("--overwrite", action="store_true")


def opened(*words):
    given, open_data = parse("fgvc data try", "Try it.", list(words), options)
    return given, open_data()


def refused(*words):
    with pytest.raises(UsageError) as error:
        opened(*words)
    assert "\n" not in str(error.value)
    return str(error.value)


def written(name="my.yaml", /, **content):
    Path(name).write_text(yaml.safe_dump(content))
    return name


def source(**arguments):
    return {"source": {"class_path": "ImageFolder", "init_args": {"root": "photos", **arguments}}}


def paths(data):
    return {split: [record.path for record in data.records(split)] for split in data.splits}


def test_a_folder_gives_the_splits_of_a_training():
    _, data = opened("photos", "--data.val_fraction", "0.3", "--data.split_seed", "5")
    assert data.splits == ("train", "test", "val") and len(data.records("val")) == 9
    training = FineGrainedData(ImageFolder("photos"), val_fraction=0.3, split_seed=5)
    assert paths(data) == paths(training)


@pytest.mark.parametrize(
    "words",
    [
        ["photos", "--data.source.levels", "[genus, species]"],
        ["--data.source.levels", "[genus, species]", "photos", "--overwrite"],
        ["--overwrite", "photos", "--output", "x", "--data.source.levels=[genus, species]"],
        data_flags("photos"),
    ],
)
def test_the_folder_may_stand_anywhere_among_the_flags(words):
    given, data = opened(*words)
    assert data.taxonomy.levels == ("genus", "species")
    assert given.overwrite == ("--overwrite" in words) and given.output == ("x" if "--output" in words else None)


def test_a_table_and_a_run_and_a_file_say_where_the_data_are(photos):
    files = sorted(photos.rglob("*.png"))
    with Path("photos.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label"], *([str(path), path.parent.name] for path in files)])
    _, data = opened("photos.csv")
    assert isinstance(data.source, Table) and data.taxonomy.num_classes == 3
    (photos.parent / "runs/apples").mkdir(parents=True)
    written("runs/apples/config.yaml", data={**source(levels=["genus", "species"]), "val_fraction": 0.0})
    (photos.parent / "runs/latest").write_text("apples\n")
    for name in ("runs/apples", "runs/latest", "runs/apples/config.yaml"):
        _, data = opened(name, "--data.source.test_fraction", "0.1")
        assert data.taxonomy.levels == ("genus", "species") and data.splits == ("train", "test")


def test_what_a_config_says_of_model_and_trainer_is_neither_refused_nor_made():
    written(
        seed_everything=3,
        name="apples",
        model={"image_size": 48, "recognizer": {"class_path": "no.such.Thing"}, "lrr": "fast"},
        trainer={"max_epoch": -1},
        phases=[{"nmae": 1}],
        data={**source(), "source_size": 64},
    )
    _, data = opened("--config", "my.yaml")
    assert data.resize.size == 64  # with the usual image_size of 224 it would be refused
    _, data = opened("--config=my.yaml", "--model.image_size", "32")
    assert data.resize.size == 64


def test_configs_are_merged_and_flags_beat_them():
    written("first.yaml", data={**source(test_fraction=0.5), "val_fraction": 0.3, "crop_fraction": 1e-1})
    written("second.yaml", data={"val_fraction": 0.2, "source": {"init_args": {"levels": ["genus", "species"]}}})
    _, data = opened("--config", "first.yaml", "--config", "second.yaml")
    assert len(data.records("val")) == 6 and data.taxonomy.levels == ("genus", "species")
    assert data.resize.crop_fraction == 0.1
    _, data = opened("--config", "first.yaml", "--data.val_fraction", "0.1")
    assert len(data.records("val")) == 3


def test_a_class_of_the_users_own_is_found(photos):
    (photos.parent / "mine_xyz.py").write_text(
        "from fgvc.data.sources.image_folder import ImageFolder\n\nclass Mine(ImageFolder):\n    pass\n"
    )
    _, data = opened("--data.source", "mine_xyz.Mine", "--data.source.init_args.root", "photos")
    assert type(data.source).__name__ == "Mine"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            [],
            "fgvc data try: give a folder of photographs, a table, a run folder, or --config DATA; "
            "fgvc data try --help lists the keys",
        ),
        (["nowhere"], "nowhere: no such folder of photographs, table or run"),
        (
            ["cub"],
            "cub: no such folder of photographs, table or run; for the config of that name give --config cub",
        ),
        (["photos", "more"], "fgvc data try: 'more' is one word too many; give one folder, table or run"),
        (
            ["photos", "--config", "cub"],
            "fgvc data try: give 'photos' or --config, not both; a config's folder is --data.source.init_args.root",
        ),
        (["runs/latest"], "runs/latest: no run folder (no config.yaml in it); give the folder that `fgvc fit` printed"),
        (["photos", "--data.val_fractoin", "0"], "data.val_fractoin: unknown key; did you mean 'data.val_fraction'?"),
        (["photos", "--data.source.rooot", "x"], "data.source: unknown key 'rooot'; did you mean 'root'?"),
        (["photos", "--outptu", "x"], "outptu: unknown key; did you mean 'output'?"),
        (["photos", "--trainer.max_epochs", "3"], "trainer.max_epochs: unknown key"),
        (["photos", "--data.batch_size", "many"], "data.batch_size: 'many' given, but it takes an int"),
        (["photos", "--data.val_fraction", "2"], "data.val_fraction: 2.0; it must be at least 0 and below 1"),
        (["--data.source", "ImageFoldr"], "data.source: no class 'ImageFoldr'; did you mean 'ImageFolder'?"),
        (["--overwrite"], "missing data.source; give a --config that has it, or the flag --data.source"),
    ],
)
def test_a_wrong_word_is_one_line(words, line):
    assert refused(*words) == line


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"data": {"sorce": {"class_path": "ImageFolder"}}}, "data.sorce: unknown key; did you mean 'data.source'?"),
        ({"dta": source()}, "my.yaml: dta: unknown key; did you mean 'data'?"),
        ({"data": "photos"}, "my.yaml: data holds a str; it holds keys such as source and val_fraction"),
        ({"data": None}, "missing data.source; give a --config that has it, or the flag --data.source"),
        ({"data": source(rooot=1)}, "data.source: unknown key 'rooot'; did you mean 'root'?"),
        (
            {"data": {**source(), "fit": "stretch"}},
            "data.fit: 'stretch' given, but it takes one of 'crop', 'squash' or null",
        ),
        (
            {"data": {**source(), "source_size": 64}, "model": {"image_size": 96}},
            "data.source_size: 64 is less than model.image_size 96, which would be enlarged; give 96 or more",
        ),
        ({}, "missing data.source; give a --config that has it, or the flag --data.source"),
    ],
)
def test_a_wrong_key_of_a_config_is_one_line(content, line):
    assert refused(written(**content)) == line


def test_a_config_that_cannot_be_read_is_one_line():
    Path("broken.yaml").write_text("- a list\n")
    assert refused("broken.yaml") == "broken.yaml: holds a list; a config holds keys such as data, model and trainer"
    assert refused("--config", "gone.yaml").startswith("config 'gone.yaml': no such file and no such stem in ")
