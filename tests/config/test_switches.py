from argparse import ArgumentParser
from typing import Any

import jsonargparse
import pytest
from fakes.tiny_run import CPU, NET, data_flags, make_photos

from fgvc.__main__ import main
from fgvc.config.one_line_parser import OneLineParser
from fgvc.config.switches import bare, flags, valued
from fgvc.errors import UsageError


@pytest.mark.parametrize("form", [["--x"], ["--x", "true"], ["--x=true"], ["--x", "True"]])
def test_on_is_written_in_four_ways(form):
    assert bare(["a", *form, "b"], {"--x"}) == ["a", "--x", "b"]
    parser = OneLineParser(prog="p")
    parser.add_argument("name")
    parser.add_argument("--x", action="store_true")
    assert vars(parser.parse_args(["a", *form])) == {"name": "a", "x": True}
    assert vars(parser.parse_args([*form, "a"])) == {"name": "a", "x": True}


@pytest.mark.parametrize("form", [["--x", "false"], ["--x=false"], []])
def test_off_is_written_in_three_ways(form):
    assert bare(["a", *form, "b"], {"--x"}) == ["a", "b"]


def test_a_word_that_is_neither_is_another_word():
    assert bare(["--x", "truth", "--y", "true"], {"--x"}) == ["--x", "truth", "--y", "true"]
    assert bare(["--x=maybe"], {"--x"}) == ["--x=maybe"]  # the parser refuses it


def test_a_typed_key_that_stands_alone_gets_its_value():
    parser: Any = jsonargparse.ArgumentParser(exit_on_error=False)
    for name, kind in {"x": bool, "y": bool | None, "z": str}.items():
        parser.add_argument(f"--{name}", type=kind)
    assert flags(parser) == {"--x", "--y"}
    assert flags(ArgumentParser()) == set()
    assert valued(["--x", "--y", "false", "--z", "1", "--y"], flags(parser)) == (
        ["--x=true", "--y", "false", "--z", "1", "--y=true"]
    )


def test_an_unknown_flag_names_its_neighbour():
    parser = OneLineParser(prog="p")
    parser.add_argument("--batch_size")
    with pytest.raises(UsageError, match=r"--batchsize; p --help says what it takes; did you mean '--batch_size'\?$"):
        parser.parse_args(["--batchsize"])


def test_a_run_and_an_answer_are_overwritten_by_either_form(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photos = make_photos(tmp_path / "two words", train=2, val=0, test=1)
    short = [*data_flags(photos), *NET, *CPU, "--trainer.max_epochs", "1", "--name", "my birds"]
    assert main(["fit", *short]) == 0
    assert "next:  fgvc test 'runs/my birds'\n       fgvc predict 'runs/my birds' PHOTO..." in capsys.readouterr().err
    for form in (["--overwrite"], ["--overwrite", "true"]):
        assert main(["fit", *short]) == 2
        assert main(["fit", *short, *form]) == 0
    for form in (["--overwrite"], ["--overwrite", "true"], ["--overwrite=true"]):
        table = ["--output", "answers.csv"]
        assert main(["predict", "runs/my birds", str(photos), *table, *form]) == 0
        assert main(["predict", "runs/my birds", str(photos), *table, "--overwrite", "false"]) == 2
        stats = ["data", "stats", str(photos), "--output", "stats.json"]
        assert main([*stats, *form]) == 0
        assert main(stats) == 2
