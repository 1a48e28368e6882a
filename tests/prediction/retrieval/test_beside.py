import json
from pathlib import Path

import numpy as np
import pytest
from fakes.tiny_model import saved, tiny_model
from fakes.tiny_run import make_photos, read_csv

import fgvc
from fgvc.__main__ import main
from fgvc.errors import UsageError
from fgvc.features.folder import open_features
from fgvc.images.resizing import EvalResize
from fgvc.prediction.results import Result
from fgvc.prediction.retrieval.beside import Beside

LEVELS = ["--data.source.levels", "[genus, species]", "--data.val_fraction", "0", "--device", "cpu"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "photos", train=3, val=0, test=2, noise=120)
    made = saved(tmp_path / "runs" / "birds")
    assert main(["embed", str(made), "photos", *LEVELS, "--output", "gallery"]) == 0
    return made


def by_hand(path, k):
    """Rank the gallery in float64 by the features that `embed` computed, without the photograph itself."""
    parts = [open_features("gallery").part(split) for split in ("train", "test")]
    x = np.concatenate([part.features for part in parts]).astype(np.float64)
    paths = [f"photos/{one}" for part in parts for one in part.paths]
    x /= np.linalg.norm(x, axis=1)[:, None]
    near = x @ x[paths.index(path)]
    order = [i for i in np.argsort(-near, kind="stable").tolist() if paths[i] != path][:k]
    return [paths[i] for i in order], near[order]


def test_the_neighbours_beside_an_answer_are_those_of_its_features(run):
    predictor = fgvc.load(run, device="cpu")
    plain = predictor.predict("photos/test", batch_size=2)
    predictor.compare_with("gallery", 4)
    results = predictor.predict("photos/test", batch_size=2)
    assert len(results) == 6
    for before, result in zip(plain, results, strict=True):
        paths, values = by_hand(result.path, 4)
        assert [near.path for near in result.neighbours] == paths
        np.testing.assert_allclose([near.value for near in result.neighbours], values, atol=1e-5)
        assert all(near.label == Path(near.path).parent.name for near in result.neighbours)
        assert (before.label, before.score, before.neighbours) == (result.label, result.score, None)
        assert Result.from_dict(json.loads(json.dumps(result.to_dict()))) == result
        assert f"near: {result.neighbours[0].value:.3f}" in result._repr_html_()
        assert "neighbours" not in before.to_dict()
    asked = fgvc.predict(run, "photos/test", "cpu", gallery="gallery", neighbours=2, batch_size=2)
    assert [one.neighbours for one in asked] == [one.neighbours[:2] for one in results]
    results.save("saved.csv")
    assert read_csv(Path("saved.csv"))[0]["neighbour4_path"] == results[0].neighbours[3].path


def test_the_network_runs_once_for_answer_and_neighbours(run):
    predictor = fgvc.load(run, device="cpu")
    predictor.compare_with("gallery")
    runs = []
    predictor.model.recognizer.register_forward_hook(lambda *_: runs.append(1))
    predictor.predict("photos/test", batch_size=3)
    assert len(runs) == 2


@pytest.mark.parametrize("layout", ["wide", "long"])
def test_tables_have_columns_of_neighbours(run, layout):
    (run.parent.parent / "photos/test/broken.png").write_bytes(b"no picture")
    words = ["predict", str(run), "photos/test", "--gallery", "gallery", "--neighbours", "2", "--device", "cpu"]
    assert main([*words, "--layout", layout, "--output", "out.csv", "--sheet", "out.png", "--top_k", "2"]) == 1
    assert main([*words, "--output", "out.json"]) == 1
    plain = {one["path"]: one for one in json.loads(Path("out.json").read_text())}
    rows = read_csv(Path("out.csv"))
    assert len(rows) == {"wide": 7, "long": 13}[layout]
    for row in rows:
        near = plain[row["path"]].get("neighbours", [])
        assert len(near) == (0 if row["error"] else 2)
        assert [row["neighbour1_path"], row["neighbour2_path"]] == ([one["path"] for one in near] or ["", ""])
        assert [row["neighbour1_label"], row["neighbour2_label"]] == ([one["label"] for one in near] or ["", ""])
        if near:
            assert float(row["neighbour2_cosine"]) == pytest.approx(near[1]["cosine"], abs=1e-6)
            assert list(near[0]["lineage"]) == ["genus", "species"]
    assert Path("out.png").is_file()


def test_a_stopped_run_goes_on_with_its_neighbours_and_no_others(run, capsys):
    words = ["predict", str(run), "photos/test", "--gallery", "gallery", "--device", "cpu", "--batch_size", "2"]
    assert main([*words, "--output", "straight.jsonl"]) == 0
    whole = Path("straight.jsonl").read_text().splitlines()
    assert main([*words, "--output", "out.jsonl"]) == 0
    provenance = json.loads(Path("out.jsonl.provenance.json").read_text())
    assert provenance["options"]["gallery"] == "gallery"
    Path("out.jsonl").unlink()
    from fgvc.commands.predict import _parser, _terms
    from fgvc.prediction.provenance import hashes_of

    predictor = fgvc.load(run, device="cpu")
    predictor.compare_with("gallery")
    terms = _terms(_parser().parse_args([*words[1:], "--output", "out.jsonl"]), hashes_of(run), None, predictor.beside)
    head = json.dumps({"started": "2026-01-01T00:00:00+00:00", "terms": terms})
    Path(".out.jsonl.part.jsonl").write_text("\n".join([head, *whole[:4]]) + "\n")
    assert main([*words, "--output", "out.jsonl", "--neighbours", "3"]) == 2
    assert "with --neighbours 5, not 3" in capsys.readouterr().err
    assert main([*words, "--output", "out.jsonl"]) == 0
    assert "4 answers of a stopped run are taken over" in capsys.readouterr().err
    assert Path("out.jsonl").read_text().splitlines() == whole


def test_what_does_not_fit_is_refused_in_one_line(run, capsys):
    assert main(["predict", str(run), "photos/test", "--neighbours", "2"]) == 2
    assert "of which photographs? give --gallery FEATURES" in capsys.readouterr().err
    assert main(["predict", str(run), "photos/test", "--neighbours", "0", "--gallery", "gallery"]) == 2
    assert "--neighbours 0: give 1 or more" in capsys.readouterr().err
    model = tiny_model()
    with pytest.raises(UsageError, match="features of another network than the model: its resize is"):
        model.resize = EvalResize(32, "squash")
        Beside(model, "gallery")
    main(["embed", "test_resnet", "photos", *LEVELS, "--weights", "none", "--image_size", "32", "--output", "other"])
    with pytest.raises(UsageError, match="features of another network than the model: its weights is"):
        Beside(tiny_model(), "other")
    main(["embed", str(run), "photos", *LEVELS, "--take", "pooled", "--output", "pooled"])
    with pytest.raises(UsageError, match="holds pooled of photographs"):
        Beside(tiny_model(), "pooled")
    with pytest.raises(UsageError, match="neighbours: 0; give 1 or more"):
        Beside(tiny_model(), "gallery", 0)
