import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes.tiny_run import read_csv
from PIL import Image

from fgvc.__main__ import main

PARTS = {"train": range(6), "val": range(6, 10), "test": range(10, 16)}


def make_table(root, each=8, parts=PARTS):
    """Write coloured pictures of classes that no two splits share, and a table of them."""
    rows = []
    for part, classes in parts.items():
        for label in classes:
            colour = np.random.default_rng(label).integers(20, 236, 3)
            for i in range(each):
                noise = np.random.default_rng([label, i]).integers(-50, 51, (32, 32, 3))
                file = root / f"bird {label}" / f"{part}{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8)).save(file)
                rows.append([file.relative_to(root).as_posix(), f"bird {label}", part])
    with (root / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "split"], *rows])
    return root / "table.csv"


def embed(table, output, *words):
    net = ["test_resnet", "--weights", "none", "--image_size", "32"]
    allowed = ["--data.source.init_args.new_classes", "true"]
    return main(["embed", net[0], str(table), *net[1:], *allowed, "--output", str(output), *words])


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    table = make_table(home)
    assert embed(table, home / "vectors") == 0
    assert embed(table, home / "maps", "--take", "map") == 0
    return home


@pytest.fixture
def few_shot(features, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words, what="vectors"):
        folders = [what] if isinstance(what, str) else what
        numbers = ["--n_way", "3", "--n_query", "4", "--n_episodes", "30", "--output", "out"]
        return main(["few-shot", *(str(features / one) for one in folders), *numbers, *words])

    return run


def test_methods_meet_the_same_episodes(few_shot, capsys):
    assert few_shot("--n_shot", "1", "3", "--method", "prototypes", "cosine_prototypes", "bd_cspn") == 0
    out = capsys.readouterr().out
    assert "crop=none: 6 classes, 48 photographs" in out and "3-way 3-shot, 4 queries per class, 30 episodes" in out
    assert out.count("transductive: an answer hangs on the other queries") == 2
    rows = read_csv(Path("out/results.csv"))
    assert [row["method"] for row in rows] == ["prototypes", "cosine_prototypes", "bd_cspn"] * 2
    assert {row["crop"] for row in rows} == {"none"}
    single = read_csv(Path("out/accuracies.csv"))
    assert len(single) == 2 * 3 * 30
    for row in rows:
        found = [
            {one["episode"]: float(one["accuracy"]) for one in single if one["method"] == name
             and f"{row['n_shot']}shot" in one["episodes"]}
            for name in (row["method"], "cosine_prototypes")
        ]  # fmt: skip
        assert float(row["accuracy"]) == pytest.approx(np.mean([*found[0].values()]), abs=1e-5)
        if row["method"] != "cosine_prototypes":
            gaps = [found[0][key] - found[1][key] for key in found[0]]
            assert float(row["difference"]) == pytest.approx(np.mean(gaps), abs=1e-5)
            half = 1.96 * np.std(gaps, ddof=1) / 30**0.5
            assert float(row["difference_half_width"]) == pytest.approx(half, abs=1e-5)
    assert json.loads(Path("out/results.json").read_text())["against"] == "cosine_prototypes"
    assert "bd_cspn" in Path("out/results.html").read_text()


def test_episodes_are_replayed(few_shot, features, capsys):
    assert few_shot("--n_shot", "2", "--method", "prototypes") == 0
    (file,) = Path("out").glob("episodes-3way-2shot-30-*.json")
    first = Path("out/accuracies.csv").read_text()
    words = ["--episodes", str(file), "--method", "prototypes", "--output", "again"]
    assert main(["few-shot", str(features / "vectors"), *words]) == 0
    assert Path("again/accuracies.csv").read_text() == first
    assert main(["few-shot", str(features / "vectors"), *words, "--split", "val", "--overwrite"]) == 2
    assert "of its 48 images are not among these 32" in capsys.readouterr().err


def test_without_a_method_all_that_can_are_tried(few_shot, capsys):
    assert few_shot("--n_shot", "1") == 0
    told = capsys.readouterr().err
    assert "left out, as they need a training, maps or base classes:" in told and "relation" in told
    methods = {row["method"] for row in read_csv(Path("out/results.csv"))}
    assert {"prototypes", "ridge", "simple_shot", "tim"} <= methods and "dn4" not in methods


