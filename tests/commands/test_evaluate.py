import json
from pathlib import Path

import pytest
from fakes.tiny_run import CPU, NET, data_flags, make_photos, read_csv

from fgvc.__main__ import main
from fgvc.files.run_folder import PHOTOGRAPHS
from fgvc.report.run import read

DAMAGED = "photos/{}/Larus/Larus canus/damaged.jpg"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_photos(Path("photos"), train=4, val=2, test=2)
        words = [*data_flags(Path("photos")), "--data.on_bad_image", "skip", "--trainer.max_epochs", "1"]
        assert main(["fit", *NET, *CPU, *words, "--name", "birds"]) == 0
    return folder


@pytest.mark.parametrize(("command", "split"), [("validate", "val"), ("test", "test")])
def test_an_unreadable_picture_is_left_out_and_listed(home, monkeypatch, capsys, command, split):
    monkeypatch.chdir(home)
    assert main([command, "runs/birds"]) == 0
    whole = json.loads(Path("runs/birds", f"{command}.json").read_text())
    damaged = Path(DAMAGED.format(split))
    damaged.write_bytes(b"no picture at all")
    assert main([command, "runs/birds"]) == 0
    assert json.loads(Path("runs/birds", f"{command}.json").read_text()) == whole
    said = f"1 of 7 {split} images could not be read"
    assert said in capsys.readouterr().err
    rows = [row for row in read_csv(Path("runs/birds/bad_images.csv")) if row["split"] == split]
    assert [(Path(row["path"]).name, row["label"]) for row in rows] == [("damaged.jpg", "Larus > Larus canus")]
    assert "not a picture (it begins b'no pictu')" in rows[0]["reason"]
    damaged.unlink()
    assert main([command, "runs/birds"]) == 0  # and is no longer listed once it is gone
    assert [row for row in read_csv(Path("runs/birds/bad_images.csv")) if row["split"] == split] == []


def test_a_test_records_where_its_photographs_lie(home, monkeypatch):
    monkeypatch.chdir(home)
    assert main(["test", "runs/birds"]) == 0
    assert json.loads(Path("runs/birds/test.json").read_text())[PHOTOGRAPHS] == str(home / "photos")
    assert main(["validate", "runs/birds"]) == 0
    assert PHOTOGRAPHS not in json.loads(Path("runs/birds/validate.json").read_text())
    report = read(Path("runs/birds"))
    assert report.photographs == home / "photos" and PHOTOGRAPHS not in report.final


def test_by_default_an_unreadable_picture_stops_the_test(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    damaged = Path(DAMAGED.format("test"))
    damaged.write_bytes(b"")
    assert main(["test", "runs/birds", "--data.on_bad_image", "error"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        "fgvc: photos/test/Larus/Larus canus/damaged.jpg: the file is empty; copy or download it again "
        "(test image 1 of 7), or go on without it: --data.on_bad_image skip"
    )
    damaged.unlink()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "fgvc test: give a run folder, e.g. fgvc test runs/latest"),
        (["runs/none"], "runs/none: no run folder (no config.yaml in it); give the folder that `fgvc fit` printed"),
        (
            ["--config", "runs/birds/config.yaml"],
            "fgvc test: give a run folder (fgvc test runs/NAME) or --ckpt_path with --config",
        ),
    ],
)
def test_without_a_run_there_is_nothing_to_score(home, monkeypatch, capsys, words, said):
    monkeypatch.chdir(home)
    assert main(["test", *words]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"fgvc: {said}"
