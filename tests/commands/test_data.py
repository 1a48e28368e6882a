import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from fakes.tiny_run import make_photos, read_csv
from PIL import Image

from fgvc.__main__ import main

LEVELS = ["--data.source.levels", "[genus, species]"]
CLASS = ["--data.source.levels", "[class]"]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_photos(tmp_path / "photos", train=4, val=1, test=2).relative_to(tmp_path)


@pytest.fixture
def broken(photos):
    canus, fuscus = (photos / "train/Larus" / name for name in ("Larus canus", "Larus fuscus"))
    (canus / "empty.jpg").write_bytes(b"")
    (canus / "new\nline.jpg").write_bytes(b"no picture")
    (canus / os.fsdecode(b"caf\xe9.png")).write_bytes((canus / "train0.png").read_bytes()[:60])
    Image.radial_gradient("L").resize((20, 64)).save(canus / "small.png")
    Image.new("RGB", (64, 64), "black").save(photos / "val/Larus/Larus canus/black.png")
    shutil.copy(canus / "train1.png", fuscus / "wrong.png")
    shutil.copy(canus / "train2.png", photos / "test/Larus/Larus canus/again.png")
    (photos / "train/Larus/unclear.png").write_bytes((fuscus / "train3.png").read_bytes() + b" ")
    return photos


def said(capsys, *words):
    code = main(["data", *words])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err.replace("\r", "\n").strip().splitlines()[-1:]


def test_good_photographs_end_with_0(photos, capsys):
    code, out, err = said(capsys, "verify", str(photos), *LEVELS)
    assert (code, out) == (0, ["no problems"])
    told, speed = err[0].split(": 0 problems, ")
    assert told == "21 images of train, val, test" and speed.endswith(" images/s")


def test_every_fault_is_told_counted_and_written(broken, capsys):
    code, out, err = said(capsys, "verify", str(broken), *LEVELS, "--output", "out/problems.csv")
    canus = "photos/train/Larus/Larus canus"
    assert code == 1
    assert out == [
        "problem          count  examples",
        f"unreadable           3  {canus}/caf\\udce9.png: damaged picture (image file is truncated); "
        "copy or download it again",
        f"                        {canus}/empty.jpg: the file is empty; copy or download it again",
        f"                        {canus}/new\\nline.jpg: not a picture (it begins b'no pictu'); "
        "remove it or save it as JPEG",
        f"tiny                 1  {canus}/small.png: 20 x 64 pixels; the shorter side has less than 32",
        "blank                1  photos/val/Larus/Larus canus/black.png: one colour all over: "
        "its values run from 0 to 0",
        f"two_labels           1  photos/train/Larus/Larus fuscus/wrong.png: the same content as {canus}/train1.png "
        "in train, labelled Larus canus",
        f"in_two_splits        1  photos/test/Larus/Larus canus/again.png: the same content as {canus}/train2.png "
        "in train",
        "note: 1 of 18 labels of train end at genus",
    ]
    assert err[0].startswith("29 images of train, val, test: 7 problems, ")
    assert err[0].endswith(" images/s -> out/problems.csv")
    text = (broken.parent / "out/problems.csv").read_bytes()
    assert b"/caf\xe9.png" in text
    (broken.parent / "read.csv").write_bytes(text.replace(b"\xe9", b"e"))
    rows = read_csv(broken.parent / "read.csv")
    assert [(row["problem"], row["split"], row["label"]) for row in rows] == [
        *[("unreadable", "train", "Larus canus")] * 3,
        ("tiny", "train", "Larus canus"),
        ("blank", "val", "Larus canus"),
        ("two_labels", "train", "Larus fuscus"),
        ("in_two_splits", "test", "Larus canus"),
    ]
    assert rows[2]["path"] == f"{canus}/new\nline.jpg"


def test_splits_and_the_least_side_can_be_chosen(broken, capsys):
    code, out, err = said(capsys, "verify", str(broken), *CLASS, "--splits", "test,val", "--min_side", "41")
    assert code == 1 and err[0].startswith("11 images of val, test: 11 problems, ")
    assert out[1] == (
        "blank          1  photos/val/Larus/Larus canus/black.png: one colour all over: its values run from 0 to 0"
    )
    assert out[2].startswith("tiny          10  photos/val/Larus/") and len(out) == 5