def test_maps_serve_both_kinds_of_methods(few_shot):
    assert few_shot("--n_shot", "1", "--method", "dn4", "prototypes", what="maps") == 0
    assert len(read_csv(Path("out/results.csv"))) == 2


def test_several_folders_are_told_apart_and_their_spread(few_shot, capsys):
    assert few_shot("--n_shot", "1", "--method", "prototypes", what=("vectors", "maps")) == 0
    out = capsys.readouterr().out
    assert "over 2 feature folders" in out and "standard deviation" in out and "maps  prototypes" in out


def test_classes_come_from_a_list(few_shot, features, tmp_path, capsys):
    names = [("bird 0", "base"), ("bird 12", "base"), *((f"bird {i}", "novel") for i in (1, 7, 13, 15))]
    file = tmp_path / "classes.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([("class", "part"), *names])
    assert few_shot("--classes", str(file), "--n_shot", "1", "--method", "prototypes", "simple_shot") == 0
    assert "4 classes, 32 photographs" in capsys.readouterr().out
    episodes = json.loads(next(Path("out").glob("episodes-*.json")).read_text())
    assert {Path(path).parent.name for path in episodes["images"]} == {"bird 1", "bird 7", "bird 13", "bird 15"}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([("class", "part"), ("bird 0", "base"), ("brid 1", "novel")], "row 3: the data have no class 'brid 1'"),
        ([("class", "part"), ("bird 0", "base"), ("bird 0", "novel")], "row 3: class 'bird 0' is named twice"),
        ([("class", "part"), ("bird 0", "old")], "row 2: part 'old'; write base, val or novel"),
        ([("name",), ("bird 0",)], "class"),
        ([("class", "part"), ("bird 0", "base")], "no class of part 'test'; it has train"),
    ],
)  # fmt: skip
def test_a_list_that_does_not_fit_is_refused(few_shot, tmp_path, capsys, rows, told):
    with (tmp_path / "classes.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert few_shot("--classes", str(tmp_path / "classes.csv")) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--method", "prototype"], "no such few-shot method; did you mean 'prototypes'"),
        (["--method", "dn4"], "dn4: it compares maps, and these features are vectors"),
        (["--method", "relation"], "its weights say nothing before a training on episodes"),
        (["--method", "simple_shot", "--split", "all"], "simple_shot: it takes the mean of base classes"),
        (["--split", "novel"], "--split novel:"),
        (["--view", "box"], "box"),
        (["--n_shot", "6"], "has 8 images, but an episode takes 10 of a class"),
        (["--n_way", "7"], "6 classes, but --n_way 7"),
        (["--n_way", "1"], "--n_way 1: give 2 or more"),
        (["--device", "abacus"], "abacus"),
        (["--episodes", "none.json"], "none.json: cannot be read"),
    ],
)
def test_words_that_do_not_fit(few_shot, capsys, words, told):
    assert few_shot(*words) == 2
    assert told in capsys.readouterr().err


def test_splits_that_share_classes_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = make_table(tmp_path, parts={"train": range(4), "test": range(3, 7)})
    assert embed(table, "features") == 0
    assert main(["few-shot", "features", "--n_way", "2", "--n_query", "2", "--n_episodes", "5"]) == 2
    told = capsys.readouterr().err
    assert "the splits test and train share 1 classes, 'bird 3' first" in told and "--classes FILE" in told


def test_results_that_are_there_stay(few_shot, capsys):
    words = ["--n_shot", "1", "--method", "prototypes"]
    assert few_shot(*words) == 0
    assert few_shot(*words) == 2
    assert "holds results already; give --overwrite" in capsys.readouterr().err
    assert few_shot(*words, "--overwrite") == 0


def test_no_features_there(tmp_path, capsys):
    assert main(["few-shot", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_the_script_is_the_same(features, tmp_path):
    script = Path(__file__).parents[2] / "fgvc" / "commands" / "few_shot.py"
    words = ["--n_way", "3", "--n_query", "4", "--n_episodes", "5", "--n_shot", "1", "--output", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, str(script), str(features / "vectors"), *words, "--method", "prototypes"],
        capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(script.parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "3-way 1-shot" in done.stdout
