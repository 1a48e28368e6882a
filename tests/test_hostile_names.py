"""Names of files, classes and levels that hold terminal escapes: no command shows them raw."""

import json
import os
import re

import pytest
from fakes.tiny_model import tiny_model
from fakes.tiny_run import CPU, NET
from PIL import Image

from fgvc.__main__ import main
from fgvc.model_file.model import save
from fgvc.taxonomy.tree import Taxonomy

EVIL = "\x1b[2J\x9b31m\r\u202egull"
SHOWN = r"\x1b[2J\x9b31m\r\u202egull"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A model and photographs whose names are all hostile; one photograph is broken."""
    monkeypatch.chdir(tmp_path)
    tree = Taxonomy([f"genus{EVIL}", f"species{EVIL}"], [(f"a{EVIL}", f"b{EVIL}"), (f"c{EVIL}", f"d{EVIL}")])
    save(tiny_model(taxonomy=tree), tmp_path / "run" / "model")
    for split in ("train", "test"):
        for species in "xy":
            folder = tmp_path / f"photos{EVIL}" / split / f"{species}{EVIL}"
            folder.mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (40, 40), (60 * i, 90, 20)).save(folder / f"{i}{EVIL}.png")
    (folder / f"broken{EVIL}.jpg").write_bytes(b"no picture")  # of the test images
    return tmp_path


def commands():
    photos = f"photos{EVIL}"
    source = ["--data.source", "ImageFolder", "--data.source.init_args.root", photos]
    return {
        "predict": (1, ["predict", "run", photos, "--output", f"out{EVIL}.csv"]),
        "predict what is not there": (2, ["predict", "run", f"gone{EVIL}"]),
        "a model that is not there": (2, ["predict", f"gone{EVIL}", photos]),
        "info": (0, ["info", "run"]),
        "verify": (1, ["data", "verify", photos]),
        "stats": (0, ["data", "stats", photos]),
        "explain": (1, ["explain", "run", photos, "--output", f"seen{EVIL}"]),
        "a flag": (2, ["predict", "run", photos, f"--{EVIL}"]),
        "a command": (2, [EVIL]),
        "a key": (2, ["fit", f"--{EVIL}", "1"]),
        "a config": (2, ["fit", "--config", EVIL]),
        "a class": (2, ["fit", *NET, "--model.recognizer", EVIL]),
        "a key of a config": (2, ["fit", "--config", "evil.yaml"]),
        "a run": (0, ["fit", *NET, *CPU, *source, "--data.batch_size", "4", "--data.num_workers", "0",
                      "--trainer.max_epochs", "1", "--name", f"birds{EVIL}"]),
    }  # fmt: skip


@pytest.mark.parametrize("name", commands())
def test_no_command_shows_a_hostile_name_raw(home, capsys, name):
    code, words = commands()[name]
    (home / "evil.yaml").write_text(json.dumps({f"model{EVIL}": 1}), encoding="utf-8")
    try:
        found = main(words)
    finally:
        out, err = capsys.readouterr()
    bars = re.sub(r"\r(?=[A-Z ][a-z ])|\r$|\r(?=\n)|\x1b\[A|\r(?=\r)", "", err)  # what progress bars write
    assert RAW.findall(bars.replace("\n", "")) == [], ascii(bars)
    assert RAW.findall(out.replace("\n", "").replace("\r", "")) == [], ascii(out)
    assert found == code, ascii(err)
    assert SHOWN[:6] in out + err or name in ("info",)


def test_an_unexpected_error_with_a_hostile_text_is_escaped(monkeypatch, capsys):
    def wrong(*_):
        raise ZeroDivisionError(EVIL)

    monkeypatch.setattr("fgvc.commands.configs.main", wrong)
    assert main(["configs"]) == 1
    assert RAW.findall(capsys.readouterr().err.replace("\n", "")) == []


def test_a_file_that_the_system_refuses_is_one_line(monkeypatch, capsys):
    for error, said in (
        (PermissionError(13, "Permission denied", os.fsencode("a\x1b")), r"a\x1b: Permission denied"),
        (RuntimeError("Symlink loop from '/a'"), "'/a': a link that leads back to itself"),
        (MemoryError(), "out of memory; give a smaller batch, fewer worker processes or a machine with more"),
    ):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr("fgvc.commands.configs.main", fail)
        assert main(["configs"]) == 1
        assert capsys.readouterr().err == f"fgvc: {said}\n"
