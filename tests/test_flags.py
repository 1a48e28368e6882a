"""No command loses a flag: what commit 59efaac offered stands in tests/stored/flags_59efaac.txt.

The list was made with the fgvc of that commit: `PYTHONPATH=OLD python tests/test_flags.py > LIST`. A flag that is to
go is taken out of the list by hand, and told in CHANGELOG.md.
"""

import contextlib
import io
import re
from pathlib import Path

import pytest

from fgvc.__main__ import main

STORED = Path(__file__).parent / "stored" / "flags_59efaac.txt"
COMMANDS = (
    "fit", "validate", "test", "predict", "calibrate", "report", "explain", "info", "configs",
    "data verify", "data stats", "data download",
)  # fmt: skip


def flags_of(text):
    """Return the flags that a help text explains."""
    explained = re.findall(r"(?m)^  (-\S.*?)(?:  |$)", text)
    return {flag for line in explained for flag in re.findall(r"(?<!\S)--?\w[\w.+-]*", line)} - {"-"}


def help_of(command):
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        assert main([*command.split(), "--help"]) == 0
    return said.getvalue()


def own(flags):
    """Return the flags without those of Lightning's trainer and jsonargparse's own: they change with their versions."""
    return {flag for flag in flags if not flag.startswith("--trainer") and not flag.endswith((".help", "+"))}


def lost(stored, offered):
    """Return one line for each flag that was stored and is not offered."""
    return [
        f"fgvc {command} {flag}"
        for command, flags in stored.items()
        for flag in sorted(flags - offered.get(command, set()))
    ]


def read(text):
    lines = (line.partition(":") for line in text.splitlines())
    return {command: set(flags.split()) for command, _, flags in lines}


def test_the_list_holds_every_command():
    stored = read(STORED.read_text())
    assert tuple(stored) == COMMANDS
    assert {"--config", "-c", "--model.lr", "--data.source", "--resume", "--phases"} <= stored["fit"]
    assert {"--precision", "--sheet"} <= stored["predict"]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_flag_is_lost(command):
    stored = read(STORED.read_text())[command]
    assert lost({command: stored}, {command: flags_of(help_of(command))}) == []


def test_the_checker_sees_a_lost_flag_and_lets_new_ones_pass():
    text = (
        "usage: x [--gone]\n\n  -h, --help   show --other\n  --new NEW    like --gone\n  --long.key {a,b}\n      more\n"
    )
    assert flags_of(text) == {"-h", "--help", "--new", "--long.key"}
    assert lost({"x": {"--help"}}, {"x": flags_of(text)}) == []
    assert lost({"x": {"--help", "--gone"}, "y": {"-h"}}, {"x": flags_of(text)}) == ["fgvc x --gone", "fgvc y -h"]


if __name__ == "__main__":
    for name in COMMANDS:
        print(f"{name}:", *sorted(own(flags_of(help_of(name)))))
