import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.tiny_model import saved, tiny_model
from fakes.tiny_run import make_photos
from PIL import Image

from fgvc.__main__ import main
from fgvc.features.folder import open_features
from fgvc.model_file.model import save

NET = ["--weights", "none", "--image_size", "32", "--device", "cpu"]
LEVELS = ["--data.source.levels", "[genus, species]", "--data.val_fraction", "0"]
GALLERY = "features/test_resnet-photos"


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = make_photos(tmp_path / "photos", train=3, val=0, test=2, noise=120).relative_to(tmp_path)
    assert main(["embed", "test_resnet", str(made), *NET, *LEVELS, "--views", "whole,flip"]) == 0
    return made


@pytest.fixture
def asked(tmp_path, photos):
    """Two pictures that are not in the gallery, and one that is no picture."""
    folder = tmp_path / "asked"
    folder.mkdir()
    for i, colour in enumerate([(200, 40, 40), (40, 40, 200)]):
        noise = np.random.default_rng(i).integers(-50, 51, (40, 48, 1))
        Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def said(capsys, *words):
    capsys.readouterr()
    code = main(["search", *map(str, words), "--device", "cpu"])
    out, err = capsys.readouterr()
    return code, out, err.replace("\r", "\n").strip().splitlines()


def fails(capsys, *words):
    code, out, err = said(capsys, *words)
    assert (code, out) == (2, "") and err[-1].startswith("fgvc: ") and len(err[-1].splitlines()) == 1
    return err[-1]


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def by_hand(folder, query, k, splits=("train", "test"), euclidean=False):
    """Rank the gallery by plain numpy in float64, with the query's features from a gallery of its own."""
    parts = [open_features(GALLERY).part(split) for split in splits]
    x = np.concatenate([part.features for part in parts]).astype(np.float64)
    paths = [f"photos/{path}" for part in parts for path in part.paths]
    main(["embed", "test_resnet", str(query.parent), *NET, "--output", "of_queries"])
    own = open_features("of_queries").part("test")
    q = own.features[own.paths.index(query.name)].astype(np.float64)
    values = np.linalg.norm(x - q, axis=1) if euclidean else x @ q / np.linalg.norm(x, axis=1) / np.linalg.norm(q)
    order = np.argsort(values if euclidean else -values, kind="stable")[:k]
    return [paths[i] for i in order], values[order]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_are_those_of_the_features_that_embed_computes(asked, capsys, metric):
    code, out, err = said(capsys, GALLERY, asked, "--top_k", "4", "--metric", metric)
    rows = rows_of(out)
    assert code == 0 and err[-1] == "2 queries among 15 photographs of train, test (whole) -> stdout"
    assert [row["query"] for row in rows] == [str(asked / "0.png")] * 4 + [str(asked / "1.png")] * 4
    for i in (0, 1):
        mine = rows[4 * i : 4 * i + 4]
        paths, values = by_hand(asked, asked / f"{i}.png", 4, euclidean=metric == "euclidean")
        assert [row["path"] for row in mine] == paths and [row["rank"] for row in mine] == list("1234")
        np.testing.assert_allclose([float(row[metric]) for row in mine], values, atol=2e-5, rtol=1e-4)
        for row in mine:
            genus, species = Path(row["path"]).parts[2:4]
            assert (row["label"], row["lineage"], row["error"]) == (species, f"{genus} > {species}", "")


def test_a_photograph_of_the_gallery_never_finds_itself(photos, tmp_path, capsys):
    one = next((photos / "train").rglob("*.png"))
    (tmp_path / "link").symlink_to(photos)
    for name in (one, one.absolute(), tmp_path / "link" / one.relative_to(photos)):
        _, out, _ = said(capsys, GALLERY, name, "--top_k", "20")
        assert len(rows_of(out)) == 14 and str(one) not in [row["path"] for row in rows_of(out)]
    copy = shutil.copy(one, tmp_path / "copy.png")
    _, out, _ = said(capsys, GALLERY, copy, "--top_k", "20")
    assert len(rows_of(out)) == 15 and rows_of(out)[0]["path"] == str(one)
    assert float(rows_of(out)[0]["cosine"]) == pytest.approx(1, abs=1e-5)


