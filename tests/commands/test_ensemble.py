import csv
import json

import numpy as np
import pytest
import yaml
from fakes.several_runs import train
from fakes.tiny_model import saved
from fakes.tiny_run import make_photos, read_csv

import fgvc
from fgvc.__main__ import main
from fgvc.errors import StoppedError
from fgvc.model_file.ensembles import load_many
from fgvc.model_file.folder import is_model
from fgvc.model_file.model import load
from fgvc.prediction.predictor import Predictor
from fgvc.taxonomy.tree import Taxonomy


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("birds"), train=6, val=8, test=3, noise=120)


@pytest.fixture(scope="module")
def runs(photos, tmp_path_factory):
    """Three runs, the second of which sees more pixels."""
    home = tmp_path_factory.mktemp("runs")
    return [train(home, f"r{seed}", photos, seed, 40 if seed == 1 else 32) for seed in range(3)]


@pytest.fixture
def words(runs):
    return list(map(str, runs))


def probabilities(models, photograph, level):
    """Return (M, C): what each model says of a photograph by itself."""
    found = []
    for model in models:
        top = fgvc.load(model).predict(photograph, top_k=99)
        if level == "species":
            found.append({guess.label: guess.score for guess in top.top})
        else:
            found.append(top.lineage_scores[level])
    return found


def test_the_answer_of_several_models_is_the_mean_of_what_each_says_alone(runs, photos):
    photograph = next((photos / "test").rglob("*.png"))
    found = fgvc.load(runs).predict(photograph, top_k=3)
    alone = probabilities(runs, photograph, "species")
    for guess in found.top:
        assert guess.score == pytest.approx(np.mean([one[guess.label] for one in alone]), abs=1e-5)
    assert fgvc.predict(runs, photograph).score == pytest.approx(found.score)


def test_predict_takes_several_models_and_writes_the_columns_of_one(runs, words, photos, tmp_path, capsys):
    one, several = tmp_path / "one.csv", tmp_path / "several.csv"
    assert main(["predict", words[0], str(photos / "test"), "--output", str(one)]) == 0
    assert main(["predict", *words, str(photos / "test"), "--output", str(several)]) == 0
    assert list(read_csv(one)[0]) == list(read_csv(several)[0])
    for row in read_csv(several):
        alone = probabilities(runs, row["path"], "species")
        assert float(row["score"]) == pytest.approx(np.mean([each[row["label"]] for each in alone]), abs=1e-5)
    told = json.loads((tmp_path / "several.csv.provenance.json").read_text())["model"]
    assert told["path"] == ", ".join(words) and told["sha256"]["model.safetensors"].count(",") == 2


def test_a_stopped_prediction_of_several_models_goes_on_and_notices_other_models(
    words, photos, tmp_path, capsys, monkeypatch
):
    output = tmp_path / "out.jsonl"
    command = ["predict", *words[:2], str(photos / "test"), "--output", str(output), "--batch_size", "3"]
    assert main([*command[:-4], "--output", str(tmp_path / "straight.jsonl"), "--batch_size", "3"]) == 0
    scores, calls = Predictor.scores, []

    def stopped(self, images):
        calls.append(len(images))
        if len(calls) == 3:  # the first one asks whether there are boxes
            raise KeyboardInterrupt
        return scores(self, images)

    with monkeypatch.context() as patched:
        patched.setattr(Predictor, "scores", stopped)
        with pytest.raises(StoppedError, match="3 answers kept"):
            fgvc_predict(command[1:])
    capsys.readouterr()
    for others in (words[:1], [words[0], words[2]], words):
        assert main(["predict", *others, *command[3:]]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"fgvc: {output}: a stopped run left answers in .out.jsonl.part.jsonl with model.safet")
    assert main(command) == 0
    assert f"{output}: 3 answers of a stopped run are taken over" in capsys.readouterr().err
    assert output.read_bytes() == (tmp_path / "straight.jsonl").read_bytes()


def fgvc_predict(words):
    from fgvc.commands import predict

    return predict.main(words)


def test_models_are_told_from_photographs(words, photos, tmp_path, capsys):
    assert main(["predict", *words[:2]]) == 2
    assert capsys.readouterr().err == (
        f"fgvc: {words[1]}: a model, as all that is given; name the photographs after the models\n"
    )
    assert main(["predict", *words[:2], str(photos), "--precision", "0.9"]) == 2
    assert f"fgvc ensemble {words[0]} {words[1]} --output M counts it" in capsys.readouterr().err
    assert is_model(words[0]) and is_model(f"{words[0]}/model") and not is_model(photos) and not is_model("a\0b")


