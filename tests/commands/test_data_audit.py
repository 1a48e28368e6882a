import csv
import shutil
from pathlib import Path

import pytest
from fakes.tiny_run import make_photos, read_csv

from fgvc.__main__ import main
from fgvc.features.labels.suspects import HEAD

NET = ["--weights", "none", "--image_size", "32", "--device", "cpu"]
LEVELS = ["--data.source.levels", "[genus, species]", "--data.val_fraction", "0"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Features of 60 photographs of three colours; of two, one in each of two classes, the folder is wrong."""
    home = tmp_path_factory.mktemp("home")
    photos = make_photos(home / "photos", train=20, val=0, test=2, noise=30) / "train"
    canus, fuscus, hirundo = (
        photos / "Larus/Larus canus",
        photos / "Larus/Larus fuscus",
        photos / "Sterna/Sterna hirundo",
    )
    shutil.move(canus / "train3.png", fuscus / "moved.png")
    shutil.move(hirundo / "train5.png", canus / "moved.png")
    assert main(["embed", "test_resnet", str(home / "photos"), *NET, *LEVELS, "--output", str(home / "features")]) == 0
    return home


@pytest.fixture
def here(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return home


def audit(home, *words):
    return main(["data", "audit", str(home / "features"), "--penalties", "0.01", "--device", "cpu", *words])


def test_planted_labels_are_found_with_what_they_show(here, capsys):
    assert audit(here, "--out", "audit.csv", "--rule", "both", "--sheet", "s.png", "--page", "p.html") == 0
    out, err = capsys.readouterr()
    rows = read_csv(Path("audit.csv"))
    assert tuple(rows[0]) == HEAD
    found = {row["path"]: (row["label"], row["likely_label"], row["kind"], row["ranks_apart"]) for row in rows}
    assert found == {
        "train/Larus/Larus canus/moved.png": ("Larus canus", "Sterna hirundo", "far", "2"),
        "train/Larus/Larus fuscus/moved.png": ("Larus fuscus", "Larus canus", "relative", "1"),
    }
    assert "60 photographs answered out of sample, 5 folds, penalty 0.01: " in err
    assert "about 3.3 % by the confident joint" in err
    assert "suspects by rule both: 2 -> audit.csv" in err
    assert "next:  look at it, then fgvc fit ... --data.exclude audit.csv" in err
    assert out.splitlines() == [
        "     1 relative: another class of the genus or family is likelier",
        "     1 far: a class of another family is likelier",
    ]
    page = Path("p.html").read_text(encoding="utf-8")
    assert page.count("<section>") == 2 and page.count("data:image/jpeg") == 10
    assert "Larus fuscus, or Larus canus?" in page and "<script" not in page
    assert Path("s.png").read_bytes().startswith(b"\x89PNG")


def test_a_training_takes_the_table_as_it_is(here, capsys):
    from fgvc.data.datamodule import FineGrainedData
    from fgvc.data.sources.image_folder import ImageFolder

    assert audit(here, "--out", "audit.csv", "--rule", "both") == 0
    source = ImageFolder(str(here / "photos"), levels=["genus", "species"])
    data = FineGrainedData(source, val_fraction=0, relabel="audit.csv")
    row = next(i for i in range(60) if data.records("train").relative_path(i).endswith("Larus fuscus/moved.png"))
    assert data.taxonomy.path(int(data.records("train").labels[row])) == ("Larus", "Larus canus")
    assert len(FineGrainedData(source, val_fraction=0, exclude="audit.csv").records("train")) == 58


def test_labels_of_a_table_take_the_place_of_those_of_the_features(here):
    rows = [["path", "label"]]
    rows += [["train/Larus/Larus fuscus/moved.png", "Larus canus"], ["train/Larus/Larus canus/moved.png", ""]]
    rows += [["train/Sterna/Sterna hirundo/train0.png", "Larus fuscus"]]
    with Path("labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    assert audit(here, "--out", "audit.csv", "--rule", "both", "--labels", "labels.csv") == 0
    assert [row["path"] for row in read_csv(Path("audit.csv"))] == ["train/Sterna/Sterna hirundo/train0.png"]


def test_groups_stay_together(here, capsys):
    names = [*(f"train/Sterna/Sterna hirundo/train{i}.png" for i in range(20) if i != 5)]
    table = "path,group\n" + "".join(f"{name},pond\n" for name in names)
    Path("groups.csv").write_text(table, encoding="utf-8")
    assert audit(here, "--out", "audit.csv", "--rule", "both", "--groups", "groups.csv") == 0
    # all of the species are one group, so no classifier of another fold knows it but by the photograph that was moved
    assert "19 photographs not judged" in capsys.readouterr().err


def test_the_table_has_every_suspect_and_the_page_the_first(here, capsys):
    """`data.exclude` leaves out what the table names: a table that stops early would leave wrong labels in."""
    assert audit(here, "--out", "audit.csv", "--rule", "both", "--most", "1", "--page", "audit.html") == 0
    assert len(read_csv(Path("audit.csv"))) == 2
    assert Path("audit.html").read_text(encoding="utf-8").count("common ancestor:") == 1


def test_a_table_of_answers_is_audited_too(here, capsys):
    head = "path,species_true,species_pred,species_score,score\n"
    rows = ["a.jpg,x,x,0.8,0.8", "b.jpg,y,y,0.6,0.6", "c.jpg,x,y,0.7,0.7", "d.jpg,x,y,0.5,0.5"]
    Path("out_of_fold.csv").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    assert main(["data", "audit", "out_of_fold.csv", "--out", "audit.csv"]) == 0
    rows = read_csv(Path("audit.csv"))
    assert [(row["path"], row["label"], row["likely_label"]) for row in rows] == [("c.jpg", "x", "y")]
    assert "1 of 4 labels (25.0 %) are confidently contradicted -> audit.csv" in capsys.readouterr().err
    assert main(["data", "audit", "out_of_fold.csv", "--out", "b.csv", "--sheet", "s.png"]) == 2
    assert "--sheet: for FEATURES" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--out", "audit.txt"], "--output audit.txt: it is written as .csv"),
        (["--out", "taken.csv"], "taken.csv: exists already"),
        (["--out", "a.csv", "--rule", "bothe"], "--rule bothe: it is one of class, noise_rate, both, random"),
        (["--out", "a.csv", "--most", "0"], "--most 0: give 1 or more"),
        (["--out", "a.csv", "--page", "p.pdf"], "--page p.pdf: it is written as .html"),
        (["--out", "a.csv", "--page", "taken.html"], "taken.html: exists already"),
        (["--out", "a.csv", "--sheet", "s.gif"], "s.gif: a contact sheet is written as"),
        (["--out", "a.csv", "--images", "nowhere"], "--images nowhere: no such folder"),
        (["--out", "a.csv", "--split", "val"], "no features of split 'val'"),
        (["--out", "a.csv", "--folds", "1"], "folds: 1; give at least 2"),
        (["--out", "a.csv", "--penalties", "x"], "'x': give numbers"),
        (["--out", "a.csv", "--labels", "none.csv"], "none.csv: no such table"),
        (["--out", "a.csv", "--labels", "strange.csv"], "strange.csv row 2: no photograph 'q.png' in the features"),
        (["--out", "a.csv", "--labels", "unknown.csv"], "unknown.csv: label: unknown class 'Larus cana'"),
        (["--out", "a.csv", "--groups", "strange.csv"], "strange.csv: no column 'group'"),
    ],
)
def test_words_that_do_not_fit_are_refused_in_one_line(here, capsys, words, told):
    Path("taken.csv").write_text("x", encoding="utf-8")
    Path("taken.html").write_text("x", encoding="utf-8")
    Path("strange.csv").write_text("path,label\nq.png,Larus canus\n", encoding="utf-8")
    Path("unknown.csv").write_text("path,label\ntrain/Larus/Larus canus/train0.png,Larus cana\n", encoding="utf-8")
    assert audit(here, *words) == 2
    err = capsys.readouterr().err
    assert told in err and err.strip().count("\n") == 0 and not Path("a.csv").exists()