def test_json_jsonl_and_csv_hold_the_same_and_a_sheet_shows_it(asked, capsys):
    words = [GALLERY, asked, "--top_k", "2"]
    code, out, err = said(capsys, *words, "--output", "near.json", "--sheet", "near.jpg")
    assert (code, out) == (0, "") and err[-1].endswith("-> near.json, near.jpg")
    plain = json.loads(Path("near.json").read_text())
    said(capsys, *words, "--output", "near.jsonl")
    assert [json.loads(line) for line in Path("near.jsonl").read_text().splitlines()] == plain
    said(capsys, *words, "--output", "near.csv")
    for row, (query, near) in zip(
        rows_of(Path("near.csv").read_text()), [(q, n) for q in plain for n in q["neighbours"]], strict=True
    ):
        assert (row["query"], row["path"], row["label"]) == (query["query"], near["path"], near["label"])
        assert float(row["cosine"]) == pytest.approx(near["cosine"], abs=1e-6) and int(row["rank"]) == near["rank"]
        assert list(near["lineage"].items()) == list(
            zip(("genus", "species"), row["lineage"].split(" > "), strict=True)
        )
    with Image.open("near.jpg") as opened:
        sheet = np.asarray(opened)
    tile, gap = 192, 192 // 14
    for row in range(2):
        for column in range(3):
            path = plain[row]["query"] if not column else plain[row]["neighbours"][column - 1]["path"]
            top = gap + row * (tile + round(tile * 0.18) + gap)
            seen = sheet[top + 20 : top + tile - 20, gap + column * (tile + gap) :][:, 20 : tile - 20].mean(axis=(0, 1))
            with Image.open(path) as opened:
                np.testing.assert_allclose(seen, np.asarray(opened).mean(axis=(0, 1)), atol=6)


def test_a_query_that_cannot_be_read_keeps_its_row_and_the_others_go_on(asked, capsys):
    (asked / "0broken.png").write_bytes(b"no picture")
    code, out, err = said(capsys, GALLERY, asked, "--top_k", "1", "--batch_size", "2")
    rows = rows_of(out)
    assert code == 1 and [Path(row["query"]).name for row in rows] == ["0.png", "0broken.png", "1.png"]
    assert "not a picture" in rows[1]["error"] and rows[1]["path"] == "" and rows[0]["path"] and rows[2]["path"]
    assert err[-1].startswith("3 queries, 1 failed (first: ")


def test_splits_and_views_of_the_gallery_are_chosen(asked, capsys):
    _, out, _ = said(capsys, GALLERY, asked / "0.png", "--split", "test", "--top_k", "20")
    assert len(rows_of(out)) == 6 and all("/test/" in row["path"] for row in rows_of(out))
    _, other, _ = said(capsys, GALLERY, asked / "0.png", "--split", "test", "--top_k", "20", "--view", "flip")
    assert [row["cosine"] for row in rows_of(other)] != [row["cosine"] for row in rows_of(out)]
    assert "no features of split 'tets'" in fails(capsys, GALLERY, asked, "--split", "tets")
    assert "no view 'box'" in fails(capsys, GALLERY, asked, "--view", "box")


def test_a_model_and_its_data_are_a_gallery(asked, tmp_path, capsys):
    run = saved(tmp_path / "runs" / "birds")
    code, out, _ = said(capsys, run, asked / "0.png", "--data", "photos", "--top_k", "3")
    assert code == 0 and len(rows_of(out)) == 3
    again, same, _ = said(capsys, "features/birds-photos", asked / "0.png", "--top_k", "3")
    assert (again, same) == (0, out)
    run.rename(tmp_path / "moved")
    assert "its network cannot be read" in fails(capsys, "features/birds-photos", asked)
    assert (
        said(capsys, "features/birds-photos", asked / "0.png", "--top_k", "3", "--model", tmp_path / "moved")[1] == out
    )
    other = tiny_model()
    with torch.no_grad():
        next(iter(other.recognizer.parameters())).add_(1)
    save(other, tmp_path / "other" / "model")
    line = fails(capsys, "features/birds-photos", asked, "--model", tmp_path / "other")
    assert "features of another network than" in line and "its weights is" in line


