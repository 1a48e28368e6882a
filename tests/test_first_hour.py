"""`docs/first_hour.md` is typed line by line, over photographs painted here, and what it shows is what comes."""

import code
import io
import re
import shlex
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import pytest

import fgvc
from fgvc.__main__ import main
from fgvc.commands import in_python
from fgvc.data.birds.painting import paint
from fgvc.data.birds.species import design

PAGE = Path(__file__).parents[1] / "docs" / "first_hour.md"
SHORT = shlex.split(re.findall(r"(?m)^    (--.*)$", PAGE.read_text(encoding="utf-8"))[0])
"""What the page says is added to every `fgvc fit`."""


def paint_photos(root):
    """Write the three folders that the page speaks of: kinds, genera above kinds, and a few kinds of another place."""
    for name, count, kinds in (("birds", 20, 4), ("collection", 20, 4), ("garden", 6, 3)):
        for label, species in enumerate(design(1, 1, 2, 2)[:kinds]):
            genus, kind = (word.replace(" ", "_") for word in species.path[2:])
            folder = Path(root, "photos", name, genus if name == "collection" else "", kind)
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = paint(species, np.random.default_rng([len(name), label, i]), 64).pixels
                cv2.imwrite(str(folder / f"{i:02d}.jpg"), pixels[:, :, ::-1])


def steps_of(text):
    """Return (what is typed, what is shown below it) for each `$ command` and `>>> line` of the fenced blocks."""
    steps = []
    for block in re.findall(r"(?ms)^```\w*\n(.*?)^```", text):
        for line in block.splitlines():
            if line.startswith(("$ ", ">>> ")):
                steps.append((line, []))
            else:
                steps[-1][1].append(line)
    return steps


def typed(line, python):
    """Return what is printed after a line is typed, on both streams; the exit code must be what the page says."""
    with redirect_stdout(io.StringIO()) as told, redirect_stderr(told):
        if line.startswith(">>> "):
            python.push(line.removeprefix(">>> "))
        elif not line.startswith("$ fgvc "):
            print(subprocess.run(line[2:], shell=True, capture_output=True, text=True, check=True).stdout, end="")
        else:
            words = shlex.split(line, comments=True)[2:]
            words = [one for word in words for one in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]
            exit_code = main([*words, *(SHORT if words[0] == "fit" else [])])
            said = re.search(r"# exit code (\d)", line)
            assert exit_code == (int(said[1]) if said else 0), told.getvalue()
    return told.getvalue().splitlines()


def first_fault(shown, printed):
    """Return the first line of the page that does not come where it stands, or None.

    `...` stands for anything within a line, and alone for any number of lines. Lines that the page leaves out are a
    fault as well.
    """
    places = {0}  # how many printed lines may have been read so far
    for line in [*shown, None]:
        if line is None:
            return None if len(printed) in places else printed[max(places)]
        if line == "...":
            places = set(range(min(places), len(printed) + 1))
            continue
        pattern = re.compile(".*".join(map(re.escape, line.rstrip().split("..."))))
        after = {i + 1 for i in places if i < len(printed) and pattern.fullmatch(printed[i].rstrip())}
        if not after:
            return line
        places = after
    return None


def test_every_line_of_the_page_is_what_comes(tmp_path, monkeypatch):
    paint_photos(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fgvc, "fit", lambda *words, **keys: in_python.fit(*words, *SHORT, **keys), raising=False)
    python = code.InteractiveConsole()
    for line, shown in steps_of(PAGE.read_text(encoding="utf-8")):
        printed = typed(line, python)
        fault = first_fault(shown, printed)
        assert fault is None, "\n".join([f"{line}: not as shown: {fault!r}; what came:", *printed])


PRINTED = ["recipe: small", "loss 1.25", "model: runs/a", "next: fgvc test"]


@pytest.mark.parametrize(
    ("shown", "fault"),
    [
        (PRINTED, None),
        (["recipe: small", "loss ...", "...", "next: ..."], None),
        (["...", "next: fgvc test", "..."], None),
        (["recipe: big", "..."], "recipe: big"),
        (["...", "loss 1.26", "..."], "loss 1.26"),
        (["...", "model: runs/a", "loss 1.25", "..."], "loss 1.25"),
        (["recipe: small", "model: runs/a", "..."], "model: runs/a"),
        (["recipe: small", "loss 1.25"], "model: runs/a"),
        ([*PRINTED, "more"], "more"),
    ],
)
def test_a_wrong_line_is_seen(shown, fault):
    assert first_fault(shown, PRINTED) == fault
