import json
import shutil
from pathlib import Path

import pytest
from fakes.tiny_run import CPU, NET, TREE, data_flags, make_photos, read_csv

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


def test_every_class_and_every_mistake_stands_in_a_table(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    assert main(["test", "runs/birds"]) == 0
    out, said = capsys.readouterr()
    assert "every class:  runs/birds/classes_test.csv (precision, recall, F1), runs/birds/confusion_test.csv" in said
    assert "have no test image" not in said
    answers, classes = read_csv(Path("runs/birds/predictions_test.csv")), read_csv(Path("runs/birds/classes_test.csv"))
    assert [row["class"] for row in classes if row["level"] == "species"] == sorted(TREE)
    pairs = [row for row in read_csv(Path("runs/birds/confusion_test.csv")) if row["level"] == "species"]
    for row in pairs:
        same = [one for one in answers if (one["species_true"], one["species_pred"]) == (row["true"], row["answered"])]
        assert int(row["images"]) == len(same)
    assert sum(int(row["images"]) for row in pairs) == len(answers) == 6
    scores = json.loads(Path("runs/birds/test.json").read_text())
    for level in ("genus", "species"):
        mine = [row for row in classes if row["level"] == level]
        for name, column in (("mean_per_class", "recall"), ("macro_precision", "precision"), ("macro_f1", "f1")):
            wanted = sum(float(row[column] or 0) for row in mine) / len(mine)
            assert scores[f"test/{level}/{name}"] == pytest.approx(wanted, abs=2e-6)
        assert f"test/{level}/macro_f1 " in out


@pytest.fixture
def elsewhere(home, tmp_path, monkeypatch):
    """The run in another folder, its own photographs gone, beside other photographs of two of its classes."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(home / "runs/birds", "birds")
    make_photos(Path("made"), train=0, val=0, test=3)
    for name in ("Larus canus", "Sterna hirundo"):
        shutil.copytree(Path("made/test", TREE[name], name), Path("new", name))
    return tmp_path


def test_other_photographs_of_some_of_the_classes(elsewhere, home, capsys):
    before = {file.name: file.read_bytes() for file in Path("birds").iterdir() if file.is_file()}
    assert main(["test", "birds", "--data", "new"]) == 0
    out, said = capsys.readouterr()
    assert out.startswith("6 test images\n")
    assert "1 of 3 classes of level species have no test image and count in no mean over classes: Larus fuscus" in said
    assert {file.name: file.read_bytes() for file in Path("birds").iterdir() if file.is_file()} == before
    folder = Path("birds/test_new")
    answers, scores = read_csv(folder / "predictions_test.csv"), json.loads((folder / "test.json").read_text())
    assert [row["species_true"] for row in answers] == ["Larus canus"] * 3 + ["Sterna hirundo"] * 3
    assert [row["genus_true"] for row in answers] == ["Larus"] * 3 + ["Sterna"] * 3
    right = {name: [row["species_pred"] == name for row in answers if row["species_true"] == name] for name in TREE}
    present = [sum(hits) / len(hits) for hits in right.values() if hits]
    assert scores["test/species/mean_per_class"] == pytest.approx(sum(present) / 2, abs=1e-6)
    absent = next(row for row in read_csv(folder / "classes_test.csv") if row["class"] == "Larus fuscus")
    assert (absent["images"], absent["recall"]) == ("0", "")
    page = (folder / "report.html").read_text()
    assert "birds, test_new" in page and "WholeImage" in page
    # the answers are those of predict on the same files
    assert main(["predict", "birds", "new", "--output", "answers.csv"]) == 0
    predicted = {Path(row["path"]).as_posix(): row["label"] for row in read_csv(Path("answers.csv"))}
    assert [row["species_pred"] for row in answers] == [predicted[f"new/{row['path']}"] for row in answers]


def test_tables_of_a_runs_own_photographs_are_not_asked_about_others(elsewhere, home, capsys):
    config = Path("birds/config.yaml")
    text = config.read_text(encoding="utf-8")
    text = text.replace("  exclude: null", "  exclude: gone.csv").replace("  relabel: null", "  relabel: gone.csv")
    noise = "  noise:\n    kind: strangers\n    classes: [Sterna]\n"
    config.write_text(text.replace("  noise: null\n", noise), encoding="utf-8")
    assert main(["test", "birds", "--data.source.init_args.root", str(home / "photos")]) == 2
    assert "gone.csv: no such table" in capsys.readouterr().err
    assert main(["test", "birds", "--data", "new"]) == 0
    assert capsys.readouterr().out.startswith("6 test images\n")


def test_a_table_with_columns_of_its_own_and_a_genus(elsewhere):
    text = "file,bird\nnew/Larus canus/test0.png,Larus canus\nnew/Sterna hirundo/test0.png,Sterna\n"
    Path("t.csv").write_text(text)
    columns = ["path_column", "file", "label_column", "bird"]
    words = [word for key, value in zip(columns[::2], columns[1::2], strict=True)
             for word in (f"--data.source.init_args.{key}", value)]  # fmt: skip
    assert main(["test", "birds", "--data", "t.csv", *words]) == 0
    rows = read_csv(Path("birds/test_t/predictions_test.csv"))
    assert [(row["genus_true"], row["species_true"]) for row in rows] == [("Larus", "Larus canus"), ("Sterna", "")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["test", "birds", "--data", "gone"], "gone: no such folder of photographs, table or run"),
        (["test", "birds", "--data"], "--data: give it with a run and a folder or table: fgvc test RUN --data FOLDER"),
        (["validate", "birds", "--data", "new"], "--data: give it with a run and a folder or table: "
         "fgvc test RUN --data FOLDER"),
        (["test", "birds", "--data", "made/test/Larus"], None),
        (["test", "birds", "--data", "odd"], "odd: 1 of 1 classes are none that the model knows by one name: 'crow' "
         "(1 images); rename or remove them"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_tested_on_are_refused_in_one_line(elsewhere, capsys, words, said):
    Path("odd/crow").mkdir(parents=True)
    shutil.copy("new/Larus canus/test0.png", "odd/crow")
    assert main(words) == (0 if said is None else 2)
    lines = capsys.readouterr().err.splitlines()
    assert said is None or lines[-1] == f"fgvc: {said}"
    assert said is None or not list(Path("birds").glob("test_*"))
