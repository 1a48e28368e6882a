import csv
import io
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.tiny_model import LEAVES, certified, saved

from fgvc.__main__ import main
from fgvc.taxonomy.tree import Taxonomy

STORED = Path(__file__).parents[1] / "stored"


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run folder with a model and test scores."""
    monkeypatch.chdir(tmp_path)
    saved(Path("run"), temperatures={"species": 1.5}, vouching=certified(0.5))
    path = Path("run/model/fgvc.json")
    described = json.loads(path.read_text())
    described["provenance"] = {
        "run": "run", "metrics": {"val/species/top1": 0.5}, "command": ["fgvc", "fit"],
        "calibration": {"split": "val", "images": 9, "ece_before": {"species": 0.25}, "ece_after": {"species": 0.125}},
    }  # fmt: skip
    described["readout"] = "marginal"
    path.write_text(json.dumps(described))
    Path("run/test.json").write_text('{"test/species/top1": 0.75, "test/loss": NaN, "photographs": "/photos"}')
    source = "class_path: fgvc.data.sources.image_folder.ImageFolder, init_args: {root: photos}"
    Path("run/config.yaml").write_text(f"data: {{source: {{{source}}}}}")
    return Path("run")


def fgvc(capsys, *words) -> str:
    assert main(["info", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_a_run_is_told_in_full(run, capsys):
    lines = fgvc(capsys, run).splitlines()
    assert lines[0] == "run/model"
    for line in (
        "  WholeImage()",
        "    backbone: Backbone(name=test_resnet, weights=none)",
        "    head: LinearHead()",
        "  photograph  its centred square, 32 px, area",
        "  answer      the most probable species and its family, genus; the probability",
        "              of each level above: the sum over the species below (marginal)",
        "  format      6, written by fgvc 0.1.0",
        "  genus       4: Carduelis, Fringilla, Strix, Tyto",
        "  species     5: Goldfinch, Siskin, Brambling, Tawny Owl, Barn Owl",
        "    val/species/top1                               0.5000",
        "    test/species/top1                              0.7500",
        "    test/loss                                not a number",
        "  calibration error, before and after calibrating on 9 val images, on the",
        "    species                                  0.250 -> 0.125",
        "    95 % right: 100.0 % of 1000 images answered (probability 0.521 or more)",
        "  data        ImageFolder in photos",
        "  command     fgvc fit",
    ):
        assert line in lines


def test_the_model_folder_alone_tells_what_it_holds(run, capsys):
    shutil.copytree(run / "model", "shared")
    out = fgvc(capsys, "shared")
    assert "0.5000" in out and "on the test images" not in out and "data " not in out


def test_json_holds_the_same_numbers(run, capsys):
    found = json.loads(fgvc(capsys, run, "--json"))
    state = {name: value for name, value in found["weights"].items() if name in ("bytes", "sha256_checked", "types")}
    assert state == {
        "bytes": (run / "model/model.safetensors").stat().st_size,
        "sha256_checked": True,
        "types": ["F32", "I64"],
    }
    digest = subprocess.run(["sha256sum", run / "model/model.safetensors"], capture_output=True, text=True, check=True)
    assert found["weights"]["sha256"] == digest.stdout.split()[0]
    from safetensors.torch import load_file

    tensors = load_file(run / "model/model.safetensors")
    assert (found["weights"]["tensors"], found["weights"]["numbers"]) == (
        len(tensors),
        sum(math.prod(value.shape) for value in tensors.values()),
    )
    assert found["readout"] == "marginal"
    assert found["test"] == {"test/species/top1": 0.75, "test/loss": None}
    assert found["levels"]["family"] == {"classes": 2, "first": ["Finches", "Owls"]}
    assert [one["precision"] for one in found["vouched"]] == [0.8, 0.9, 0.95]
    assert (found["format"], found["temperatures"], found["data"]) == (6, {"species": 1.5}, "ImageFolder in photos")


def test_classes_are_a_table(run, capsys):
    rows = list(csv.reader(io.StringIO(fgvc(capsys, run, "--classes"))))
    assert rows == [["family", "genus", "species"], *map(list, LEAVES)]


def test_names_that_are_no_utf8_are_bytes_in_the_table_and_escapes_elsewhere(tmp_path):
    saved(tmp_path, taxonomy=Taxonomy.flat([os.fsdecode(b"M\xf6we"), "鳥"]))
    words = [sys.executable, "-m", "fgvc", "info", str(tmp_path)]
    plain, table, data = (
        subprocess.run([*words, *more], capture_output=True, check=True).stdout
        for more in ([], ["--classes"], ["--json"])
    )
    assert "2: M\\udcf6we, 鳥".encode() in plain
    assert table == b"class\nM\xf6we\n\xe9\xb3\xa5\n"
    assert json.loads(data)["levels"]["class"]["first"] == ["M\udcf6we", "鳥"]


@pytest.mark.parametrize("home", sorted(STORED.glob("format_*")), ids=lambda path: path.name)
def test_older_formats_are_told_too(home, capsys):
    out = fgvc(capsys, home)
    assert f"format      {home.name[-1]}, written by fgvc 0.1.0" in out
    assert "3,917 numbers in 100 tensors (F32, I64), 25.2 kB" in out


@pytest.mark.parametrize(
    ("spoil", "said", "code"),
    [
        (lambda run: shutil.rmtree(run / "model"),
         "run: no model here yet; finish the run first: fgvc fit --resume run", 2),
        (lambda run: (run / "model/model.safetensors").unlink(),
         "run/model/model.safetensors: missing; copy it again", 1),
        (lambda run: (run / "model/fgvc.json").write_text("{}"),
         "run/model/fgvc.json: format: missing; an integer of 1 to 6: is it an fgvc model description?", 1),
        (lambda run: (run / "test.json").write_text("{"),
         "run/test.json: cannot be read (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); "
         "run fgvc test run again", 2),
        (lambda run: (run / "test.json").write_text("[]"),
         "run/test.json: no mapping of scores; run fgvc test run again", 2),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(run, capsys, spoil, said, code):
    spoil(run)
    assert main(["info", "run"]) == code
    assert capsys.readouterr().err == f"fgvc: {said}\n"


def test_only_one_kind_of_answer_at_a_time(run, capsys):
    assert main(["info", "run", "--json", "--classes"]) == 2
    said = "argument --classes: not allowed with argument --json; fgvc info --help says what it takes"
    assert capsys.readouterr().err == f"fgvc: {said}\n"