def test_near_ones_by_a_graph_are_the_same_here(asked, capsys):
    pytest.importorskip("usearch.index")
    exact = said(capsys, GALLERY, asked)[1]
    assert said(capsys, GALLERY, asked, "--approximate")[1] == exact


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([GALLERY, "asked", "--metric", "cosin"], "metric: 'cosin'; it is cosine or euclidean; did you mean 'cosine'"),
        ([GALLERY, "asked", "--top_k", "0"], "--top_k: 0; give 1 or more"),
        ([GALLERY, "nowhere.png"], "nowhere.png: no such picture or folder"),
        (["photos", "asked"], "photos: no features here"),
        ([GALLERY, "asked", "--output", "near.txt"], "near.txt: neighbours are written as .csv, .json, .jsonl"),
        ([GALLERY, "asked", "--sheet", "near.gif"], "near.gif: a contact sheet is written as"),
        ([GALLERY], "the following arguments are required: INPUT"),
    ],
)
def test_mistakes_end_in_one_line(asked, capsys, words, line):
    assert line in fails(capsys, *words)


def test_features_of_a_timm_network_are_rebuilt_with_all_that_was_asked(photos, capsys):
    words = ["--mean", "[0.1, 0.2, 0.3]", "--model_args", "{drop_rate: 0.1}", "--crop_fraction", "0.5"]
    main(["embed", "test_resnet", str(photos), *NET, *LEVELS, *words, "--output", "asked_for"])
    one = next((photos / "test").rglob("*.png"))
    shutil.copy(one, "copy.png")
    code, out, _ = said(capsys, "asked_for", "copy.png", "--top_k", "1")
    assert code == 0 and rows_of(out)[0]["path"] == str(one)
    assert float(rows_of(out)[0]["cosine"]) == pytest.approx(1, abs=1e-5)


def scored(capsys, *words):
    code, out, _ = said(capsys, "--evaluate", *words)
    assert code == 0
    return dict(line.split("  ", 1) for line in out.splitlines()), out


def test_the_table_of_an_evaluation_says_what_was_measured(photos, capsys):
    found, _ = scored(capsys, GALLERY)
    told = {name: value.strip() for name, value in found.items()}
    assert told["network"] == "test_resnet, prelogits, 32 px" and told["split"] == "test, view whole"
    assert told["queries"] == "6 = gallery, itself removed; 0 lone ones only in the gallery; 0 without a class left out"
    part = open_features(GALLERY).part("test")
    x = part.features.astype(np.float64)
    near = x @ x.T / np.linalg.norm(x, axis=1) / np.linalg.norm(x, axis=1)[:, None]
    np.fill_diagonal(near, -2)
    first = (part.labels[near.argmax(axis=1)] == part.labels).mean()
    assert told["R@1 (any hit)"] == f"{100 * first:.2f} %" and told["has seen"] == "not known"
    assert {"mAP", "mAP@R", "R-precision", "R@5 (any hit)", "R@10 (any hit)", "metric", "classes"} <= set(told)


def test_halves_and_lists_of_classes_are_evaluated(photos, capsys):
    first, _ = scored(capsys, GALLERY, "--split", "all", "--classes", "first_half")
    second, _ = scored(capsys, GALLERY, "--split", "all", "--classes", "second_half")
    assert (first["classes"].strip(), second["classes"].strip()) == ("1", "2")
    assert first["queries"].strip().startswith("5 = ") and second["queries"].strip().startswith("10 = ")
    Path("list.csv").write_text("class,part\nLarus fuscus,base\nLarus canus,novel\nSterna hirundo,novel\n")
    listed, _ = scored(capsys, GALLERY, "--split", "all", "--classes", "list.csv")
    assert listed["classes"].strip() == "2" and listed["split"].strip() == "all, list.csv, view whole"
    assert "no such file" in fails(capsys, "--evaluate", GALLERY, "--classes", "third")
    assert "no features of split 'val'" in fails(capsys, "--evaluate", GALLERY, "--split", "val")
