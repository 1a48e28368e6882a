import json

import pytest
import yaml

from benchmarks.accuracy import look_closer
from fgvc.files.shipped import config_file


def phases(*pairs):
    return [{"name": name, "epochs": epochs, "lr": 0.1 * i} for i, (name, epochs) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("asked", "epochs", "expected"),
    [
        ([("recognise", 4), ("all", 6)], 20, [8, 12]),
        ([("recognise", 4), ("all", 6)], 8, [3, 5]),
        ([("locate", 2), ("recognise", 3), ("attend", 5), ("recognise", 3)], 12, [2, 6, 5, 6]),
        ([("recognise", 9), ("attend", 1), ("all", 1)], 3, [2, 1, 1]),
        ([("recognise", 1), ("refine", 1), ("all", 1)], 4, None),
        ([("recognise", 5), ("refine", 1), ("all", 1)], 3, [1, 1, 1]),
        ([("head", 1), ("recognise", 1), ("all", 1)], 2, [1, 1, 1]),  # none can have less than one
    ],
)
def test_phases_that_teach_are_stretched_to_the_epochs_and_the_others_stay(asked, epochs, expected):
    before = phases(*asked)
    made = look_closer.stretched(before, epochs)
    assert before == phases(*asked)
    rest = [[(k, v) for k, v in phase.items() if k != "epochs"] for phase in made]
    assert rest == [[(k, v) for k, v in phase.items() if k != "epochs"] for phase in before]
    taught = sum(phase["epochs"] for phase in made if phase["name"] not in ("locate", "attend"))
    if expected is None:
        assert taught == epochs and min(phase["epochs"] for phase in made) >= 1
    else:
        assert [phase["epochs"] for phase in made] == expected


def options(*words):
    return look_closer._options(list(words))


def backbones(tree):
    if isinstance(tree, dict):
        if tree.get("class_path") == "Backbone":
            yield tree["init_args"]
        for value in tree.values():
            yield from backbones(value)


@pytest.mark.parametrize("method", ["whole_image", "centre", "scda", "fcan", "spatial_transformer", "ws_dan"])
def test_a_config_gets_the_network_the_sides_and_the_pictures_and_keeps_its_recipe(method):
    own = yaml.safe_load(config_file(method).read_text())
    words = (
        "--backbone test_resnet --weights w.safetensors --source 128 --crop 64 --epochs 20 --train 3 --val 1 --test 2"
    )
    made = look_closer.fitted_config(yaml.safe_load(config_file(method).read_text()), 48, options(*words.split()))
    found = list(backbones(made["model"]))
    assert found and all((one["name"], one["weights"]) == ("test_resnet", "w.safetensors") for one in found)
    pictures = made["data"]["source"]["init_args"]
    assert [pictures[key] for key in ("train_per_class", "val_per_class", "test_per_class")] == [3, 1, 2]
    assert made["model"]["image_size"] == 48 and made["data"]["source_size"] == pictures["image_size"] == 128
    arguments = made["model"]["recognizer"]["init_args"]
    assert arguments.get("crop_size") == (None if method in ("whole_image", "ws_dan") else 64)
    assert made["trainer"]["max_epochs"] == 20
    assert [phase["epochs"] for phase in made.get("phases", [])] == ([8, 12] if method == "fcan" else [])
    for key in ("lr", "optimizer", "head_lr_ratio", "weight_decay"):
        assert made["model"][key] == own["model"][key]
    for key, value in own["model"]["recognizer"]["init_args"].items():
        assert key in ("backbone", "crop_size") or arguments[key] == value


def row(method, side, species, **more):
    scores = {"test/species/top1": species, "test/genus/top1": 0.75}
    return {"method": method, "side": side, "seed": 0, "minutes": 2.0, **scores, **more}


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_holds_means_over_seeds_and_the_way_between_the_whole_pictures():
    marks = {"test/box1_mark_kept": 0.9, "test/box2_mark_kept": 0.5, "test/box2_side": 0.1}
    rows = [
        row("whole_image", 384, 0.8),
        row("whole_image", 384, 0.9),
        row("whole_image", 96, 0.45),
        row("ra_cnn", 96, 0.65, **marks),
        row("ra_cnn", 96, 0.75, **{**marks, "test/box2_mark_kept": 0.7, "minutes": 4.0}),
    ]
    lines = look_closer.table(rows, 96, 384).splitlines()
    assert cells(lines[0])[:2] == ["method", "first scale"] and set(lines[1]) == {"|", "-"}
    assert {len(cells(line)) for line in lines} == {7}
    assert [cells(line) for line in lines[2:]] == [
        ["`whole_image`", "384 px", "85.0 %", "75.0 %", "-", "100 %", "2.0"],
        ["`whole_image`", "96 px", "45.0 %", "75.0 %", "-", "0 %", "2.0"],
        ["`ra_cnn`", "96 px", "70.0 %", "75.0 %", "60.0 %", "62 %", "3.0"],  # (70 - 45) / (85 - 45)
    ]


def test_without_the_whole_picture_at_the_small_side_there_is_nothing_between():
    lines = look_closer.table([row("whole_image", 384, 0.8), row("centre", 96, 0.6)], 96, 384).splitlines()
    assert [cells(line)[5] for line in lines[2:]] == ["-", "-"]


def test_two_methods_are_trained_and_tested(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FGVC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    network = "--backbone test_resnet --weights none --methods whole_image centre"
    sides = "--small 32 --source 80 --crop 32 --train 1 --val 1 --test 1 --epochs 1"
    assert look_closer.main([*network.split(), *sides.split(), "--runs", "runs"]) == 0
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.err.splitlines() if line.startswith("{")]
    assert [(one["method"], one["side"]) for one in rows] == [("whole_image", 80), ("whole_image", 32), ("centre", 32)]
    assert ["test/box1_mark_kept" in one for one in rows] == [False, False, True]
    assert rows[2]["test/box1_side"] == pytest.approx(0.667, abs=1e-5)
    lines = captured.out.splitlines()[-5:]
    assert [cells(line)[0] for line in lines[2:]] == ["`whole_image`", "`whole_image`", "`centre`"]
    for one, line in zip(rows, lines[2:], strict=True):
        assert cells(line)[2] == f"{100 * one['test/species/top1']:.1f} %"
        assert one == {**one, **json.loads((tmp_path / f"runs/{one['method']}_{one['side']}_s0/test.json").read_text())}
