import csv
import io
import json
import os
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_model import LEAVES, saved

import fgvc
from fgvc.__main__ import main as fgvc_main
from fgvc.errors import UsageError
from fgvc.model_file import ModelFileError
from fgvc.predict_command import SHEET_PICTURES, Tally, main
from fgvc.results import Result

HEADER = [
    *("path", "label", "score", "family", "family_score", "genus", "genus_score", "species", "species_score"),
    *("top2_label", "top2_score", "top3_label", "top3_score", "error"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return str(saved(tmp_path_factory.mktemp("runs") / "tiny"))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for i in range(3):
        coarse = np.random.default_rng(i).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        (folder / "sub").mkdir(parents=True, exist_ok=True)
        name = folder / ("sub" if i == 2 else "") / f"bird {i}.png"
        Image.fromarray(coarse).resize((60, 40), Image.Resampling.BICUBIC).save(name)
    return folder


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_stdout_is_a_clean_csv_and_the_rest_goes_to_stderr(run, photos, capsys):
    assert main([run, str(photos), "--top_k", "3"]) == 0
    out, err = capsys.readouterr()
    rows = table(out)
    assert list(rows[0]) == HEADER
    assert [row["path"] for row in rows] == [
        str(photos / name) for name in ("bird 0.png", "bird 1.png", "sub/bird 2.png")
    ]
    for row, result in zip(rows, fgvc.load(run).predict(photos, top_k=3), strict=True):
        assert (row["family"], row["genus"], row["label"]) in LEAVES and row["species"] == row["label"]
        assert row["label"] == result.label and row["top3_label"] == result.top[2].label
        assert float(row["score"]) == pytest.approx(result.score, abs=2e-6)
        assert float(row["genus_score"]) == pytest.approx(result.lineage_scores["genus"], abs=2e-6)
        assert row["error"] == ""
    assert len(err.strip().splitlines()) == 1
    assert "3 pictures, 0 failed" in err and "images/s" in err and "stdout" in err


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
def test_every_format_holds_the_same_answers(run, photos, tmp_path, capsys, suffix):
    output = tmp_path / "new" / f"out.{suffix}"
    assert main([run, str(photos), "--output", str(output)]) == 0
    out, err = capsys.readouterr()
    assert out == "" and str(output) in err
    text = output.read_text(encoding="utf-8")
    if suffix == "csv":
        found = [(row["path"], row["label"]) for row in table(text)]
    else:
        plain = json.loads(text) if suffix == "json" else [json.loads(line) for line in text.splitlines()]
        found = [(item["path"], item["label"]) for item in plain]
    assert found == [(result.path, result.label) for result in fgvc.load(run).predict(photos)]
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_an_unreadable_picture_keeps_its_row_and_the_exit_code_is_1(run, photos, capsys):
    (photos / "bird 1.png").write_bytes(b"not a picture")
    assert main([run, str(photos), "--batch_size", "2"]) == 1
    out, err = capsys.readouterr()
    rows = table(out)
    assert [bool(row["label"]) for row in rows] == [True, False, True]
    assert "bird 1.png: not a picture" in rows[1]["error"] and rows[1]["score"] == ""
    assert "3 pictures, 1 failed (first: " in err


def test_a_folder_without_pictures_is_a_failure(run, tmp_path, capsys):
    assert main([run, str(tmp_path)]) == 1
    assert "without pictures" in table(capsys.readouterr().out)[0]["error"]


def test_an_existing_output_is_refused_unless_told(run, photos, tmp_path, capsys):
    for flag, name in (("--output", "out.csv"), ("--sheet", "sheet.png")):
        (tmp_path / name).write_text("precious")
        assert fgvc_main(["predict", run, str(photos), flag, str(tmp_path / name)]) == 2
        assert capsys.readouterr().err.startswith(f"fgvc: {tmp_path / name}: exists already")
        assert (tmp_path / name).read_text() == "precious"
    assert main([run, str(photos), "--output", str(tmp_path / "out.csv"), "--overwrite"]) == 0
    assert len(table((tmp_path / "out.csv").read_text())) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone.jpg"], r"gone\.jpg: no such picture or folder"),
        ([".", "--output", "out.xlsx"], r"not '\.xlsx'"),
        ([".", "--sheet", "sheet.gif"], r"not '\.gif'"),
        ([".", "--top_k", "0"], "top_k: 0"),
        ([".", "--device", "gpu"], "device: 'gpu'"),
    ],
)
def test_a_wrong_flag_is_a_usage_error(run, words, said):
    with pytest.raises(UsageError, match=said):
        main([run, *words])


def test_argparse_and_a_missing_model_end_with_their_codes(photos, tmp_path, capsys):
    with pytest.raises(SystemExit) as usage:
        main(["only-a-model"])
    assert usage.value.code == 2
    with pytest.raises(ModelFileError):
        main([str(tmp_path), str(photos)])
    assert capsys.readouterr().out == ""


def test_paths_are_read_from_stdin_even_with_odd_bytes(run, photos, capfdbinary, monkeypatch):
    odd = os.fsdecode(b"caf\xe9.png")
    lines = [str(photos / "bird 0.png"), "", str(photos / "sub"), odd]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(os.fsencode("\n".join(lines)))))
    assert main([run, "-"]) == 1
    rows = table(os.fsdecode(capfdbinary.readouterr().out))
    assert [row["path"] for row in rows] == [str(photos / "bird 0.png"), str(photos / "sub" / "bird 2.png"), odd]
    assert "cannot be read" in rows[2]["error"]


def test_zero_bytes_on_stdin_are_explained(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.png\0b.png\0")))
    with pytest.raises(UsageError, match="-print0"):
        main([run, "-"])


def test_a_sheet_of_the_readable_pictures_is_drawn(run, photos, tmp_path, capsys):
    (photos / "bird 1.png").write_bytes(b"")
    assert main([run, str(photos), "--sheet", str(tmp_path / "sheet.jpg")]) == 1
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert 2 * 192 < sheet.width < 3 * 192  # two tiles, not three
    assert str(tmp_path / "sheet.jpg") in capsys.readouterr().err


@pytest.mark.parametrize("total", [1, 47, 48, 49, 95, 1000, 10_007])
def test_the_sheet_is_spread_over_all_pictures(total, capsys):
    tally = Tally(total)
    list(tally.watched(Result(str(i), "x", 0.5) for i in range(total)))
    chosen = [int(result.path) for result in tally.shown]
    assert len(chosen) == min(total, SHEET_PICTURES) and chosen[0] == 0
    assert max(np.diff([*chosen, total])) <= -(-total // SHEET_PICTURES)


def test_without_a_total_the_first_pictures_are_shown(capsys):
    tally = Tally(None)
    list(tally.watched(Result(str(i), "x", 0.5) for i in range(100)))
    assert [result.path for result in tally.shown] == [str(i) for i in range(SHEET_PICTURES)]
