import csv
import io
import json
import os
import re
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_model import LEAVES, certified, saved

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


@pytest.fixture(scope="module")
def sure(tmp_path_factory):
    """A run whose model vouches for answers from a probability of 0.7 on."""
    return str(saved(tmp_path_factory.mktemp("runs") / "sure", vouching=certified(0.7)))


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
        ([".", "--precision", "95"], r"^--precision 95: a share between 0 and 1, e\.g\. 0\.95"),
        ([".", "--precision", "nan"], "--precision nan"),
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


def test_the_answer_that_can_be_vouched_for_stands_after_the_path(sure, photos, capsys):
    (photos / "bird 0.png").write_bytes(b"not a picture")
    assert main([sure, str(photos), "--top_k", "3", "--precision", "0.9"]) == 1
    rows = table(capsys.readouterr().out)
    assert list(rows[0]) == [HEADER[0], "answer", "answer_level", "answer_score", *HEADER[1:]]
    assert "not a picture" in rows[0]["error"] and set(list(rows[0].values())[1:-1]) == {""}
    for row in rows[1:]:
        reached = [level for level in ("family", "genus", "species") if float(row[f"{level}_score"]) >= 0.7]
        if reached:
            assert row["answer"] == row[reached[-1]] and row["answer_level"] == reached[-1]
            assert row["answer_score"] == row[f"{reached[-1]}_score"]
        else:
            assert (row["answer"], row["answer_level"], row["answer_score"]) == ("unknown", "", "")


def test_json_has_an_answer_only_where_a_precision_was_asked_for(sure, photos, tmp_path, capsys):
    for flags, count in (([], 0), (["--precision", "0.9"], 3)):
        output = tmp_path / f"{count}.jsonl"
        assert main([sure, str(photos), "--output", str(output), *flags]) == 0
        lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
        assert sum("answer" in line for line in lines) == sum("answer_score" in line for line in lines) == count
    assert {line["answer_level"] for line in lines} <= {None, "family", "genus", "species"}


def test_a_precision_that_cannot_be_vouched_for_ends_with_2_and_writes_nothing(run, sure, photos, tmp_path, capsys):
    for model, precision, said in ((run, "0.9", "no images were held out"), (sure, "0.9999", "must reach it")):
        command = ["predict", model, str(photos), "--precision", precision, "--output", str(tmp_path / "out.csv")]
        assert fgvc_main(command) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and f"{precision} cannot be vouched for" in err and said in err
    assert not (tmp_path / "out.csv").exists()


LISTS = {
    "plain": (b"Siskin\nTyto\n", 2, {"Siskin", "Barn Owl"}),
    "header and further columns": (b"Species,seen\nTawny Owl,2019\nBarn Owl,\n", 2, {"Tawny Owl", "Barn Owl"}),
    "header that is a level": (b"Genus\nCarduelis\n", 1, {"Goldfinch", "Siskin"}),
    "byte order mark, quotes, blanks": (
        '\ufeffname\r\n\r\n"Tawny Owl"\r\n  Siskin , x\r\n,later\r\n   \r\n'.encode(),
        2,
        {"Tawny Owl", "Siskin"},
    ),
    "twice the same, a rank above": (b"Owls\nOwls\nTyto", 2, {"Tawny Owl", "Barn Owl"}),
    "a path": (b"Finches > Fringilla", 1, {"Brambling"}),
}


@pytest.mark.parametrize("content", LISTS)
def test_a_list_restricts_the_answers(run, photos, tmp_path, capsys, content):
    text, names, leaves = LISTS[content]
    listed = tmp_path / "local.csv"
    listed.write_bytes(text)
    assert main([run, str(photos), "--top_k", "3", "--allow", str(listed)]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[0] == f"{listed}: {names} names allow {len(leaves)} of 5 classes"
    columns = ("label", "top2_label", "top3_label")
    for row in table(out):
        guesses = [row[column] for column in columns if row[column]]
        assert len(guesses) == min(3, len(leaves)) and set(guesses) <= leaves
        assert sum(float(row[name.replace("label", "score")] or 0) for name in columns) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"cannot be read as UTF-8 CSV \(.*No such file"),
        (b"Kohlm\xf6we\n", "cannot be read as UTF-8 CSV"),
        ("Siskin\n".encode("utf-16"), "cannot be read as UTF-8 CSV"),
        (b"", "names no class; write one name per row, in the first column"),
        (b"\n,Siskin\n", "names no class"),
        (b"species\n", "names no class"),
        (b"name\n\nSiskin\nTawny Owls,x\n", r", row 4: unknown class 'Tawny Owls'; did you mean 'Tawny Owl'"),
        (b"name\nSiskn\nWren\nDodo\n", r", row 2: .*'Siskn'; did you mean 'Siskin'\? \(2 more of the 3 names are"),
        (
            b"Common name\nSiskin\n",
            r", row 1 \(no header; that would be name, class, .*\): unknown class 'Common name'$",
        ),
        (b'"Sis\nkin"\n', r"'Sis\\nkin'; did you mean 'Siskin'"),
    ],
)
def test_a_list_that_is_unfit_ends_with_2_and_one_line_that_names_the_file(
    run, photos, tmp_path, capsys, content, said
):
    listed = tmp_path / "local.csv"
    if content is not None:
        listed.write_bytes(content)
    output = tmp_path / "out.csv"
    assert fgvc_main(["predict", run, str(photos), "--allow", str(listed), "--output", str(output)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith(f"fgvc: --allow {listed}")
    assert re.search(said, err.strip()) and not output.exists()


def test_a_folder_in_place_of_a_list_is_refused_before_the_model_is_read(photos, tmp_path):
    with pytest.raises(UsageError, match=rf"--allow {photos}: cannot be read"):
        main([str(tmp_path / "no model"), str(photos), "--allow", str(photos)])


def test_a_list_and_a_precision_together_come_with_a_word_of_caution(sure, photos, tmp_path, capsys):
    (tmp_path / "local.csv").write_text("Owls\n")
    flags = ["--allow", str(tmp_path / "local.csv"), "--precision", "0.9"]
    assert main([sure, str(photos), *flags]) == 0
    out, err = capsys.readouterr()
    assert {row["family"] for row in table(out)} == {"Owls"} and "unknown" not in {row["answer"] for row in table(out)}
    assert "--precision was counted without --allow" in err
