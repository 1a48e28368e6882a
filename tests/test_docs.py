"""What the documents tell a reader to type or to open is there."""

import re
from pathlib import Path

import pytest

from fgvc.__main__ import COMMANDS
from fgvc.files.shipped import config_stems

REPO = Path(__file__).parents[1]
RESULTS = REPO / "docs" / "results"
PAGES = [REPO / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")]
PAGES += [*sorted((REPO / "docs").glob("*.md")), *sorted(RESULTS.glob("*.md"))]
SCRIPTS = sorted((REPO / "benchmarks").rglob("*.py"))
WORD = r"[a-z_][\w-]*"


def code_of(text):
    """Return what is set as code: fenced blocks, spans between backticks, indented lines."""
    fence = r"(?ms)^ *```\w*\n(.*?)^ *```"
    fenced, prose = re.findall(fence, text), re.sub(fence, "", text)
    return "\n".join([*fenced, *re.findall(r"`([^`]+)`", prose), *re.findall(r"(?m)^ {4}(.*)", prose)])


def faults_of(text, page):
    """Return one line for each module, command, config, file or link of a document that is not there.

    Args:
        text: Markdown, or the text of a script with commands in its docstring.
        page: its path; links start from its folder.
    """
    code, faults = code_of(text), []
    for module in re.findall(r"python3? -m ((?:benchmarks|fgvc)[\w.]*)", code):
        path = REPO.joinpath(*module.split("."))
        if not path.with_suffix(".py").is_file() and not (path / "__main__.py").is_file():
            faults.append(f"python -m {module}: no such module")
    groups = {name.partition(" ")[0] for name in COMMANDS if " " in name}
    for command, second in re.findall(rf"(?m)(?:^|[|$;(] ?|eval |do |\A)\s*fgvc ({WORD})(?: ({WORD}))?", code):
        is_second = command in groups and (command not in COMMANDS or f"{command} {second}" in COMMANDS)
        name = f"{command} {second}" if is_second else command
        if name not in COMMANDS and not (command in groups and not second) and not name.startswith("my_"):
            faults.append(f"fgvc {name}: no such command")
    for config in re.findall(r"--config[ =]([\w./-]+)", code):
        known = (REPO / config).is_file() if "/" in config else config in config_stems()
        if not known and (config.startswith(("benchmarks/", "configs/")) or re.fullmatch(r"[a-z]\w*", config)):
            faults.append(f"--config {config}: no such config")
    for file in re.findall(r"\b((?:fgvc|benchmarks|configs|tests|docs)/[\w./]*\w\.(?:py|yaml|md|csv))\b", text):
        if not (REPO / file).is_file() and "my_" not in file:
            faults.append(f"{file}: no such file")
    for link in re.findall(r"\]\(([^)\s]+)\)", text) if page.suffix == ".md" else []:
        if "://" not in link and not link.startswith("#") and not (page.parent / link.partition("#")[0]).exists():
            faults.append(f"{link}: the link leads nowhere")
    return faults


@pytest.mark.parametrize("page", [*PAGES, *SCRIPTS], ids=lambda path: str(path.relative_to(REPO)))
def test_what_is_named_is_there(page):
    assert faults_of(page.read_text(encoding="utf-8"), page) == []


GOOD = """
A page with [a link](data/README.md), `fgvc test RUN`, `python -m benchmarks.speed.cost`, `--config cub`,
`tests/conftest.py`.

```bash
for s in 0 1; do fgvc fit --config cub --config benchmarks/experiments/closer.yaml --name x; done
$ fgvc data stats photos
find . | fgvc predict runs/x -
```
"""


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    [
        ("data/README.md", "data/READYOU.md", "data/READYOU.md: the link leads nowhere"),
        ("`fgvc test RUN`", "`fgvc tset RUN`", "fgvc tset: no such command"),
        ("fgvc data stats", "fgvc data statistics", "fgvc data statistics: no such command"),
        ("| fgvc predict", "| fgvc name", "fgvc name: no such command"),
        ("do fgvc fit", "do fgvc train", "fgvc train: no such command"),
        ("speed.cost", "cost", "python -m benchmarks.cost: no such module"),
        ("--config cub`", "--config cup`", "--config cup: no such config"),
        ("closer.yaml", "further.yaml", "--config benchmarks/experiments/further.yaml: no such config"),
        ("tests/conftest.py", "tests/contest.py", "tests/contest.py: no such file"),
    ],
)
def test_the_checker_sees_each_fault(good, bad, fault):
    assert faults_of(GOOD, REPO / "page.md") == []
    assert fault in faults_of(GOOD.replace(good, bad), REPO / "page.md")


def rows(text):
    """Return (claim, figure, interval, page) of each row of the index."""
    return re.findall(r"(?m)^\| (.*?) \| (.*?) \| (.*?) \| \[.*?\]\((\w+\.md)\) \|$", text)


def unfounded(text, folder):
    """Return each figure of the index that does not stand on the page which its row names."""
    number = r"[-+]?\d+(?:[.,]\d+)*"
    faults = []
    for claim, figure, interval, page in rows(text):
        there = set(re.findall(number, (folder / page).read_text(encoding="utf-8")))
        there |= {figure.lstrip("+-") for figure in there}
        told = re.findall(number, f"{figure} {interval}")
        faults += [f"{claim}: {one} is not on {page}" for one in told if one not in there]
    return faults


def test_every_figure_of_the_index_stands_on_its_page_and_every_page_in_the_index():
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert unfounded(text, RESULTS) == []
    assert {page for *_, page in rows(text)} == {page.name for page in RESULTS.glob("*.md")} - {"README.md"}


def test_a_figure_that_is_not_on_its_page_is_seen(tmp_path):
    (tmp_path / "a.md").write_text("It was 68.2 %, +0.80 to +4.23, in 1,194 pictures.")
    assert unfounded("| x | 68.2 % of 1,194 | +0.80 to +4.23 | [a](a.md) |", tmp_path) == []
    assert unfounded("| x | 68.1 % | 0 | [a](a.md) |", tmp_path) == ["x: 68.1 is not on a.md", "x: 0 is not on a.md"]