def test_test_scores_several_models_together_beside_each_alone(runs, words, photos, capsys):
    assert main(["test", *words, "--model.tta", "[flip, scales]"]) == 0
    err = capsys.readouterr().err
    assert "3 models answer together, each counting alike; they run one after the other" in err
    assert "model.tta: flip 2, scales 6 looks at each image; with the plain one the network runs 9 times" in err
    folder = runs[0] / "with_r1_r2"
    scores = json.loads((folder / "test.json").read_text())
    rows = read_csv(folder / "predictions_test.csv")
    assert len(rows) == 9 and not (runs[0] / "predictions_test.csv").exists()
    right = 0
    for row in rows:
        alone = probabilities(runs, photos / "test" / row["path"].removeprefix("test/"), "species")
        mean = {name: np.mean([one[name] for one in alone]) for name in alone[0]}
        best = max(mean, key=mean.get)
        assert row["species_pred"] == best and float(row["score"]) == pytest.approx(mean[best], abs=1e-4)
        for name, one in zip(("r0", "r1", "r2"), alone, strict=True):
            assert row[f"species_of_member_{name}"] == max(one, key=one.get)
        right += best == row["species_true"]
    assert scores["test/species/top1"] == pytest.approx(right / 9, abs=1e-6)
    for i, name in enumerate(("r0", "r1", "r2")):
        main(["test", words[i]])
        own = json.loads((runs[i] / "test.json").read_text())["test/species/top1"]
        assert scores[f"test/member_{name}/species/top1"] == pytest.approx(own)
        assert f"test/tta_{('flip', 'scales', 'flip')[i]}/species/top1" in scores
    assert fgvc.test(*words[:2]).scored == runs[0] / "with_r1"


def test_a_word_that_is_no_model_is_refused_by_test(words, photos, capsys):
    assert main(["test", words[0], str(photos)]) == 2
    assert capsys.readouterr().err.endswith("; other photographs are --data FOLDER\n")


@pytest.fixture(scope="module")
def ensemble(runs, tmp_path_factory):
    output = tmp_path_factory.mktemp("made") / "all"
    assert main(["ensemble", *map(str, runs), "--out", str(output)]) == 0
    return output


