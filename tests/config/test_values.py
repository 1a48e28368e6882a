import copy
import math

import pytest
from fakes.tiny_run import CPU, NET, data_flags, make_photos
from fakes.trainer_settings import SETTINGS
from jsonargparse import Namespace

from fgvc.__main__ import main
from fgvc.config.values import check, check_nulls
from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone

GOOD = {
    "data": {"source_size": None, "augmentation": {}},
    "model": {"image_size": 224},
    "trainer": SETTINGS,
    "data.augmentation": {}, "seed_everything": 0, "runs": "runs", "name": "birds",
}  # fmt: skip
ZERO = "0 trains nothing; give at least 1"


def refusal(key, value, begins=True):
    config = copy.deepcopy(GOOD)
    holder = config
    *above, last = [key] if key in config else key.split(".")
    for part in above:
        holder = holder[part]
    holder[last] = value
    with pytest.raises(UsageError) as caught:
        check(config, begins)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("trainer", 1, "trainer: 1; it holds keys, as in --trainer.KEY VALUE"),
        ("model", None, "model: null; it holds keys, as in --model.KEY VALUE"),
        ("data.augmentation", [1], "data.augmentation: [1]; it holds keys, as in --data.augmentation.KEY VALUE"),
        ("seed_everything", -1, "seed_everything: -1; it must be from 0 to 4294967295"),
        ("seed_everything", 2**32, "seed_everything: 4294967296; it must be from 0 to 4294967295"),
        ("model.image_size", 0, "model.image_size: 0; it must be from 1 to 8192 pixels"),
        ("model.image_size", 8193, "model.image_size: 8193; it must be from 1 to 8192 pixels"),
        ("data.source_size", -1, "data.source_size: -1; it must be from 1 to 8192 pixels"),
        ("trainer.accumulate_grad_batches", 0, "trainer.accumulate_grad_batches: 0; it must be a number of at least 1"),
        ("trainer.gradient_clip_val", math.nan, "trainer.gradient_clip_val: nan; it must be a number of at least 0"),
        ("trainer.max_epochs", -2, "trainer.max_epochs: -2; it must be a number of at least -1"),
        ("trainer.max_epochs", 0, f"trainer.max_epochs: {ZERO}"),
        ("trainer.max_steps", 0, f"trainer.max_steps: {ZERO}"),
        ("trainer.limit_train_batches", 0, f"trainer.limit_train_batches: {ZERO}"),
        ("trainer.overfit_batches", 2,
         "trainer.overfit_batches: does not go with the order of the images; use limit_train_batches"),
        ("trainer.val_check_interval", 0,
         "trainer.val_check_interval: 0; it must be above 0: a share of an epoch, or batches"),
        ("runs", "", "runs: empty; give the folder of all runs, e.g. runs"),
        ("runs", "a\0", "runs: 'a\\x00'; it holds a null character"),
        *(("name", name, f"name: {name!r}; give a name for a folder inside runs, such as birds")
          for name in ("", " ", ".", "..", "../up", "a/../..", "/abs")),
    ],
)  # fmt: skip
def test_a_value_outside_its_range_is_named(key, value, line):
    assert refusal(key, value) == line


def test_good_values_pass():
    assert check(GOOD, True) is None
    for name in (None, "a/b", "..a", "Möwe 1"):
        assert check({**GOOD, "name": name}, True) is None


def test_a_run_that_goes_on_may_have_nothing_left_to_do():
    trainer = {**GOOD["trainer"], "max_epochs": 0}
    check({**GOOD, "trainer": trainer}, False)
    with pytest.raises(UsageError, match=ZERO):
        check({**GOOD, "trainer": trainer}, True)


def test_fit_says_it_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["fit", *data_flags(make_photos(tmp_path / "photos", train=2, val=0, test=1)), *NET, *CPU]
    for word, line in {
        "--name=../up": "name: '../up'; give a name for a folder inside runs, such as birds",
        "--seed_everything=-1": "seed_everything: -1; it must be from 0 to 4294967295",
        "--trainer=1": "trainer: '1' given, but it holds keys of its own, as in --trainer.KEY VALUE",
        "--trainer.max_epochs=0": f"trainer.max_epochs: {ZERO}",
    }.items():
        assert main([*words, word]) == 2
        assert capsys.readouterr().err == f"fgvc: {line}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def nested(**init_args):
    return Namespace(class_path="fgvc.methods.backbone.Backbone", init_args=Namespace(**init_args))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"image_size": None}, "model.image_size: null given, but it takes an int"),
        ({"weights": None, "image_size": 32}, "model.weights: null given, but it takes a text"),
        ({"backbone": nested(name=None)}, "model.backbone.name: null given, but it takes a text"),
    ],
)
def test_a_null_where_none_is_taken_is_refused_by_its_key(arguments, line):
    with pytest.raises(UsageError) as caught:
        check_nulls(arguments, Backbone, "model")
    assert str(caught.value) == line


def test_a_null_that_is_taken_or_linked_passes():
    check_nulls({"model_args": None, "mean": None, "taxonomy": None, "other": None}, Backbone, "model")
    check_nulls({"backbone": nested(name="resnet10t", std=None)}, Backbone, "model")


def test_a_null_is_refused_before_anything_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photos = make_photos(tmp_path / "photos", val=0, test=0)
    (tmp_path / "null.yaml").write_text("data: {batch_size: null}")
    assert main(["fit", *NET, *CPU, *data_flags(photos), "--config", "null.yaml", "--name", "birds"]) == 2
    assert capsys.readouterr().err == "fgvc: data.batch_size: null given, but it takes an int\n"
    assert not (tmp_path / "runs").exists()