def test_stats_of_a_folder(photos, capsys):
    code, out, err = said(capsys, "stats", str(photos), *LEVELS, "--output", "stats.json")
    assert code == 0 and err == ["written: stats.json"]
    assert out[:8] == [
        "split     images  level       known         classes  least/median/most per class   ratio",
        "train         12  genus    100.00 %          2 of 2                    4 / 6 / 8     2.0",
        "                  species  100.00 %          3 of 3                    4 / 4 / 4     1.0",
        "val            3  genus    100.00 %          2 of 2                  1 / 1.5 / 2     2.0",
        "                  species  100.00 %          3 of 3                    1 / 1 / 1     1.0",
        "test           6  genus    100.00 %          2 of 2                    2 / 3 / 4     2.0",
        "                  species  100.00 %          3 of 3                    2 / 2 / 2     1.0",
        "largest in train: Larus canus 4, Larus fuscus 4, Sterna hirundo 4",
    ]
    assert out[8:12] == [
        "",
        "size           least       5 %      50 %      95 %      most",
        "width             48        48        48        48        48",
        "height            40        40        40        40        40",
    ]
    assert out[13].startswith("from the headers of 21 images; about 0.1 MB in all")
    plain = json.loads((photos.parent / "stats.json").read_text())
    assert plain["splits"]["val"]["levels"]["genus"]["known"] == 3 and plain["sizes"]["of"] == 21


def test_stats_as_a_table_of_classes(photos, capsys):
    code, out, err = said(capsys, "stats", str(photos), *LEVELS, "--output", "classes.csv", "--sizes", "0")
    assert (code, len(out), err) == (0, 8, ["written: classes.csv"])
    rows = read_csv(photos.parent / "classes.csv")
    assert rows[0] == {"level": "genus", "class": "Larus", "train": "8", "val": "2", "test": "4"}
    assert [row["class"] for row in rows] == ["Larus", "Sterna", "Larus canus", "Larus fuscus", "Sterna hirundo"]


