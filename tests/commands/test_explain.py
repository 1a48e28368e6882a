import csv
import io
import json
import os
import sys

import numpy as np
import pytest
import torch
from fakes.tiny_model import TAXONOMY, saved
from PIL import Image

import fgvc
from fgvc.__main__ import main as fgvc_main
from fgvc.commands.explain import main, names_for
from fgvc.errors import UsageError
from fgvc.images.resizing import EvalResize
from fgvc.model_file.architecture import build
from fgvc.model_file.model import Model, ModelFileError, save

RA_CNN = {
    "class_path": "RACNN",
    "init_args": {
        "backbone": {"class_path": "Backbone", "init_args": {"name": "test_resnet", "weights": "none"}},
        "num_scales": 3,
        "attention": {"class_path": "SCDABox", "init_args": {"side_min": 0.3}},
    },
}


@pytest.fixture(scope="module")
def closer(tmp_path_factory):
    """A model of three scales, saved as a run would."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "closer"
    save(Model(build(RA_CNN, TAXONOMY, 96).eval(), RA_CNN, EvalResize(128)), folder / "model")
    return str(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return str(saved(tmp_path_factory.mktemp("runs") / "tiny"))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for i, name in enumerate(("bird.png", "wide.png", "sub/bird.png")):
        coarse = np.random.default_rng(i).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((200, 120), Image.Resampling.BICUBIC).save(folder / name)
    return folder


def read(output):
    return json.loads((output / "explain.json").read_text(encoding="utf-8"))


def test_each_photograph_gets_a_drawing_and_an_entry(closer, photos, tmp_path, capsys):
    output = tmp_path / "new" / "out"
    assert fgvc_main(["explain", closer, str(photos), "--output", str(output)]) == 0
    out, err = capsys.readouterr()
    assert out == "" and len(err.strip().splitlines()) == 1
    assert "3 pictures, 0 failed" in err and str(output) in err
    assert sorted(path.name for path in output.iterdir()) == ["bird-2.jpg", "bird.jpg", "explain.json", "wide.jpg"]
    entries = read(output)
    names = ["bird.png", "sub/bird.png", "wide.png"]
    assert [entry["path"] for entry in entries] == [str(photos / name) for name in names]
    assert [entry["picture"] for entry in entries] == ["bird.jpg", "bird-2.jpg", "wide.jpg"]
    for entry, result in zip(entries, fgvc.load(closer).predict(photos), strict=True):
        assert entry["label"] == result.label and entry["lineage"] == result.lineage
        assert [view["name"] for view in entry["views"]] == ["scale1", "scale2", "scale3", "fused"]
        assert all(len(view["top"]) == 3 for view in entry["views"]) and len(entry["top"]) == 3
        assert [box["name"] for box in entry["boxes"]] == ["scale2", "scale3"]
        assert (entry["width"], entry["height"], entry["error"]) == (200, 120, None)
        for found, box in zip(entry["boxes"], result.boxes, strict=True):
            assert found["box"] == pytest.approx([box[0] * 200, box[1] * 120, box[2] * 200, box[3] * 120], abs=0.06)
        with Image.open(output / entry["picture"]) as drawing:
            assert drawing.format == "JPEG" and drawing.width == 1028


def test_boxes_are_those_of_the_upright_photograph(closer, photos, tmp_path):
    """The same pixels, once upright and once turned with a note in EXIF that says so."""
    with Image.open(photos / "bird.png") as upright:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees clockwise
        upright.transpose(Image.Transpose.ROTATE_90).save(photos / "turned.png", exif=exif)
    assert (
        main([closer, *(str(photos / f"{name}.png") for name in ("bird", "turned")), "--output", f"{tmp_path}/o"]) == 0
    )
    first, second = read(tmp_path / "o")
    assert (second["width"], second["height"]) == (200, 120)
    assert first["boxes"] == second["boxes"] and first["label"] == second["label"]


def test_a_model_without_views_is_explained_too(whole, photos, tmp_path):
    assert main([whole, str(photos / "bird.png"), "--output", str(tmp_path / "out"), "--top_k", "2"]) == 0
    (entry,) = read(tmp_path / "out")
    assert entry["boxes"] is None and entry["views"] == [] and len(entry["top"]) == 2
    assert (tmp_path / "out" / "bird.jpg").is_file()


def test_without_the_heat_map_the_drawing_is_another(closer, photos, tmp_path):
    sizes = []
    for flags in ([], ["--no_heat_map"]):
        output = tmp_path / f"out{len(flags)}"
        assert main([closer, str(photos / "bird.png"), "--output", str(output), *flags]) == 0
        with Image.open(output / "bird.jpg") as drawing:
            sizes.append(np.asarray(drawing).copy())
    assert sizes[0].shape == sizes[1].shape and (sizes[1][150:300, 530:1000] > 240).all()
    assert (sizes[0][150:300, 530:1000] < 240).any()
    assert read(tmp_path / "out0")[0]["label"] == read(tmp_path / "out1")[0]["label"]


def test_an_unreadable_photograph_keeps_its_entry_and_the_exit_code_is_1(closer, photos, tmp_path, capsys):
    (photos / "bird.png").write_bytes(b"not a picture")
    assert main([closer, str(photos), "--output", str(tmp_path / "out")]) == 1
    entries = read(tmp_path / "out")
    assert [entry["error"] is None for entry in entries] == [False, True, True]
    assert entries[0]["picture"] is None and "bird.png: not a picture" in entries[0]["error"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bird-2.jpg", "explain.json", "wide.jpg"]
    assert "3 pictures, 1 failed (first: " in capsys.readouterr().err


def test_a_folder_that_is_not_empty_is_refused_unless_told(closer, photos, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "notes.txt").write_text("precious")
    (output / "explain.json").write_text("old")
    with pytest.raises(UsageError, match=r"out: not empty; .*--overwrite"):
        main([closer, str(photos), "--output", str(output)])
    assert (output / "explain.json").read_text() == "old"
    assert main([closer, str(photos), "--output", str(output), "--overwrite"]) == 0
    assert (output / "notes.txt").read_text() == "precious" and len(read(output)) == 3


@pytest.mark.parametrize("place", ["photos", "photos/sub", "link"])
def test_photographs_are_never_replaced_by_their_drawings(closer, photos, tmp_path, place):
    (tmp_path / "link").symlink_to(photos, target_is_directory=True)
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    with pytest.raises(UsageError, match="holds the photograph"):
        main([closer, str(photos), "--output", str(tmp_path / place), "--overwrite"])
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before


def test_what_was_written_before_a_failure_stays_whole(closer, photos, tmp_path, monkeypatch):
    from fgvc.prediction.explain import drawing

    draw, done = drawing.draw, []

    def interrupted(*arguments):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return draw(*arguments)

    monkeypatch.setattr(drawing, "draw", interrupted)
    assert fgvc_main(["explain", closer, str(photos), "--output", str(tmp_path / "out")]) == 130
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bird.jpg"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone.jpg", "--output", "{new}"], r"gone\.jpg: no such picture or folder"),
        ([".", "--output", "{new}", "--top_k", "0"], "top_k: 0"),
        ([".", "--output", "{new}", "--device", "gpu"], "device: 'gpu'"),
        ([".", "--output", "{file}"], "file: a file; --output is a folder"),
    ],
)
def test_a_wrong_flag_is_a_usage_error_before_anything_is_written(whole, tmp_path, words, said):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=said):
        main([whole, *(word.format(new=tmp_path / "new", file=tmp_path / "file") for word in words)])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_argparse_and_a_missing_model_end_with_their_codes(photos, tmp_path, capsys):
    with pytest.raises(UsageError, match="required: --output; fgvc explain --help says what it takes"):
        main(["model", str(photos)])
    with pytest.raises(ModelFileError):
        main([str(tmp_path), str(photos), "--output", str(tmp_path / "out")])


def test_paths_are_read_from_stdin_even_with_odd_bytes(whole, photos, tmp_path, monkeypatch):
    odd = os.fsdecode(os.fsencode(photos) + b"/caf\xe9.png")
    (photos / "bird.png").rename(odd)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(os.fsencode(odd + "\n"))))
    assert main([whole, "-", "--output", str(tmp_path / "out")]) == 0
    assert read(tmp_path / "out")[0]["picture"] == os.fsdecode(b"caf\xe9.jpg")  # kept as JSON's own escape
    assert b"caf\xe9.jpg" in [os.fsencode(path.name) for path in (tmp_path / "out").iterdir()]


def test_no_two_drawings_share_a_name():
    pictures = ["a/x.jpg", "b/x.png", "X.jpg", "x-2.jpg", "x.tar.jpg", "c/x.jpg"]
    names = names_for(pictures)
    assert names[0] == "x.jpg" and names[4] == "x.tar.jpg"
    assert len({name.lower() for name in names}) == len(pictures)


def test_predict_carries_the_boxes_in_every_format(closer, whole, photos, tmp_path):
    """As fractions of the upright photograph, so that they hold at any size at which it is shown."""
    for suffix in ("csv", "json", "jsonl"):
        assert fgvc_main(["predict", closer, str(photos), "--output", str(tmp_path / f"out.{suffix}")]) == 0
    results = fgvc.load(closer).predict(photos)
    text = {suffix: (tmp_path / f"out.{suffix}").read_text() for suffix in ("csv", "json", "jsonl")}
    found = {
        "csv": [json.loads(row["boxes"]) for row in csv.DictReader(io.StringIO(text["csv"]))],
        "json": [row["boxes"] for row in json.loads(text["json"])],
        "jsonl": [json.loads(row)["boxes"] for row in text["jsonl"].splitlines()],
    }
    for boxes in found.values():
        for row, result in zip(boxes, results, strict=True):
            assert len(row) == 2 and np.allclose(row, result.boxes, atol=2e-6)
            assert all(0 <= x <= 1 for box in row for x in box)
    assert fgvc_main(["predict", whole, str(photos), "--output", str(tmp_path / "whole.csv")]) == 0
    assert "boxes" not in (tmp_path / "whole.csv").read_text().splitlines()[0].split(",")
