import re
from pathlib import Path

import numpy as np
import pytest
from fakes.killing import Killed, kill_after
from fakes.tiny_run import CPU, data_flags, make_photos, read_csv
from fakes.tiny_run import NET as RUN_NET

from fgvc.__main__ import main
from fgvc.data.stages import STAGES
from fgvc.features.folder import open_features
from fgvc.features.labels.curriculum import curriculum

NET = ["--weights", "none", "--image_size", "32", "--device", "cpu"]
LEVELS = ["--data.source.levels", "[genus, species]", "--data.val_fraction", "0"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Features of twelve photographs of each species."""
    folder = tmp_path_factory.mktemp("home")
    photos = make_photos(folder / "photos", train=12, val=0, test=2, noise=120)
    assert main(["embed", "test_resnet", str(photos), *NET, *LEVELS, "--output", str(folder / "features")]) == 0
    return folder


@pytest.fixture
def here(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "features"):
        Path(name).symlink_to(home / name)
    return tmp_path


def said(capsys, *words):
    capsys.readouterr()
    code = main(["curriculum", *words])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err.strip().splitlines()


@pytest.mark.parametrize("form", ["counting", "gaussian", "neighbours"])
def test_the_table_holds_what_was_found_and_the_sizes_are_told(here, capsys, form):
    code, out, err = said(capsys, "features", "--output", "stages.csv", "--density", form, "--sheets", "sheets")
    assert code == 0
    part = open_features("features").part("train")
    found = curriculum(part, form)
    rows = read_csv(Path("stages.csv"))
    stages = {row["path"]: row["stage"] for row in rows}
    assert stages == {path: STAGES[stage] for path, stage in zip(part.paths, found.stage, strict=True)}
    counts = [list(stages.values()).count(stage) for stage in STAGES]
    assert f"clean {counts[0]} (" in err[0] and f"highly_noisy {counts[2]} (" in err[0]
    assert out[0].split() == [*STAGES, "class"]
    assert [line.split()[0] for line in out[1:]] == ["12"] * 3
    assert np.array([line.split()[1:4] for line in out[1:]], dtype=int).sum(axis=0).tolist() == counts
    assert out[1].endswith("Larus > Larus canus")
    assert len(list(Path("sheets").glob("*.jpg"))) == 3 and err[1] == "sheets: 3 classes in sheets"


def test_labels_of_a_table_are_divided_in_place_of_those_of_the_features(here, capsys):
    part = open_features("features").part("train")
    moved = [path for path, label in zip(part.paths, part.labels, strict=True) if label == part.labels[0]][:3]
    Path("noise.csv").write_text("path,label\n" + "".join(f"{path},Sterna hirundo\n" for path in moved))
    code, out, _ = said(capsys, "features", "--output", "other.csv", "--labels", "noise.csv")
    assert code == 0
    labels = {row["path"]: row["label"] for row in read_csv(Path("other.csv"))}
    assert [labels[path] for path in moved] == ["Sterna > Sterna hirundo"] * 3
    assert sorted(line.split()[0] for line in out[1:]) == ["12", "15", "9"]


def test_small_classes_are_told(here, capsys):
    code, _, err = said(capsys, "features", "--output", "stages.csv", "--split", "test")
    assert code == 0 and "clean 6 (100 %)" in err[0]
    assert err[1] == "all clean: 3 classes of fewer than 10 photographs, too few to tell what is dense"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--output", "stages.txt"], "--output stages.txt: it is written as .csv"),
        (["--output", "old.csv"], "old.csv: exists already"),
        (["--output", "new.csv", "--sheets", "features"], "features: exists already; choose another folder"),
        (["--output", "new.csv", "--density", "dense"], "invalid choice: 'dense'"),
        (["--output", "new.csv", "--split", "tran"], "no features of split 'tran'.*did you mean 'train'"),
        ([], "required: --output"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_writes_nothing(here, capsys, words, line):
    Path("old.csv").write_text("old", encoding="utf-8")
    code, out, err = said(capsys, "features", *words)
    assert (code, out, len(err)) == (2, [], 1)
    assert re.search(line, err[0])
    assert Path("old.csv").read_text(encoding="utf-8") == "old" and not Path("new.csv").exists()


STAGED = [
    *RUN_NET, *CPU, *data_flags(Path("photos")), "--trainer.max_epochs", "3", "--data.augmentation.off", "true",
    "--data.stages", "stages.csv", "--data.stage_weights", "[1, 0.5, 0.5]", "--save_every_minutes", "0", "--phases",
    "[{name: head, epochs: 1, subsets: [clean], balance: class_balanced}, {name: head, epochs: 1, subsets: 2}, "
    "{name: head, epochs: 1, subsets: 3}]",
]  # fmt: skip


def test_a_frozen_network_learns_in_stages_and_a_resumed_run_is_the_one_that_was_left_alone(here, capsys, monkeypatch):
    assert main(["curriculum", "features", "--output", "stages.csv"]) == 0
    assert main(["fit", *STAGED, "--name", "straight"]) == 0
    told = capsys.readouterr().err
    assert "the network stands still" in told and "clean, " in told and ", from stages.csv" in told
    assert "phases say which images are drawn, of as many steps each epoch" in told
    kill_after(monkeypatch, [3, 9, 6])  # 9 steps an epoch, and a checkpoint after each and at the end of an epoch
    with pytest.raises(Killed):
        main(["fit", *STAGED, "--name", "killed"])
    for _ in range(2):
        with pytest.raises(Killed):
            main(["fit", "--resume", "runs/killed"])
    assert main(["fit", "--resume", "runs/killed"]) == 0
    models = [Path("runs", name, "model/model.safetensors").read_bytes() for name in ("straight", "killed")]
    assert models[0] == models[1]
    assert main(["fit", *STAGED[:-2], "--name", "plain"]) == 0
    assert Path("runs/plain/model/model.safetensors").read_bytes() != models[0]


def test_who_tests_a_run_needs_no_table_of_stages_and_who_trains_one_does(here, capsys):
    assert main(["curriculum", "features", "--output", "stages.csv"]) == 0
    assert main(["fit", *STAGED, "--name", "run"]) == 0
    Path("stages.csv").unlink()
    assert main(["test", "runs/run"]) == 0
    capsys.readouterr()
    assert main(["fit", *STAGED, "--name", "again"]) == 2
    assert capsys.readouterr().err == "fgvc: stages.csv: no such table\n"
    assert not Path("runs/again").exists()


def test_unknown_stages_are_refused_before_any_work(here, capsys):
    assert main(["curriculum", "features", "--output", "stages.csv"]) == 0
    capsys.readouterr()
    for phases, said in (
        ("[{name: head, epochs: 1, subsets: [cleen]}]", "phases: head: subsets: no stage 'cleen'; there are clean, "),
        ("[{name: head, epochs: 1, subsets: 4}]", "phases: head: subsets 4; there are the first 1 to 3"),
    ):
        assert main(["fit", *STAGED[:-1], phases, "--name", "run"]) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert told.startswith(f"fgvc: {said}")
    assert main(["fit", *STAGED[:-1], "[{name: head, epochs: 1, balance: fair}]", "--name", "run"]) == 2
    assert "fair" in capsys.readouterr().err.splitlines()[-1]
    assert not Path("runs").exists()