def test_an_ensemble_is_a_model_that_is_loaded_predicts_and_is_told_about(runs, ensemble, photos, capsys):
    model = load(ensemble)
    together = load_many(runs)
    for key, tensor in together.recognizer.state_dict().items():
        assert (model.recognizer.state_dict()[key] == tensor).all(), key
    assert model.resize == together.resize and len(model.resize.squares) == 2
    photograph = next((photos / "test").rglob("*.png"))
    uncalibrated = fgvc.load(ensemble)
    uncalibrated.model.temperatures, uncalibrated.model.readout = {}, "own"
    assert uncalibrated.predict(photograph).score == pytest.approx(fgvc.load(runs).predict(photograph).score, abs=1e-6)
    assert main(["info", str(ensemble)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Ensemble(" in out and "members 3: WholeImage()" in out
    assert "as each member asks for it: 32 px crop 1.0 area; 40 px crop 1.0 area" in out
    assert f"member {runs[1]} val/species/top1" in out


def test_an_ensemble_is_tested_and_calibrated_as_a_run_is(ensemble, runs, capsys):
    assert main(["test", str(ensemble)]) == 0
    assert (ensemble / "report.html").is_file()
    own = json.loads((ensemble / "test.json").read_text())
    assert main(["test", *map(str, runs)]) == 0
    live = json.loads((runs[0] / "with_r1_r2" / "test.json").read_text())
    same = [name for name in live if name.endswith(("species/top1", "own/hd@1"))]
    assert {name: own[name] for name in same} == {name: live[name] for name in same}
    before = load(ensemble)
    assert before.vouching is not None and set(before.temperatures) == {"genus", "species"}
    assert main(["calibrate", str(ensemble), "--split", "test"]) == 0
    after = load(ensemble)
    assert after.provenance["calibration"]["split"] == "test" and after.resize == before.resize
    assert main(["validate", str(ensemble)]) == 0


def test_weights_are_chosen_on_validation_images_and_stand_in_the_model(runs, words, photos, tmp_path, capsys):
    output = tmp_path / "weighted"
    assert main(["ensemble", *words, "--output", str(output), "--weights", "val"]) == 0
    err = capsys.readouterr().err
    assert "weights: by the likelihood of 12 val images, half of them all" in err
    model = load(output)
    weights = model.recognizer.weights
    assert sum(weights) == pytest.approx(1) and len(weights) == len(model.recognizer.members)
    left = [word for word in words if f"{word}: adds nothing to the others (weight 0) and is left out" in err]
    assert len(left) == 3 - len(weights)
    assert json.loads((output / "model" / "fgvc.json").read_text())["architecture"]["init_args"]["weights"] == (
        pytest.approx(weights, abs=1e-5)
    )
    assert main(["test", str(output)]) == 0


def test_weights_by_other_images(words, photos, tmp_path, capsys):
    other = make_photos(tmp_path / "other", train=0, val=0, test=4, noise=150)
    output = tmp_path / "weighted"
    command = ["ensemble", *words, "--output", str(output), "--weights", "val", "--data", str(other / "test")]
    assert main(command) == 0
    assert "by the likelihood of 6 test images" in capsys.readouterr().err


def test_models_without_a_run_make_an_ensemble_that_is_not_calibrated(tmp_path, capsys):
    first, second = saved(tmp_path / "first"), saved(tmp_path / "second", temperatures={"species": 2.0})
    assert main(["ensemble", str(first), str(second), "--output", str(tmp_path / "both")]) == 0
    assert "not calibrated: none of the models lies in a run" in capsys.readouterr().err
    found = load(tmp_path / "both")
    assert found.vouching is None and found.recognizer.temperatures == [{}, {"species": 2.0}]
    assert not (tmp_path / "both" / "config.yaml").exists()


def test_runs_that_held_out_other_images_choose_and_calibrate_nothing(photos, runs, tmp_path, capsys):
    other = train(tmp_path, "other", photos, 0, 32, "--data.split_seed", "7")
    command = ["ensemble", str(runs[0]), str(other), "--output", str(tmp_path / "both")]
    capsys.readouterr()
    assert main([*command, "--weights", "val"]) == 2
    assert capsys.readouterr().err == (
        f"fgvc: {other}: held out other images than {runs[0]} (data.split_seed differs, so it may have been trained on "
        "some of them); give --data FOLDER of images that none has seen, or --weights equal\n"
    )
    assert main(command) == 0
    assert "not calibrated: " in capsys.readouterr().err and load(tmp_path / "both").vouching is None


def test_what_makes_no_ensemble_is_refused_before_any_work(words, ensemble, tmp_path, capsys):
    flat = saved(tmp_path / "flat", taxonomy=Taxonomy.flat(["a", "b"]))
    for command, said in (
        ([words[0], "--output", tmp_path / "x"], "one model is no ensemble; give two or more"),
        ([*words, "--output", ensemble], f"{ensemble}: holds a model already; give --overwrite or another --output"),
        ([words[0], tmp_path / "none", "--output", tmp_path / "x"], "no model here (no such folder)"),
        ([words[0], ensemble, "--output", tmp_path / "x"], f"{ensemble}: an ensemble already; give its members"),
        ([words[0], flat, "--output", tmp_path / "x"], f"{flat}: has the levels class; {words[0]} has genus, species"),
    ):
        assert main(["ensemble", *map(str, command)]) != 0
        assert said in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_what_looks_into_one_network_refuses_an_ensemble(ensemble, photos, tmp_path, capsys):
    assert main(["explain", str(ensemble), str(photos / "test"), "--output", str(tmp_path / "e")]) == 2
    assert "explain one of its members" in capsys.readouterr().err
    assert main(["embed", str(ensemble), str(photos), "--output", str(tmp_path / "f")]) == 2
    assert "an ensemble, which has no features of one network" in capsys.readouterr().err


def test_the_config_of_an_ensemble_is_read_again(ensemble):
    config = yaml.safe_load((ensemble / "config.yaml").read_text())
    assert config["model"]["recognizer"]["class_path"] == "Ensemble" and config["model"]["image_size"] == 40
    with (ensemble / "predictions_test.csv").open() as file:
        assert "species_of_member_r0" in next(csv.reader(file))
