import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.tiny_model import TAXONOMY
from fakes.tiny_run import CPU, NET, TREE, data_flags, make_photos, read_csv
from safetensors.torch import load_file
from scipy.stats import binomtest

from fgvc.__main__ import main as fgvc
from fgvc.commands.calibrate import HEADER, main, table
from fgvc.confidence.vouching import GRID, Vouching
from fgvc.errors import UsageError
from fgvc.model_file.model import ModelFileError

QUICK = ["--model.warmup_epochs", "0", "--model.lr", "0.01", "--trainer.max_epochs", "2"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Photographs that are hard to tell apart, and runs with a val split, without one, and without a test split."""
    folder = tmp_path_factory.mktemp("home")
    make_photos(folder / "photos", train=8, val=20, test=10, noise=200)
    for name, splits in {"no_val": ("train", "test"), "no_test": ("train", "val")}.items():
        for split in splits:
            (folder / name).mkdir(exist_ok=True)
            (folder / name / split).symlink_to(folder / "photos" / split)
    for name in ("photos", "no_val"):
        flags = [*data_flags(folder / name), "--name", name, "--runs", str(folder / "runs")]
        assert fgvc(["fit", *NET, *CPU, *QUICK, *flags]) == 0
    return folder


@pytest.fixture
def run(home, tmp_path, monkeypatch):
    """A copy of the run with val and test splits, whose stored calibration is spoiled."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(home / "runs/photos", tmp_path / "run")
    described = json.loads(Path("run/model/fgvc.json").read_text())
    spoiled = {**described, "temperatures": {"species": 0.5}, "vouching": None}
    Path("run/model/fgvc.json").write_text(json.dumps(spoiled))
    return Path("run")


def stored(run):
    return json.loads((run / "model/fgvc.json").read_text())


def shares(line):
    """Return the numbers of a line of the table: asked, needed, answered, depth, L, right, low, high, shares ..."""
    return [float(word) for word in line.replace("%", "").replace(",", "").split() if word not in ("of", "to")]


def expected_of(rows, least):
    """Return coverage, depth, precision and the shares of both levels, from the table of all test answers."""
    depths, right = [], 0
    for row in rows:
        passed = [depth for depth, level in enumerate(("genus", "species")) if float(row[f"{level}_score"]) >= least]
        if passed:
            depths.append(max(passed))
            named = {"species": row["species_pred"], "genus": TREE[row["species_pred"]]}
            level = ("genus", "species")[max(passed)]
            right += named[level] == row[f"{level}_true"]
    levels = [100 * depths.count(depth) / len(rows) for depth in range(2)]
    return [100 * len(depths) / len(rows), 1 + np.mean(depths), right, len(depths), *levels]


def test_the_model_is_calibrated_and_the_table_tells_what_the_test_images_show(home, run, capsys):
    before = stored(home / "runs/photos")
    weights = (run / "model/model.safetensors").read_bytes()
    assert main([str(run), "--precision", "0.35", "0.5", "0.999", "--data.batch_size", "7"]) == 0
    out, err = capsys.readouterr()
    after = stored(run)
    # what `fit` had found on the same images, in batches of another size
    assert after["temperatures"]["species"] == pytest.approx(before["temperatures"]["species"], rel=1e-3)
    assert after["vouching"]["answered"][0] == 30  # half of the val images
    assert after["provenance"]["calibration"]["split"] == "val"
    assert (run / "model/model.safetensors").read_bytes() == weights
    assert {**after["provenance"], "calibration": 0} == {**before["provenance"], "calibration": 0}
    assert "calibrated on 60 val images: species calibration error " in err
    assert "shown on 30 test images" in err and "model: run/model" in err

    head, *lines = out.splitlines()
    assert head == HEADER + "   share answered at genus, species"
    assert len(lines) == 3
    assert lines[2].startswith(" 0.999 a precision of 0.999 cannot be vouched for: it needs 2302 counted answers ")
    assert fgvc(["test", str(run)]) == 0
    rows = read_csv(run / "predictions_test.csv")
    told = 0
    for line, asked in zip(lines, (0.35, 0.5), strict=False):
        if "cannot be vouched for" in line:
            continue
        told += 1
        found = shares(line)
        least = min(GRID, key=lambda g, near=found[1]: abs(g - near))
        coverage, depth, right, answered, *levels = expected_of(rows, least)
        interval = binomtest(right, answered).proportion_ci(0.95, method="exact")
        wanted = [asked, coverage, depth, 2, 100 * right / answered, 100 * interval.low, 100 * interval.high, *levels]
        assert [found[0], *found[2:]] == pytest.approx(wanted, abs=0.051)
    assert told


def test_the_images_that_calibrated_are_not_shown(home, run, capsys):
    assert main([str(run), "--precision", "0.5", "--data.source.init_args.root", str(home / "no_test")]) == 0
    assert "shown on 30 val images, calibrated for this table on the other 30;" in capsys.readouterr().err
    whole = stored(run)
    assert whole["vouching"]["answered"][0] == 30  # the model itself is calibrated on all 60, one half of them counted
    assert main([str(run), "--split", "test", "--precision", "0.5"]) == 0
    out, err = capsys.readouterr()
    assert "calibrated on 30 test images" in err
    assert "shown on 15 test images, calibrated for this table on the other 15;" in err
    assert len(out.splitlines()) == 2
    other = stored(run)
    assert other["provenance"]["calibration"]["split"] == "test"
    assert other["vouching"]["answered"][0] == 15
    assert other["temperatures"] != whole["temperatures"]


@pytest.mark.parametrize("split", ["val", "valid", "train"])
def test_images_that_are_not_there_or_that_it_was_trained_on_are_refused(home, split):
    wanted = rf"--split {split}: this run's data has \w+, \w+; .*train again .* or give --split test"
    with pytest.raises(UsageError, match=wanted):
        main([str(home / "runs/no_val"), "--split", split])
    assert stored(home / "runs/no_val")["vouching"] is None


def test_data_of_other_classes_are_refused(home, run, tmp_path):
    shutil.copytree(home / "photos", tmp_path / "fewer", symlinks=True)
    for split in ("train", "val", "test"):
        shutil.rmtree(tmp_path / "fewer" / split / "Larus/Larus canus")
    with pytest.raises(UsageError, match="run: the model knows other classes than the data"):
        main([str(run), "--data.source.init_args.root", str(tmp_path / "fewer")])
    assert stored(run)["temperatures"] == {"species": 0.5}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["twice"], "'twice' is one word too many"),
        (["--precision", "1.5"], "precision: 1.5; it must lie between 0 and 1"),
        (["--precision", "0.9", "--delta", "0"], "delta: 0.0; it must lie between 0 and 1"),
        (["--data.batch_siz", "3"], "batch_siz"),
    ],
)
def test_words_that_mean_nothing_are_refused_before_any_work(run, words, said):
    with pytest.raises(UsageError, match=said) as caught:
        main([str(run), *words])
    assert "\n" not in str(caught.value)
    assert stored(run)["temperatures"] == {"species": 0.5}


