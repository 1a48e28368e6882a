import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fakes.tiny_model import saved
from fakes.tiny_run import make_photos
from PIL import Image

import fgvc
from fgvc.__main__ import main
from fgvc.features.folder import open_features
from fgvc.features.unfinished import Unfinished
from fgvc.images.pictures import square_of

NET = ["--weights", "none", "--image_size", "32", "--device", "cpu"]
LEVELS = ["--data.source.levels", "[genus, species]", "--data.val_fraction", "0"]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_photos(tmp_path / "photos", train=3, val=0, test=2).relative_to(tmp_path)


def said(capsys, *words):
    code = main(["embed", *map(str, words)])
    out, err = capsys.readouterr()
    assert out == ""
    return code, err.replace("\r", "\n").strip().splitlines()


def fails(capsys, *words):
    code, err = said(capsys, *words)
    assert code == 2 and err[-1].startswith("fgvc: ")
    return err[-1]


def test_a_folder_is_embedded_and_the_second_time_there_is_nothing_to_do(photos, capsys):
    code, err = said(capsys, "test_resnet", photos, *NET, *LEVELS)
    assert code == 0 and err[0] == "test_resnet: 32 px, centred square, area"
    assert err[1].startswith("15 photographs in ")
    assert err[1].endswith("photographs/s -> features/test_resnet-photos (train, test; whole; 96 numbers each)")
    features = open_features("features/test_resnet-photos")
    assert features.taxonomy.levels == ("genus", "species") and features.splits == ("train", "test")
    code, err = said(capsys, "test_resnet", photos, *NET, *LEVELS)
    assert code == 0 and err[1].startswith("nothing to do: features/test_resnet-photos has the features already (15")


def test_what_is_new_is_told_with_what_was_there(photos, capsys):
    said(capsys, "test_resnet", photos, *NET, *LEVELS)
    Image.new("RGB", (48, 40)).save(photos / "test" / "Larus" / "Larus canus" / "new.png")
    code, err = said(capsys, "test_resnet", photos, *NET, *LEVELS)
    assert code == 0 and err[1].startswith("1 photograph in ") and "; 15 features reused -> " in err[1]


def test_the_lines_that_say_how_to_go_on_run(photos, tmp_path, capsys):
    _, err = said(capsys, "test_resnet", photos, *NET, *LEVELS)
    commands = [line[len("next:  fgvc ") :].split() for line in err[2:]]
    assert [words[0] for words in commands] == ["search", "probe", "few-shot"]
    photo = str(next(photos.rglob("*.png")))
    more = ["--split", "all", "--n_way", "2", "--n_shot", "1", "--n_query", "1", "--n_episodes", "2"]
    for words in ([*commands[0][:-1], photo], [*commands[1][:-1], str(tmp_path / "m")], [*commands[2], *more]):
        assert main(words) == 0, words


def test_of_maps_few_shot_methods_are_named_alone(photos, capsys):
    _, err = said(capsys, "test_resnet", photos, *NET, *LEVELS, "--take", "map")
    assert err[2:] == ["next:  fgvc few-shot features/test_resnet-photos"]