def test_sizes_are_read_of_as_many_as_asked(photos, capsys):
    for asked, told in (("5", "5 of 21"), ("all", "21")):
        _, out, _ = said(capsys, "stats", str(photos), "--sizes", asked)
        assert out[-1].startswith(f"from the headers of {told} images; about ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["verfy"], "fgvc data: no command 'verfy'; there are verify, stats, audit, download; did you mean 'verify'?"),
        (["verify", "gone"], "gone: no such folder of photographs, table or run"),
        (
            ["verify", "photos", "--splits", "train,tset"],
            "--splits train,tset: no split 'tset'; the data has train, val, test; did you mean 'test'?",
        ),
        (["verify", "photos", "--min_side", "-1"], "--min_side -1: pixels; it must be at least 0"),
        (["verify", "photos", "--output", "p.txt"], "--output p.txt: it is written as .csv, not '.txt'"),
        (
            ["verify", "photos", "--output", "taken.csv"],
            "taken.csv: exists already; choose another name, or give --overwrite",
        ),
        (["stats", "photos", "--sizes", "few"], "--sizes few: give a number of images, 0 for none, or all"),
        (["stats", "photos", "--output", "s.xls"], "--output s.xls: it is written as .json or .csv, not '.xls'"),
    ],
)
def test_wrong_words_end_with_2_and_one_line(photos, capsys, words, line):
    (photos.parent / "taken.csv").write_text("old")
    assert main(["data", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"fgvc: {line}\n")
    assert (photos.parent / "taken.csv").read_text() == "old"


def test_an_output_that_cannot_be_written_ends_with_1_before_any_work(photos, capsys, monkeypatch):
    (photos.parent / "file").write_text("")
    monkeypatch.setattr("fgvc.data.inspection.problems.in_processes", lambda *_: pytest.fail("began"))
    assert main(["data", "verify", str(photos), "--output", "file/problems.csv"]) == 1
    assert capsys.readouterr().err.startswith("fgvc: file/problems.csv: cannot be written (")


def test_overwrite_replaces_an_output(photos, capsys):
    (photos.parent / "taken.csv").write_text("old")
    assert said(capsys, "verify", str(photos), *LEVELS, "--overwrite", "--output", "taken.csv")[0] == 0
    assert read_csv(photos.parent / "taken.csv") == []


def test_help_of_the_command_and_of_its_words(capsys):
    assert main(["data"]) == 0
    assert capsys.readouterr().out.startswith("usage: fgvc data COMMAND ...\n")
    with pytest.raises(SystemExit) as end:
        main(["data", "verify", "--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0
    assert out.startswith("usage: fgvc data verify FOLDER|TABLE|RUN|--config DATA [--KEY VALUE ...]\n")
    assert "--min_side" in out and "--data.val_fraction" in out


def test_photographs_that_are_not_read_here_are_told(photos, capsys):
    folder = photos / "train/Larus/Larus canus"
    (folder / "x.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")  # with the package it is damaged
    Image.new("RGB", (64, 48), "red").save(folder / "y.ppm")
    deep = np.random.default_rng(0).integers(0, 4096, (64, 48), dtype=np.uint16)
    deep[0, 0] = 4094
    Image.fromarray(deep.clip(0, 4094)).save(folder / "z.png")
    (photos / "train/Larus/notes.txt").write_text("words")
    assert main(["data", "verify", str(photos), *LEVELS, "--output", "found.csv"]) == 1
    _, err = capsys.readouterr()
    assert f"passed over 1 file that is no picture fgvc reads: 1 .txt; first {photos}" in err
    with Path("found.csv").open() as file:
        found = [(Path(row["path"]).name, row["problem"], row["detail"]) for row in csv.DictReader(file)]
    assert [row[:2] for row in found] == [("x.heic", "unreadable"), ("y.ppm", "unreadable"), ("z.png", "range_guessed")]
    assert found[0][2].startswith(("HEIC is read with pillow-heif only; pip install", "damaged picture ("))
    assert found[1][2] == "PPM is read by option only; give any_format, or save it as PNG"
    assert found[2][2] == "the range of values is not stated: its largest value is 4094, so that 4095 is white"
    (folder / "x.heic").unlink()
    main(
        ["data", "verify", str(photos), *LEVELS, "--data.limits.any_format", "true", "--data.limits.max_pixels", "3071"]
    )
    out, _ = capsys.readouterr()
    assert "y.ppm: 0 million pixels; the limit is 0.003071 million: save it smaller or raise max_pixels" in out


def test_nested_folders_are_told_with_the_key_that_makes_them_classes(photos, capsys):
    code, out, _ = said(capsys, "verify", str(photos))
    told = "3 folders with names of their own lie 2 deep in photos/train, but the outermost alone are read as classes: "
    assert code == 1 and out[1].startswith(f"nested_folders        1  folders: {told}2 classes; ") and len(out) == 2
    assert '--data.source.levels "[group, class]"' in out[1]
    assert said(capsys, "verify", str(photos), *CLASS)[:2] == (0, ["no problems"])
    code, out, _ = said(capsys, "stats", str(photos), "--sizes", "0")
    assert code == 0 and out[-1].startswith(f"note: {told}2 classes; ")
    assert not any("note" in line for line in said(capsys, "stats", str(photos), *LEVELS, "--sizes", "0")[1])
    code, out, _ = said(capsys, "stats", str(photos), "--data.source.levels", "[group, class]", "--sizes", "0")
    assert "2 of 2" in out[1] and "3 of 3" in out[2]


def test_what_a_flag_allows_is_a_note(photos, capsys):
    (photos / "train/Larus").rename(photos / "train/none")
    (photos / "train/Sterna").rename(photos / "train/None")
    for split in ("val", "test"):
        shutil.rmtree(photos / split)
    words = ["verify", str(photos), "--data.source.similar_labels", "true", "--data.source.test_fraction", "0"]
    code, out, _ = said(capsys, *words, "--data.val_fraction", "0")
    assert code == 1 and out[-1].startswith("note: none: differs from 'None' only in case") and "no_name" in out[1]