def test_a_folder_without_a_run_or_without_a_model_is_refused(run, tmp_path):
    with pytest.raises(UsageError, match="no run folder"):
        main([str(tmp_path / "nothing")])
    shutil.rmtree(run / "model")
    with pytest.raises(ModelFileError, match="no model here"):
        main([str(run)])


LEAVES = range(5)


def opinions(size):
    """Logits of two levels of the tiny tree, and labels: leaves, some inner nodes, some -1."""
    generator = torch.Generator().manual_seed(4)
    labels = torch.randint(5, (size,), generator=generator)
    species = 2 * torch.randn(size, 5, generator=generator) + 3 * torch.nn.functional.one_hot(labels, 5)
    genus = TAXONOMY.targets(labels, "genus")
    own = torch.randn(size, 4, generator=generator) + 2 * torch.nn.functional.one_hot(genus, 4)
    labels[::7] = TAXONOMY.find("Owls")
    labels[1::7] = -1
    return {"species": species, "genus": own}, labels


def softmax(row, temperature):
    powers = [math.exp(x / temperature) for x in row]
    return [x / sum(powers) for x in powers]


def slow_answers(logits, labels, temperatures, least, readout):
    """Return for each image of known leaf the depth of its answer, -1 for none, and whether it is right."""
    levels = (logits["species"].tolist(), logits["genus"].tolist())
    for species, genus, label in zip(*levels, labels.tolist(), strict=True):
        if not 0 <= label < 5:
            continue
        p, q = softmax(species, temperatures["species"]), softmax(genus, temperatures["genus"])
        path = TAXONOMY.path(p.index(max(p)))
        family, genus = (sum(p[leaf] for leaf in LEAVES if TAXONOMY.path(leaf)[d] == path[d]) for d in range(2))
        own = q[TAXONOMY.names("genus").index(path[1])]
        scores = [family, own if readout == "own" else genus, max(p)]
        depth = max((d for d in range(3) if scores[d] >= least), default=-1)
        yield depth, path[: depth + 1] == TAXONOMY.path(label)[: depth + 1]


