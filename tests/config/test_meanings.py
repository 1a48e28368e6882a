import inspect

import pytest
from fakes.tiny_run import CPU, NET, data_flags, make_photos
from test_flags import flags_of, help_of

from fgvc.__main__ import main
from fgvc.config.meanings import MEANT, NO_KEY, TAKES, nearest_argument, nearest_key
from fgvc.data.sources.image_folder import ImageFolder
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.linear import LinearHead

NETWORK, WEIGHTS = "model.recognizer.backbone.name", "model.recognizer.backbone.weights"
NEWCOMERS = {
    "lr": "model.lr", "learning_rate": "model.lr", "epochs": "trainer.max_epochs", "num_epochs": "trainer.max_epochs",
    "max_epochs": "trainer.max_epochs", "batch": "data.batch_size", "batch_size": "data.batch_size",
    "img_size": "model.image_size", "model": NETWORK, "model.backbone": NETWORK, "backbone": NETWORK, "arch": NETWORK,
    "pretrained": WEIGHTS, "weights": WEIGHTS, "device": "trainer.accelerator", "gpus": "trainer.devices",
    "workers": "data.num_workers", "optimizer": "model.optimizer", "weight_decay": "model.weight_decay",
    "data_dir": "data.source.root", "root": "data.source.root", "num_classes": "it follows from the data; leave it out",
    "precision": "trainer.precision", "amp": "trainer.precision", "seed": "seed_everything", "output": "runs",
    "dropout": "model.recognizer.head.dropout", "val_split": "data.val_fraction", "patience": "early_stopping",
    "checkpoint": "ckpt_path",
}  # fmt: skip
"""Thirty words that a newcomer tries -> the key that is meant, or what to know where there is none."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("data") / "photos", train=2, val=0, test=1)


@pytest.fixture
def said(photos, tmp_path, monkeypatch, capsys):
    """Return the one line that `fgvc fit` says of some wrong words."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        assert main(["fit", *data_flags(photos), *NET, *CPU, *words]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
        return err.removeprefix("fgvc: ").rstrip("\n")

    return run


@pytest.mark.parametrize("word", NEWCOMERS)
def test_thirty_words_of_newcomers_lead_to_the_right_key(said, word):
    assert len(NEWCOMERS) == 30
    line, meant = said(f"--{word}", "x"), NEWCOMERS[word]
    assert line.startswith((f"{word}: unknown key; ", f"{word}: 'x' given, but it holds keys of its own"))
    assert line.endswith((f"; {meant}", f"; did you mean {meant!r}?")) or f"; did you mean {meant!r} (" in line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--model.name", "x"], f"model.name: unknown key; did you mean '{NETWORK}' (a name of timm, e.g. resnet50)?"),
        (["--Learning-Rate=1"], "Learning-Rate: unknown key; did you mean 'model.lr'?"),
        (["--model.batch_size=1"], "model.batch_size: unknown key; did you mean 'data.batch_size'?"),
        (["--data", "photos"], "data: 'photos' given, but it holds keys of its own, as in --data.KEY VALUE; "
         "did you mean 'data.source.root' (with --config image_folder)?"),
        (["--model.recognizer", "resnet50"], "model.recognizer: no class 'resnet50'; did you mean --config resnet50?"),
        (["--model.recognizer", "resnet18"], "model.recognizer: no class 'resnet18'; "
         f"did you mean '{NETWORK}' (a name of timm, e.g. resnet50)?"),
        (["--model.recognizer", "HSE"], "model.recognizer: no class 'HSE'; did you mean --config hse?"),
        (["--model.recognizer.backbone.pretrained", "1"], "model.recognizer.backbone: unknown key 'pretrained'; "
         "did you mean 'weights'?"),
        (["--data.source.data_dir", "x"], "data.source: unknown key 'data_dir'; did you mean 'root'?"),
        (["--trainer.callbacks.help"], "--trainer.callbacks.help: name the class after it"),
    ],
)  # fmt: skip
def test_a_word_at_another_place_leads_there_too(said, words, line):
    assert said(*words) == line


def test_a_config_is_told_the_same(said, tmp_path):
    (tmp_path / "my.yaml").write_text("epochs: 3\n")
    assert said("--config", "my.yaml") == "epochs: unknown key; did you mean 'trainer.max_epochs'?"


def test_every_key_that_is_told_exists_and_no_word_means_two():
    known = {flag.removeprefix("--") for flag in flags_of(help_of("fit"))}
    parts = {"model.recognizer.backbone": Backbone, "model.recognizer.head": LinearHead, "data.source": ImageFolder}
    for where, part in parts.items():
        known |= {f"{where}.{name}" for name in inspect.signature(part).parameters}
    words = [word for group in (*MEANT.values(), *NO_KEY.values()) for word in group]
    assert set(MEANT) | set(TAKES) <= known
    assert len(words) == len(set(words))
    assert not set(words) & {key for key in known if key not in ("model", "data")}


def test_what_is_near_nothing_is_left_alone():
    assert nearest_key("stray", ["model.lr", "data.source"]) == ""
    assert nearest_key("lr", ["data.source"]) == ""  # a command on data has no model
    assert nearest_key("fitt", ["data.fit"]) == "; did you mean 'data.fit'?"
    assert nearest_key("scale", ["x.size", "x.scale"]) == "; did you mean 'x.scale'?"
    assert nearest_argument("rooot", ["root"]) == "; did you mean 'root'?"
