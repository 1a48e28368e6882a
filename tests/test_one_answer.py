"""One definition of an answer: the same photographs get the same names and numbers wherever fgvc tells them.

Every config of `configs/methods` whose model knows classes is trained for two steps, so that its levels contradict each
other, and given random temperatures and either readout. A new method needs no line here.
"""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fakes.stages import write_stages
from fakes.tiny_model import certified
from fakes.tiny_run import CPU, data_flags, read_csv
from PIL import Image
from test_configs import METHODS, has_episodes, learns_places, shrink, source_flags, stem

from fgvc.__main__ import main
from fgvc.commands import predict
from fgvc.images.contact_sheet import contact_sheet
from fgvc.methods.part_localizer import BIRD_POINTS
from fgvc.prediction.predictor import load
from fgvc.report import page
from fgvc.report.run import read

LEVELS = ("order", "family", "genus", "species")
TREE = {f"species {i}": (f"order {i // 6}", f"family {i // 3}", f"genus {2 * i // 3}") for i in range(12)}
TESTED = 2
ANSWERING = [config for config in METHODS if not has_episodes(yaml.safe_load(config.read_text()))]
QUICK = ["--model.image_size", "32", "--data.source_size", "40", "--model.lr", "0.01", "--model.warmup_epochs", "0"]
STEPS = ["--trainer.limit_train_batches", "2", "--trainer.num_sanity_val_steps", "0"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Noise of any colour: no two photographs are alike."""
    root = tmp_path_factory.mktemp("data") / "photos"
    for s, (species, above) in enumerate(TREE.items()):
        for split, number in {"train": 2, "val": 1, "test": TESTED}.items():
            folder = Path(root, split, *above, species)
            folder.mkdir(parents=True)
            for i in range(number):
                rng = np.random.default_rng([s, i, len(split)])
                pixels = rng.integers(0, 256, (1, 1, 3)) + rng.integers(-90, 91, (44, 52, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{s}_{i}.png")
    write_places(root)
    return root


def write_places(root):
    """Write places.csv, a table of the photographs with a box and the points of a bird for each."""
    rng = np.random.default_rng(0)
    points = [f"point_{name}_{axis}" for name in BIRD_POINTS for axis in "xy"]
    rows = [["path", "split", *LEVELS, "box_x1", "box_y1", "box_x2", "box_y2", *points]]
    for photo in sorted(root.rglob("*.png")):
        path = photo.relative_to(root)
        places = rng.uniform(0.2, 0.8, len(points)).round(3)
        rows.append([path.as_posix(), *path.parts[:-1], 0.1, 0.1, 0.9, 0.9, *places])
    with (root / "places.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="module", params=ANSWERING, ids=stem)
def run(request, photos, tmp_path_factory):
    """A run of one method."""
    home = tmp_path_factory.mktemp(request.param.stem)
    config = shrink(yaml.safe_load(request.param.read_text()))
    config["trainer"]["max_epochs"] = 1
    config.pop("phases", None)
    if "stages" in config.get("data", {}):
        config["data"]["stages"] = str(write_stages(home / "stages.csv", photos, levels=len(LEVELS)))
    if config["model"]["recognizer"]["init_args"].get("crop_size"):
        config["model"]["recognizer"]["init_args"]["crop_size"] = 32
    (home / "method.yaml").write_text(yaml.safe_dump(config))
    flags = [*data_flags(photos, batch_size=8, levels=f"[{', '.join(LEVELS)}]"), *QUICK, *STEPS, *CPU]
    if learns_places(config):
        table = {"path": str(photos / "places.csv"), "levels": list(LEVELS), "places": "fractions"}
        flags = ["--data.source", "Table", *source_flags(table), *flags[flags.index("--data.batch_size") :]]
        flags += ["--model.lr", "0.001"]  # at more, crops of noise make two steps sure of one species
    assert main(["fit", "--config", str(home / "method.yaml"), *flags, "--runs", str(home), "--name", "run"]) == 0
    return home / "run"


def recalibrate(run, readout):
    """Give a model a readout, temperatures that make it sure, and counts that vouch for half of what it says."""
    path = run / "model/fgvc.json"
    described = json.loads(path.read_text())
    temperatures = {level: 0.02 * (depth + 1) for depth, level in enumerate(LEVELS)}
    changes = {"readout": readout, "temperatures": temperatures, "vouching": certified(0.5).to_plain()}
    path.write_text(json.dumps(described | changes))


def told(run, photos, out, monkeypatch, *more):
    """Return the rows of `fgvc predict` by photograph, and the tiles of its sheet in the same order."""
    drawn = []

    def draw(tiles):
        drawn.extend(tiles)
        return contact_sheet(tiles)

    monkeypatch.setattr(predict.contact_sheet, "contact_sheet", draw)
    words = [str(run), str(photos / "test"), "--output", str(out), "--sheet", f"{out}.jpg", *more]
    assert main(["predict", *words]) == 0
    rows = json.loads(out.read_text()) if out.suffix == ".json" else read_csv(out)
    return {Path(row["path"]).relative_to(photos).as_posix(): row for row in rows}, drawn


def summed(row, level):
    """Return the probability of all species below the answer's name at a level."""
    return sum(guess["score"] for guess in row["top"] if guess["lineage"][level] == row["lineage"][level])


def close(found, wanted):
    # temperatures of 0.02 make fifty times as much of the last digits, a signed root of numbers near 0 still more
    return math.isclose(float(found), float(wanted), abs_tol=5e-4)


@pytest.mark.parametrize("readout", ["own", "marginal"])
def test_everything_that_tells_an_answer_tells_the_same(run, photos, tmp_path, monkeypatch, readout):
    recalibrate(run, readout)
    predictor = load(run)
    least = predictor.threshold(0.9)
    assert main(["test", str(run)]) == 0
    tested = {row["path"]: row for row in read_csv(run / "predictions_test.csv")}
    scores = json.loads((run / "test.json").read_text())
    predicted, tiles = told(run, photos, tmp_path / "a.json", monkeypatch, "--top_k", str(len(TREE)))
    table, vouched = told(run, photos, tmp_path / "b.csv", monkeypatch, "--precision", "0.9")
    words = [str(run), str(photos / "test"), "--output", str(tmp_path / "explained"), "--no_heat_map"]
    assert main(["explain", *words]) == 0
    explained = json.loads((tmp_path / "explained/explain.json").read_text())
    explained = {Path(row["path"]).relative_to(photos).as_posix(): row for row in explained}
    report = read(run)
    answers = report.answers

    assert tested.keys() == predicted.keys() == table.keys() == explained.keys()
    assert len(tested) == len(TREE) * TESTED == len(tiles) == len(vouched)
    for n, (path, row) in enumerate(predicted.items()):
        names, numbers = row["lineage"], row["lineage_scores"]
        assert tuple(names.values()) == (*TREE[row["label"]], row["label"])  # an answer never contradicts itself
        for level in LEVELS:
            of_test, of_table = tested[path], table[path]
            found = (of_test[f"{level}_pred"], of_table[level], explained[path]["lineage"][level])
            assert found == (names[level],) * 3, level
            of_explain = explained[path]["lineage_scores"][level]
            for number in (of_test[f"{level}_score"], of_table[f"{level}_score"], of_explain):
                assert close(number, numbers[level]), (level, path)
        leaf = (row["score"], numbers["species"], of_test["score"], of_table["score"], explained[path]["score"])
        assert all(close(number, leaf[0]) for number in leaf)
        assert explained[path]["top"][0] == {**explained[path]["top"][0], "label": row["label"], "lineage": names}
        assert (tiles[n].label, tiles[n].score) == (row["label"], row["score"])
        sure = [level for level in LEVELS if numbers[level] >= least]
        answer = names[sure[-1]] if sure else "unknown"
        assert (of_table["answer"], vouched[n].label) == (answer, answer)
        assert of_table["answer_level"] == (sure[-1] if sure else "")
        wanted = numbers[sure[-1]] if sure else None
        assert vouched[n].score == wanted and (close(of_table["answer_score"], wanted) if sure else True)

    sums = [[summed(row, level) for level in LEVELS] for row in predicted.values()]
    apart = np.abs(np.array(sums) - [[*row["lineage_scores"].values()] for row in predicted.values()]).max()
    has_own = len(predictor.model.recognizer(torch.zeros(1, 3, 32, 32)).logits) > 1
    assert apart > 0.01 if has_own and readout == "own" else apart < 1e-5

    for row, path in enumerate(answers.paths):
        names = [answers.names[d][code] for d, code in enumerate(answers.answer[row])]
        assert names == [*predicted[path]["lineage"].values()]
        assert close(answers.confidence[row], predicted[path]["score"])
    text = (run / "report.html").read_text()
    assert f"({readout})" in text
    for pair in report.pairs:
        sure = page.percent(answers.confidence[pair.row])
        assert f"taken for {predicted[answers.paths[pair.row]]['label']}, {sure} sure" in text
    for level, share in zip(LEVELS, report.levels, strict=True):
        right = sum(row["lineage"][level] == tested[path][f"{level}_true"] for path, row in predicted.items())
        assert scores[f"test/{level}/top1"] == pytest.approx(right / len(predicted), abs=1e-6)
        assert (share.right, share.total) == (right, len(predicted))
    assert scores["readout"] == readout and scores["test/inconsistency"] == 0
    assert scores["test/own/inconsistency"] > 0  # so names that were taken from the best class of a level would differ
    provenance = json.loads((tmp_path / "a.json.provenance.json").read_text())
    assert provenance["model"]["readout"] == readout
