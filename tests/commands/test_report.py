import base64
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from fakes.cub import make_fake_cub
from fakes.fake_run import random_rows, rows_of, write
from fakes.tiny_run import make_photos
from PIL import Image

from fgvc.commands.report import main
from fgvc.data.sources.cub import CUB
from fgvc.data.sources.generated_birds import GeneratedBirds
from fgvc.data.sources.image_folder import ImageFolder
from fgvc.data.sources.table import Table
from fgvc.errors import FgvcError, UsageError
from fgvc.files.run_folder import PHOTOGRAPHS
from fgvc.report.page import PAGE
from fgvc.report.photographs import SIDE

BIRDS = {
    "num_orders": 1, "families_per_order": 1, "genera_per_family": 2, "species_per_genus": 2, "train_per_class": 1,
    "val_per_class": 0, "test_per_class": 1, "image_size": 96, "mark_size": 0.03, "seed": 0,
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A run whose photographs lie in tmp_path/photos."""
    for i, row in enumerate(rows_of()):
        path = tmp_path / "photos" / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300, 200), (i, 0, 200)).save(path)
    return write(tmp_path / "runs" / "one", rows_of())


def pictures(run):
    """Return the photographs of the page, in its order."""
    text = (run / PAGE).read_text(encoding="utf-8")
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def config(source, **arguments):
    return yaml.safe_dump({"data": {"source": {"class_path": source, "init_args": arguments}}})


def test_a_page_is_written_and_named(run, tmp_path, capsys):
    assert main([str(run), "--images", str(tmp_path / "photos")]) == 0
    out, err = capsys.readouterr()
    assert out == "" and err == f"{run / PAGE}\n"
    assert "not shown" not in (run / PAGE).read_text(encoding="utf-8")
    assert sorted(path.name for path in run.iterdir()) == ["predictions_test.csv", PAGE]
    shots = pictures(run)
    assert [shot.size for shot in shots] == [(SIDE, round(SIDE * 2 / 3))] * 7
    # Row 3 is the surest herring gull that was taken for a common gull.
    assert np.abs(np.asarray(shots[0]).astype(int)[50, 80] - (3, 0, 200)).max() <= 3


def test_an_old_page_is_replaced_and_latest_is_followed(run, tmp_path):
    (run / PAGE).write_text("old")
    (run.parent / "latest").write_text("one\n")
    main([str(run.parent / "latest"), "--images", str(tmp_path)])
    assert (run / PAGE).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_missing_and_damaged_photographs_leave_squares_and_a_note(run, tmp_path):
    first, *_, last = rows_of()
    (tmp_path / "photos" / first["path"]).unlink()
    (tmp_path / "photos" / last["path"]).write_bytes(b"no picture")
    main([str(run), "--images", str(tmp_path / "photos")])
    text = (run / PAGE).read_text(encoding="utf-8")
    assert "2 of 6 photographs are not shown (first: " in text and "herring gull/0.png" in text
    assert len(pictures(run)) == 5


def test_a_run_without_config_has_grey_squares_alone(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main([str(run)]) == 0
    text = (run / PAGE).read_text(encoding="utf-8")
    assert "6 of 6 photographs are not shown" in text and pictures(run) == []
    assert f"fgvc report {run} --images FOLDER" in text


@pytest.mark.parametrize("kind", ["cub", "image_folder", "table", "absolute", "generated_birds"])
def test_photographs_are_found_where_each_source_has_them(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    if kind == "cub":
        source = CUB(str(make_fake_cub(tmp_path / "birds", num_classes=2)))
    elif kind == "image_folder":
        source = ImageFolder(str(make_photos(tmp_path / "birds", val=0)))
    elif kind in ("table", "absolute"):
        root = make_photos(tmp_path / "birds", val=0, test=0)
        start = root if kind == "absolute" else Path()
        rows = [f"{start / path.relative_to(root)},{path.parent.name}" for path in sorted(root.rglob("*.png"))]
        (root / "list.csv").write_text("\n".join(["path,label", *rows]))
        source = Table(str(root / "list.csv"))
    else:
        source = GeneratedBirds(**BIRDS, root=str(tmp_path / "made"))
    records = source.records("test")
    rows = random_rows(len(records), 2, ("species",), error=1.0)
    for i, row in enumerate(rows):
        row["path"] = records.relative_path(i)
    recorded = json.dumps({PHOTOGRAPHS: str(Path(records.root).absolute())})
    run = write(tmp_path / "runs" / "one", rows, test_json=recorded)
    monkeypatch.chdir(run)
    main([str(run)])
    assert "not shown" not in (run / PAGE).read_text(encoding="utf-8")
    means = [np.asarray(Image.open(record.path).convert("RGB")).mean((0, 1)) for record in records]
    shown = pictures(run)
    assert shown
    for shot in shown:
        assert min(np.abs(np.asarray(shot).mean((0, 1)) - mean).max() for mean in means) < 4


@pytest.mark.parametrize(
    "arguments", [{"root": "photos"}, {"root": None, "path": "photos/list.csv"}, {"root": "photos", "path": "list.csv"}]
)
@pytest.mark.parametrize("recorded", [None, "/nowhere/photos", 7])
def test_a_run_that_knows_no_folder_asks_its_config(run, tmp_path, monkeypatch, arguments, recorded):
    monkeypatch.chdir(tmp_path)
    files = {} if recorded is None else {"test_json": json.dumps({PHOTOGRAPHS: recorded, "test/loss": 0.5})}
    write(run, config_yaml=config("Table", **arguments), **files)
    main([str(run)])
    assert len(pictures(run)) == 7
    assert "/nowhere" not in (run / PAGE).read_text(encoding="utf-8")


def test_the_folder_that_is_given_beats_the_recorded_one(run, tmp_path):
    (tmp_path / "empty").mkdir()
    write(run, test_json=json.dumps({PHOTOGRAPHS: str(tmp_path / "photos")}))
    main([str(run), "--images", str(tmp_path / "empty")])
    assert pictures(run) == []
    main([str(run)])
    assert len(pictures(run)) == 7


def test_a_root_is_looked_for_beside_the_folder_of_runs(run, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    write(run, config_yaml=config("fgvc.data.sources.image_folder.ImageFolder", root="photos"))
    main([str(run)])
    assert len(pictures(run)) == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}/none"], "no run folder"),
        (["{run}", "--images", "{run}/none"], "no such folder"),
        (["{empty}"], "fgvc test"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(run, tmp_path, words, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=message) as error:
        main([word.format(run=run, empty=tmp_path / "empty") for word in words])
    assert "\n" not in str(error.value)
    assert not (run / PAGE).exists()


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(run):
    run.chmod(0o500)
    with pytest.raises(FgvcError, match="cannot be written"):
        main([str(run)])
    run.chmod(0o700)


def test_a_page_stays_below_three_megabytes(tmp_path):
    rows = random_rows(4000, 1000, error=0.9)
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(noise).save(tmp_path / "photos" / "a.jpg")
    rows = [row | {"path": "a.jpg", "boxes": "[[0, 0, 0.5, 0.5]]"} for row in rows]
    run = write(tmp_path / "run", rows)
    main([str(run), "--images", str(tmp_path / "photos")])
    assert 20 < len(pictures(run)) <= 60
    assert (run / PAGE).stat().st_size < 3_000_000


def test_neither_torch_nor_lightning_is_loaded(run):
    code = "import sys; from fgvc.commands.report import main; main(sys.argv[1:]); print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "fgvc.report.page" in loaded
    assert not loaded & {"torch", "timm", "pytorch_lightning", "albumentations", "fgvc.data"}