@pytest.mark.parametrize("readout", ["own", "marginal"])
def test_a_line_of_the_table_is_that_of_a_slow_loop(readout):
    logits, labels = opinions(300)
    temperatures = {"species": 1.7, "genus": 0.6}
    # Counts of which every threshold of 0.5 or more is good enough for 0.9 and none below.
    answered = tuple(1000 for _ in GRID)
    counts = Vouching(answered, tuple(0 if least >= 0.5 else 900 for least in GRID))
    head, line, refused = table(logits, labels, temperatures, readout, counts, TAXONOMY, [0.9, 0.9999], 0.1)
    assert head.endswith("share answered at family, genus, species")
    least = min(grid for grid in GRID if grid >= 0.5)
    answers = list(slow_answers(logits, labels, temperatures, least, readout))
    told = [(depth, right) for depth, right in answers if depth >= 0]
    right = sum(right for _, right in told)
    interval = binomtest(right, len(told)).proportion_ci(0.95, method="exact")
    assert len(answers) < 300 and 0 < right < len(told) < len(answers)
    share = [100 * sum(depth == d for depth, _ in answers) / len(answers) for d in range(3)]
    assert min(share) > 0
    wanted = [0.9, least, 100 * len(told) / len(answers), np.mean([depth for depth, _ in told]) + 1, 3]
    wanted += [100 * right / len(told), 100 * interval.low, 100 * interval.high, *share]
    assert shares(line) == pytest.approx(wanted, abs=0.051)
    assert refused.startswith("0.9999 a precision of 0.9999 cannot be vouched for: it needs 23025 counted answers ")


def test_a_level_without_a_temperature_of_its_own_stays_as_it_is():
    logits, labels = opinions(100)
    counts = Vouching(tuple(1000 for _ in GRID), tuple(0 for _ in GRID))
    plain, one = (
        list(table(logits, labels, temperatures, "own", counts, TAXONOMY, [0.9], 0.1))
        for temperatures in ({"species": 2.0}, {"species": 2.0, "genus": 1.0})
    )
    assert plain == one
    assert shares(plain[1])[1:3] == [0, 100]  # no mistake was counted: every leaf is answered


def test_no_answer_at_all_is_no_error():
    logits = {"species": torch.zeros(6, 5), "genus": torch.zeros(6, 4)}
    counts = Vouching(tuple(1000 for _ in GRID), tuple(0 if least > 0.9 else 900 for least in GRID))
    line = list(table(logits, torch.arange(6) % 5, {}, "own", counts, TAXONOMY, [0.9], 0.1))[1]
    coverage, depth, levels, precision, low, high = shares(line)[2:8]
    assert (coverage, levels, precision, low, high) == (0, 3, 0, 0, 100) and math.isnan(depth)


def rows_of_classifier(run):
    return load_file(run / "model/model.safetensors")["head.classifier.weight"].double()


def test_tau_normalisation_changes_the_rows_once_however_often_it_is_asked_for(run, capsys):
    trained = rows_of_classifier(run)
    for _ in range(2):
        assert main([str(run), "--tau_norm"]) == 0
        err = capsys.readouterr().err
        told = stored(run)["provenance"]["tau_norm"]
        assert f"tau-normalisation: tau {told['tau']:g} of 0 to 1, chosen on 60 val images: " in err
        assert told["split"] == "val" and len(told["tried"]) == 21
        lengths = trained.norm(dim=1)
        wanted = trained * ((lengths.log().mean().exp() / lengths) ** told["tau"])[:, None]
        assert torch.allclose(rows_of_classifier(run), wanted, rtol=1e-5)
    # the accuracy that chose it is what a validation of the model finds
    assert fgvc(["validate", str(run)]) == 0
    best = max(mean for _, mean, _ in told["tried"])
    scores = json.loads((run / "validate.json").read_text())
    assert scores["val/species/mean_per_class"] == pytest.approx(best, abs=1e-6)


def test_views_are_weighed_when_asked_for_and_a_method_of_one_view_says_so(run, capsys):
    assert main(["run", "--weigh_views"]) == 0
    assert "views not weighed: the method has one view" in capsys.readouterr().err
    assert stored(run)["views"] == {}


def test_the_views_of_a_method_that_looks_twice_are_stored(home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    method = ["--model.recognizer", "RACNN", "--model.recognizer.attention", "CentreBox"]
    flags = [*data_flags(home / "photos"), "--name", "twice", "--runs", str(tmp_path)]
    assert fgvc(["fit", *NET, *method, *CPU, *QUICK, *flags]) == 0
    assert main(["twice", "--weigh_views"]) == 0
    told = capsys.readouterr().err
    views = stored(tmp_path / "twice")["views"]
    assert ("views weighed on 30 val images" in told) == bool(views)
    assert bool(views) or "nothing is gained" in told
    assert sum(one["weight"] for one in views.values()) == (pytest.approx(1) if views else 0)
