from pathlib import Path

import pytest
from fakes.tiny_run import CPU, NET, data_flags, make_photos

from fgvc.__main__ import main
from fgvc.config.moved import hint


def test_a_relative_path_that_is_not_here_is_named_with_its_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    found = hint({"init_args": {"root": "here", "taxonomy": "tree.csv"}})
    assert found == (
        " (the run keeps taxonomy: tree.csv, which starts at the folder in which it was made, and this is "
        f"{tmp_path}: start fgvc there, or give --data.source.init_args.taxonomy PATH)"
    )
    for source in ({"init_args": {"root": "here"}}, {"init_args": {"root": "/gone"}}, {"init_args": None}, {}, None):
        assert hint(source) == ""


@pytest.mark.parametrize(
    "words",
    [["test"], ["validate"], ["calibrate"], ["fit", "--trainer.max_epochs", "2", "--resume"], ["data", "stats"]],
)
def test_a_run_that_is_used_from_another_folder_says_so(made, monkeypatch, capsys, words):
    (made / "sub").mkdir(exist_ok=True)
    monkeypatch.chdir(made / "sub")
    assert main([*words, "../runs/birds"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("fgvc: photos: no such folder of photographs (the run keeps root: photos, which starts at")
    assert said.endswith("start fgvc there, or give --data.source.init_args.root PATH)")


def test_the_key_that_is_named_helps(made, monkeypatch):
    (made / "sub").mkdir(exist_ok=True)
    monkeypatch.chdir(made / "sub")
    assert main(["validate", "../runs/birds", "--data.source.init_args.root", "../photos"]) == 0


def test_a_new_run_is_told_nothing_of_a_former_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *NET, *CPU, *data_flags(Path("gone"))]) == 2
    assert main(["data", "stats", "--data.source", "ImageFolder", "--data.source.init_args.root", "gone"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fgvc: ")]
    assert lines == ["fgvc: gone: no such folder of photographs"] * 2


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with photographs and a run of one step an epoch."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_photos(Path("photos"), train=2, val=1, test=1)
        words = [*data_flags(Path("photos")), "--trainer.max_epochs", "1", "--name", "birds"]
        assert main(["fit", *NET, *CPU, *words]) == 0
    return folder