def test_features_of_a_trained_model_are_the_embeddings_of_its_answers(photos, tmp_path, capsys):
    run = saved(tmp_path / "runs" / "birds")
    code, err = said(capsys, run, photos, *LEVELS, "--output", "here", "--batch_size", "4", "--device", "cpu")
    assert code == 0 and err[0].startswith("birds: 32 px, centred square, area; run birds, 5 classes from nothing")
    predictor = fgvc.load(run, device="cpu")
    part = open_features("here").part("train")
    for path, row in zip(part.paths, part.features, strict=True):
        pixels = square_of(photos / path, predictor.model.resize).pixels
        with torch.no_grad():
            wanted = predictor.model.recognizer(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]).embedding[0]
        np.testing.assert_allclose(row, wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_a_config_a_table_and_a_part_of_the_views_and_splits(photos, capsys):
    rows = [f"photos/{path.relative_to(photos)},{path.parent.name}" for path in sorted(photos.rglob("*.png"))]
    Path("birds.csv").write_text("\n".join(["path,label", *rows]))
    code, _ = said(capsys, "test_resnet", "birds.csv", *NET, "--splits", "train", "--views", "whole,flip")
    features = open_features("features/test_resnet-birds")
    assert code == 0 and (features.splits, features.views) == (("train",), ("whole", "flip"))
    Path("data.yaml").write_text("data: {source: {class_path: Table, init_args: {path: birds.csv}}}")
    said(capsys, "test_resnet", "--config", "data.yaml", *NET, "--splits", "train")
    assert open_features("features/test_resnet-data").part("train").paths == features.part("train").paths


def test_a_table_is_read_by_others(photos, capsys):
    said(capsys, "test_resnet", photos, *NET, *LEVELS)
    table = pd.read_parquet("features/test_resnet-photos/test-whole.parquet")
    part = open_features("features/test_resnet-photos").part("test")
    assert table["path"].tolist() == part.paths and table["label"].tolist() == part.labels.tolist()
    assert table["class"].tolist() == [" > ".join(Path(path).parts[1:3]) for path in part.paths]
    assert (np.stack(table["vector"]) == part.features).all()
    assert table["size"].tolist() == [(photos / path).stat().st_size for path in part.paths]


def test_photographs_without_labels(photos, tmp_path, capsys):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, photo in enumerate(sorted(photos.rglob("*.png"))):
        photo.rename(flat / f"{i}.png")
    Image.new("RGB", (48, 40)).save(os.fsencode(flat) + b"/caf\xe9.png")
    code, _ = said(capsys, "test_resnet", "flat", *NET)
    part = open_features("features/test_resnet-flat").part("test")
    assert code == 0 and set(part.labels.tolist()) == {-1} and len(part.features) == 16
    assert sorted(part.paths) == sorted(file.name for file in flat.iterdir())
    assert pd.read_parquet("features/test_resnet-flat/test-whole.parquet")["class"].tolist() == [""] * 16
    (flat / "more").mkdir()
    assert "if they have no labels, give --unlabelled" in fails(capsys, "test_resnet", "flat", *NET)
    code, err = said(capsys, "test_resnet", "flat", *NET, "--unlabelled")
    assert code == 0 and err[1].startswith("nothing to do")


def test_the_resize_follows_data_config_and_flags(photos, capsys):
    said(capsys, "test_resnet", photos, *NET, *LEVELS, "--data.fit", "squash", "--crop_fraction", "0.5")
    told = json.loads(Path("features/test_resnet-photos/features.json").read_text())["resize"]
    assert told == {"size": 32, "fit": "squash", "crop_fraction": 0.5, "interpolation": "area"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give a model first"),
        (["--output", "x", "test_resnet", "photos"], "give a model first"),
        (
            ["test_resnett", "photos", *NET],
            "test_resnett: neither the folder of a model nor a network of timm; did you",
        ),
        (["runs/gone", "photos"], "runs/gone: no model here (no such folder)"),
        (["test_resnet", "gone", *NET], "gone: no such folder of photographs, table or run"),
        (["test_resnet", "--weights", "none"], "fgvc embed test_resnet: give the photographs"),
        (["test_resnet", "photos", *NET, "--take", "pool"], "did you mean 'pooled'"),
        (["test_resnet", "photos", *NET, "--take", "cls+mean"], "has no class token"),
        (["test_resnet", "photos", *NET, "--views", "flop"], "did you mean 'flip'"),
        (["test_resnet", "photos", *NET, "--splits", "val"], "no split 'val'; the data has train, test"),
        (["test_resnet", "photos", *NET, "--interpolation", "nearest"], "interpolation: 'nearest'"),
        (["test_resnet", "photos", *NET, "--outptu", "x"], "did you mean 'output'"),
        (["test_resnet", "photos", "--weights", "gone.pth"], "gone.pth"),
        (["test_vit", "photos", "--weights", "none", "--image_size", "33"], "no multiple of its patch"),
    ],
)
def test_mistakes_are_told_in_one_line(photos, capsys, words, told):
    assert told in fails(capsys, *words, *(LEVELS if "photos" in words else []))


def test_a_trained_model_keeps_its_own_weights_and_size(photos, tmp_path, capsys):
    run = saved(tmp_path / "birds")
    assert "--weights: " in fails(capsys, run, photos, *LEVELS, "--weights", "none")
    assert "was trained for 32 px" in fails(capsys, run, photos, *LEVELS, "--image_size", "64")


def test_another_model_in_the_same_folder_is_refused(photos, capsys):
    said(capsys, "test_resnet", photos, *NET, *LEVELS, "--output", "x")
    told = fails(capsys, "test_vit", photos, *NET, *LEVELS, "--output", "x")
    assert told == (
        "fgvc: x: holds features with network test_resnet, not test_vit; choose another --output, or give --overwrite "
        "to replace them"
    )
    code, _ = said(capsys, "test_vit", photos, *NET, *LEVELS, "--output", "x", "--overwrite")
    assert code == 0 and open_features("x").description["network"] == "test_vit"


def test_two_at_once_are_refused(photos, capsys):
    with Unfinished(Path("x"), "").held():
        assert "another fgvc embed is writing it" in fails(
            capsys, "test_resnet", photos, *NET, *LEVELS, "--output", "x"
        )


def test_ctrl_c_says_what_is_kept(photos, capsys, monkeypatch):
    save = Unfinished.save

    def stop(self, key, batch):
        save(self, key, batch)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Unfinished, "save", stop)
        code, err = said(capsys, "test_resnet", photos, *NET, *LEVELS, "--batch_size", "4", "--output", "x")
    assert code == 130 and err[-2] == "what is computed is kept in x: give the same command again to go on"
    _, err = said(capsys, "test_resnet", photos, *NET, *LEVELS, "--batch_size", "4", "--output", "x")
    assert "4 features of a stopped run taken over" in err[1] and err[1].startswith("11 photographs")
