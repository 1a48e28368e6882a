import csv
import io
import json
import os
import re
import signal
import sys
import tempfile
from functools import partial
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
from fakes.processes import started, until
from fakes.tiny_model import LEAVES, certified, saved
from PIL import Image
from pyarrow import parquet

import fgvc
from fgvc.__main__ import main as fgvc_main
from fgvc.commands import predict as predict_command
from fgvc.commands.predict import main
from fgvc.errors import UsageError
from fgvc.model_file.model import ModelFileError
from fgvc.prediction.inputs import pictures_of
from fgvc.prediction.journal import Journal
from fgvc.prediction.predictor import Predictor
from fgvc.prediction.provenance import hashes_of
from fgvc.prediction.results import Result
from fgvc.prediction.tally import SHEET_PICTURES, Tally

HEADER = [
    *("path", "label", "score", "family", "family_score", "genus", "genus_score", "species", "species_score"),
    *("top2_label", "top2_score", "top3_label", "top3_score", "warning", "error"),
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
    assert sorted(path.name for path in output.parent.iterdir()) == [output.name, f"{output.name}.provenance.json"]


def test_an_unreadable_picture_keeps_its_row_and_the_exit_code_is_1(run, photos, capsys):
    (photos / "bird 1.png").write_bytes(b"not a picture")
    assert main([run, str(photos), "--batch_size", "2"]) == 1
    out, err = capsys.readouterr()
    rows = table(out)
    assert [bool(row["label"]) for row in rows] == [True, False, True]
    assert "bird 1.png: not a picture" in rows[1]["error"] and rows[1]["score"] == ""
    assert "3 pictures, 1 failed (first: " in err


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
@pytest.mark.parametrize("layout", ["wide", "long"])
def test_a_damaged_picture_is_answered_and_its_warning_written(run, photos, tmp_path, capsys, suffix, layout):
    whole = photos / "whole.jpg"
    Image.open(photos / "bird 0.png").save(whole, quality=95)
    (photos / "cut.jpg").write_bytes(whole.read_bytes()[:-2])
    words = ["--output", str(tmp_path / f"out.{suffix}"), "--layout", layout]
    assert main([run, str(photos / "cut.jpg"), str(whole), *words]) == 0
    err = capsys.readouterr().err
    warning = "the end of the file is missing, no pixel is lost; copy or download it again"
    assert f"2 pictures, 0 failed, 1 with a warning (first: {photos / 'cut.jpg'}: {warning}), " in err
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist() if suffix == "parquet" else None
    text = None if rows else (tmp_path / f"out.{suffix}").read_text()
    if suffix == "csv":
        rows = table(text)
    elif suffix == "json":
        rows = json.loads(text)
    elif suffix == "jsonl":
        rows = [json.loads(line) for line in text.splitlines()]
    told = {(Path(row["path"]).name, row["warning"] or None) for row in rows}
    assert told == {("cut.jpg", warning), ("whole.jpg", None)}


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
    with pytest.raises(UsageError, match="required: INPUT; fgvc predict --help says what it takes"):
        main(["only-a-model"])
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


def test_the_sheet_shows_what_is_vouched_for(tmp_path, photos, monkeypatch):
    run = str(saved(tmp_path / "sure", vouching=certified(0.97)))
    drawn = []

    def draw(tiles):
        drawn.extend(tiles)
        return np.zeros((9, 9, 3), np.uint8)

    monkeypatch.setattr(predict_command.contact_sheet, "contact_sheet", draw)
    files = ["--output", str(tmp_path / "a.json"), "--sheet", str(tmp_path / "a.png")]
    assert main([run, str(photos), "--precision", "0.95", *files]) == 0
    rows = json.loads((tmp_path / "a.json").read_text())
    assert [(tile.label, tile.score) for tile in drawn] == [(row["answer"], row["answer_score"]) for row in rows]
    assert any(row["answer"] != row["label"] for row in rows)  # the sheet drew the forced leaf


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
    for model, precision, said in (
        (run, "0.9", "no images were held out"),
        (sure, "0.9999", "it needs 23025 counted answers without a mistake"),
    ):
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


def typed(monkeypatch, run, paths, *words):
    """Run the command in this process with a list of paths on stdin, and return its exit code."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(os.fsencode("\n".join(paths)))))
    return fgvc_main(["predict", run, "-", *map(str, words)])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "ctrl-c"])
def test_a_stopped_run_goes_on_when_the_same_command_is_given_again(run, photos, tmp_path, capsys, monkeypatch, how):
    paths = [*map(str, sorted(photos.rglob("*.png"))), str(photos / "gone.png")] * 2
    output, kept = tmp_path / "out.csv", tmp_path / ".out.csv.part.jsonl"
    words = ["--output", str(output), "--batch_size", "2", "--top_k", "2"]
    command = [sys.executable, "-m", "fgvc", "predict", run, "-", *words]
    with started(command, stdin=PIPE, stderr=PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        process.stdin.write("\n".join([*paths[:7], ""]).encode())
        process.stdin.flush()  # and the pipe stays open: seven are known, two batches are answered, the rest waits
        until(lambda: kept.is_file() and kept.read_bytes().count(b"\n") >= 1 + 4, process)
        process.send_signal(how)
        err = process.communicate()[1].decode()
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130}[how]
    if how == signal.SIGINT:
        said = f"fgvc: interrupted; 4 answers kept in {kept}, the same command goes on from there\n"
        assert err.endswith(said)
    assert not output.exists()

    Image.open(paths[0]).save(paths[3])  # what could not be read is there now
    capsys.readouterr()
    assert typed(monkeypatch, run, paths, *words) == 0
    err = capsys.readouterr().err.splitlines()
    assert err[0] == f"{output}: 3 answers of a stopped run are taken over" and err[1].startswith(
        "8 pictures, 0 failed"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.csv.provenance.json", "photos"]
    counts = json.loads((tmp_path / "out.csv.provenance.json").read_text())["counts"]
    assert counts == {"pictures": 8, "failed": 0, "taken_over": 6}  # each of the three stands there twice

    assert typed(monkeypatch, run, paths, "--output", tmp_path / "straight.csv", *words[2:]) == 0
    found, straight = (table((tmp_path / name).read_text()) for name in ("out.csv", "straight.csv"))
    assert [row["path"] for row in found] == paths and len(found) == len(straight)
    for row, other in zip(found, straight, strict=True):
        assert [row[key] for key in ("path", "label", "genus", "top2_label")] == [
            other[key] for key in ("path", "label", "genus", "top2_label")
        ]
        assert float(row["score"]) == pytest.approx(float(other["score"]), abs=3e-6)


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_a_resumed_run_gives_the_last_digits_of_a_straight_one(run, tmp_path, monkeypatch, stop):
    paths = [tmp_path / f"{i}.png" for i in range(10)]
    for i, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    seen, predictor, straight, output = [], fgvc.load(run), tmp_path / "straight.jsonl", tmp_path / "out.jsonl"
    scores = Predictor.scores
    monkeypatch.setattr(Predictor, "scores", lambda self, images: seen.append(len(images)) or scores(self, images))
    words = ["--batch_size", "4"]
    assert typed(monkeypatch, run, map(str, paths), "--output", straight, *words) == 0
    with pytest.raises(KeyboardInterrupt), Journal(output, {**_terms_of(run), "--top_k": 5}) as journal:
        predict = partial(predictor.predict_batches, batch_size=4)
        list(islice(journal.answered(map(str, paths), predict, 4), stop))
        raise KeyboardInterrupt
    seen.clear()
    assert typed(monkeypatch, run, map(str, paths), "--output", output, *words) == 0
    assert output.read_bytes() == straight.read_bytes()
    assert seen[1:] == [4, 4, 2][stop // 4 :]  # the first one asks whether there are boxes


def test_answers_of_another_model_or_other_options_are_not_mixed_in(run, sure, photos, tmp_path, capsys):
    output, kept = tmp_path / "out.csv", tmp_path / ".out.csv.part.jsonl"
    terms = {**_terms_of(run), "--top_k": 3}
    with pytest.raises(KeyboardInterrupt), Journal(output, terms) as journal:
        next(
            journal.answered(
                ["x.png"], lambda batches: (Result(path, "old", 0.5) for path in chain.from_iterable(batches))
            )
        )
        raise KeyboardInterrupt
    for words, said in (
        ([run], "--top_k 3, not 5"),
        ([run, "--top_k", "3", "--precision", "0.9"], "cannot be vouched for"),
        ([sure, "--top_k", "3"], f"fgvc.json {terms['fgvc.json']}, not {_terms_of(sure)['fgvc.json']}"),
    ):
        assert fgvc_main(["predict", words[0], str(photos), "--output", str(output), *words[1:]]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and said in err
        if "cannot be" not in said:
            rest = "give the same again to go on, or --overwrite to start over"
            start = f"fgvc: {output}: a stopped run left answers in .out.csv.part.jsonl with "
            assert err == f"{start}{said}; {rest}\n"
    assert kept.is_file() and not output.exists()
    assert main([run, str(photos), "--output", str(output), "--overwrite"]) == 0
    assert len(table(output.read_text())) == 3 and "taken over" not in capsys.readouterr().err


def _terms_of(run):
    options = {"--top_k": 5, "--precision": None, "--allow": None, "--max_pixels": 120_000_000, "--any_format": False}
    return {"fgvc": version("fgvc"), **hashes_of(Path(run)), **options}


def test_long_has_a_row_per_guess_in_every_format(run, photos, tmp_path, capsys):
    (photos / "bird 1.png").write_bytes(b"no")
    words = [run, str(photos), "--top_k", "2", "--layout", "long"]
    assert main(words) == 1
    rows = table(capsys.readouterr().out)
    assert list(rows[0]) == ["path", "rank", "label", "score", "family", "genus", "species", "warning", "error"]
    assert [row["rank"] for row in rows] == ["1", "2", "", "1", "2"]
    assert all((row["family"], row["genus"], row["label"]) in LEAVES for row in rows if row["rank"])
    assert main([*words, "--output", str(tmp_path / "out.parquet")]) == 1
    found = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [["" if cell is None else str(cell) for name, cell in row.items() if name != "score"] for row in found] == [
        [cell for name, cell in row.items() if name != "score"] for row in rows
    ]
    assert main([*words, "--format", "jsonl"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == found


def test_a_format_may_be_given_whatever_the_suffix(run, photos, tmp_path, capsys):
    assert main([run, str(photos), "--format", "json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert main([run, str(photos), "--format", "jsonl", "--output", str(tmp_path / "answers")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "answers").read_text().splitlines()]
    assert [line["label"] for line in lines] == [result["label"] for result in results] and len(lines) == 3
    assert fgvc_main(["predict", run, str(photos), "--format", "parquet"]) == 2
    assert capsys.readouterr().err.endswith(
        "fgvc: --format parquet: does not go to stdout; give --output FILE.parquet\n"
    )


def test_keep_going_ends_with_0_where_pictures_could_not_be_read(run, photos, capsys):
    (photos / "bird 1.png").write_bytes(b"")
    assert main([run, str(photos)]) == 1
    assert main([run, str(photos), "--keep_going"]) == 0
    assert "3 pictures, 1 failed" in capsys.readouterr().err


def test_the_provenance_names_model_command_and_counts(run, photos, tmp_path, capsys):
    (photos / "bird 1.png").write_bytes(b"")
    words = [run, str(photos), "--output", str(tmp_path / "out.csv"), "--keep_going"]
    assert main(words) == 0
    found = json.loads((tmp_path / "out.csv.provenance.json").read_text())
    assert found["command"] == ["fgvc", "predict", *words]
    answered = {"readout": "own", "temperatures": fgvc.load(run).model.temperatures}
    assert found["model"] == {"path": run, "sha256": hashes_of(Path(run)), "device": "cpu", **answered}
    assert found["options"]["top_k"] == 5 and found["options"]["layout"] == "wide"
    assert found["counts"] == {"pictures": 3, "failed": 1, "taken_over": 0}
    assert main([run, str(photos)]) == 1
    assert [path.name for path in tmp_path.glob("*.provenance.json")] == ["out.csv.provenance.json"]  # not for stdout


def test_a_file_that_vanishes_between_listing_and_reading_keeps_its_row(run, photos, capsys, monkeypatch):
    def listed(inputs, passed):
        pictures, total = pictures_of(inputs, passed)
        found = list(pictures)
        (photos / "bird 1.png").unlink()
        return found, total

    monkeypatch.setattr(predict_command, "pictures_of", listed)
    assert fgvc_main(["predict", run, str(photos)]) == 1
    rows = table(capsys.readouterr().out)
    gone = photos / "bird 1.png"
    assert [row["error"] for row in rows] == ["", f"{gone}: cannot be read (No such file or directory)", ""]
    assert [bool(row["label"]) for row in rows] == [True, False, True]


def test_blanks_letters_and_line_breaks_in_names_and_loops_of_links(run, photos, tmp_path, capsys):
    odd = photos / 'mésange à tête\nbleue, "1".png'
    (photos / "bird 1.png").rename(odd)
    (photos / "loop").symlink_to(photos)
    (photos / "self.png").symlink_to("self.png")
    assert fgvc_main(["predict", run, str(photos), "--output", str(tmp_path / "out.csv")]) == 1
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = ["bird 0.png", odd.name, "self.png", "sub/bird 2.png"]
    assert [row["path"] for row in rows] == [str(photos / name) for name in names]
    assert [row["error"] for row in rows] == [
        *("", "", f"{photos / 'self.png'}: cannot be read (Too many levels of symbolic links)", "")
    ]
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith(
        f"4 pictures, 1 failed (first: {photos / 'self.png'}: cannot be read "
    )


def test_tables_lists_and_patterns_are_answered_as_their_pictures(run, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["photos/bird 0.png", "photos/bird 1.png", "photos/sub/bird 2.png"]
    assert main([run, *names]) == 0
    wanted = table(capsys.readouterr().out)
    (tmp_path / "t.csv").write_text("\n".join(["foto;kind", *(f"{name};x" for name in names)]))
    (tmp_path / "list.txt").write_text("\n".join(names))
    for words in (
        ["photos/bird*.png", "photos/**/*2.png"],
        ["t.csv", "--path_column", "foto"],
        ["list.txt"],
        ["@list.txt"],
    ):
        assert main([run, *words]) == 0
        assert table(capsys.readouterr().out) == wanted
    (tmp_path / "gone.csv").write_text("path\nphotos/none.png\n" + names[0])
    assert main([run, "gone.csv"]) == 1
    rows = table(capsys.readouterr().out)
    assert rows[0]["error"] == "photos/none.png: cannot be read (No such file or directory)" and rows[1] == wanted[0]
    output = ["--output", "out.csv"]
    assert fgvc_main(["predict", run, "bird*", *output]) == 2
    assert capsys.readouterr().err == "fgvc: bird*: no file fits this pattern\n"
    assert fgvc_main(["predict", run, "t.csv", *output]) == 2
    assert (
        capsys.readouterr().err == "fgvc: t.csv: no column 'path'; it has ['foto', 'kind']; give --path_column foto\n"
    )


def test_a_folder_is_no_output(run, photos, tmp_path, capsys):
    assert fgvc_main(["predict", run, str(photos), "--output", str(tmp_path)]) == 2
    said = f"fgvc: {tmp_path}: a folder; give a file in it, e.g. {tmp_path / 'predictions.csv'}\n"
    assert capsys.readouterr() == ("", said)


@pytest.mark.skipif(sys.platform == "win32", reason="other rights there")
def test_a_folder_that_may_not_be_written_is_one_line(run, photos, capsys):
    fgvc_main(["predict", run, str(photos)])  # everything is imported while it may be read
    capsys.readouterr()
    nobody = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "photos").mkdir()
        folder.chmod(0o555)
        for name in ("model.safetensors", "fgvc.json"):
            copy = folder / name
            copy.write_bytes((Path(run) / "model" / name).read_bytes())
            copy.chmod(0o444)
        os.seteuid(65534 if nobody else os.geteuid())
        try:
            code = fgvc_main(["predict", made, f"{made}/photos", "--output", str(folder / "out.csv")])
        finally:
            if nobody:
                os.seteuid(0)
            folder.chmod(0o755)
    assert code == 1
    assert capsys.readouterr() == ("", f"fgvc: {folder / 'out.csv'}: cannot be written (Permission denied)\n")


def test_limits_and_formats_are_flags_and_the_row_says_why(run, tmp_path, capsys):
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a.png")
    Image.new("RGB", (60, 40), "red").save(tmp_path / "b.ppm")
    (tmp_path / "c.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    Image.fromarray(np.random.default_rng(0).integers(0, 4096, (60, 40), dtype=np.uint16)).save(tmp_path / "d.tif")
    assert main([run, str(tmp_path)]) == 1
    rows = table(capsys.readouterr().out)
    assert [bool(row["error"]) for row in rows] == [False, True, True, False]
    assert rows[1]["error"].endswith("b.ppm: PPM is read by option only; give any_format, or save it as PNG")
    assert "c.heic: HEIC is read with pillow-heif only" in rows[2]["error"] or "damaged" in rows[2]["error"]
    assert rows[3]["warning"].startswith("the range of values is not stated: its largest value is 409")
    (tmp_path / "c.heic").unlink()
    assert main([run, str(tmp_path), "--any_format"]) == 0
    capsys.readouterr()
    assert main([run, str(tmp_path / "a.png"), "--max_pixels", "2399"]) == 1
    assert "the limit is 0.002399 million: save it smaller or raise max_pixels" in capsys.readouterr().out
    assert main([run, str(tmp_path / "a.png"), "--max_pixels", "2400"]) == 0


def test_files_of_a_folder_are_read_by_content_or_named(run, photos, capsys):
    for suffix, kind in ((".jfif", "JPEG"), (".jpe", "JPEG"), (".mpo", "MPO")):
        Image.new("RGB", (60, 40), "red").save(photos / f"z{suffix}", kind)
    Image.new("RGB", (60, 40), "red").save(photos / "x.avif")
    (photos / "notes.txt").write_text("words")
    assert main([run, str(photos)]) == 0
    out, err = capsys.readouterr()
    assert [Path(row["path"]).name for row in table(out)][-4:] == ["x.avif", "z.jfif", "z.jpe", "z.mpo"]
    told = f"passed over 1 file that is no picture fgvc reads: 1 .txt; first {photos / 'notes.txt'}"
    assert told in err.splitlines() and "7 pictures, 0 failed" in err
    assert main([run, str(photos / "sub")]) == 0
    assert "passed over" not in capsys.readouterr().err
