import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.tiny_model import saved
from fakes.tiny_run import make_photos

import fgvc
from fgvc.__main__ import main
from fgvc.features.folder import open_features
from fgvc.images.pictures import square_of

NET = ["--weights", "none", "--image_size", "32", "--device", "cpu"]
LEVELS = ["--data.source.levels", "[genus, species]", "--data.val_fraction", "0"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    photos = make_photos(home / "photos", train=20, val=0, test=4, noise=100)
    run = saved(home / "run")
    for name, output in (("test_resnet", "of_timm"), ("test_vit", "of_vit"), (str(run), "of_run")):
        more = NET if name != str(run) else ["--device", "cpu"]
        more = [*more, "--take", "cls+mean"] if name == "test_vit" else more
        assert main(["embed", name, str(photos), *more, *LEVELS, "--output", str(home / output)]) == 0
    return home


@pytest.fixture
def here(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return home


@pytest.mark.parametrize("features", ["of_timm", "of_vit", "of_run"])
def test_the_model_answers_w_x_plus_b_of_the_features(here, features, capsys):
    assert main(["probe", str(here / features), "--output", "m", "--device", "cpu"]) == 0
    predictor = fgvc.load("m", device="cpu")
    recognizer = predictor.model.recognizer
    weight, bias = (one.detach().double().numpy() for one in recognizer.head.classifier.parameters())
    part = open_features(here / features).part("test")
    for path, row in zip(part.paths, part.features, strict=True):
        pixels = square_of(here / "photos" / path, predictor.model.resize).pixels
        with torch.no_grad():
            found = recognizer(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]).logits["species"][0]
        np.testing.assert_allclose(found.numpy(), weight @ row.astype(np.float64) + bias, atol=1e-4, rtol=0)
    if features != "of_run":
        names = [one.label for one in predictor.predict(here / "photos" / "test")]
        right = np.mean(
            [Path(one.path).parent.name == one.label for one in predictor.predict(here / "photos" / "test")]
        )
        share = float(capsys.readouterr().out.split("species  top-1")[1].split("%")[0])
        assert len(names) == 12 and share == pytest.approx(100 * right, abs=0.01)


def test_the_table_goes_to_stdout_and_the_model_says_where_it_comes_from(here, capsys):
    assert main(["probe", str(here / "of_timm"), "--output", "m"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["test:", "species", "genus"]
    assert out.startswith("test: 12 photographs\n") and "top-1" in out and "mean of classes" in out
    assert "fitted on 60 photographs of train\n" in err and "held-out photographs\n" in err
    assert "next:  fgvc predict m PHOTO..." in err
    stored = json.loads(Path("m/fgvc.json").read_text())
    told = stored["provenance"]
    assert told["probe"]["photographs"] == 60 and told["probe"]["take"] == "prelogits"
    assert told["probe"]["penalty"] in [one[0] for one in told["probe"]["tried"]]
    assert told["calibration"]["images"] == 6 and set(stored["temperatures"]) == {"species"}
    assert {"test/species/top1", "test/genus/top1"} <= set(told["metrics"]) and stored["vouching"] is not None
    assert main(["info", "m"]) == 0 and "test/species/top1" in capsys.readouterr().out


def test_a_model_that_is_there_stays_without_overwrite(here, capsys):
    words = ["probe", str(here / "of_timm"), "--output", "m", "--penalties", "0.01"]
    assert main(words) == 0
    before = Path("m/fgvc.json").read_bytes()
    capsys.readouterr()
    assert main(words) == 2
    assert capsys.readouterr().err == "fgvc: m: holds a model already; give --overwrite or another --output\n"
    assert Path("m/fgvc.json").read_bytes() == before
    assert main([*words, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["gone"], "gone: no features here (no such folder); fgvc embed MODEL DATA --output gone makes them"),
        (["{home}/of_timm", "--penalties", "0.1,x"], "'0.1,x': give numbers, e.g. 1e-3,1e-4"),
        (["{home}/of_timm", "--penalties", "0"], "penalties: 0.0; give numbers above 0"),
        (["{home}/of_timm", "--hold_out", "1"], "the fraction to hold out is 1.0; it must be"),
        (["{home}/of_timm", "--view", "flip"], "no view 'flip' of train; it has whole"),
        (["{home}/of_timm", "--model", "{home}/run"], "features of another network than"),
        (["{home}/of_timm", "--penaltys", "1"], "did you mean '--penalties'"),
        (["{home}/of_timm", "--device", "abacus"], "device: 'abacus' is not to be had here"),
    ],
)
def test_mistakes_are_told_in_one_line_and_nothing_is_written(here, capsys, words, told):
    assert main(["probe", *(word.format(home=here) for word in words), "--output", "m"]) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1 and not Path("m").exists()


def test_features_without_train_are_refused(here, capsys):
    photos = Path("photos")
    shutil.copytree(here / "photos" / "test", photos / "test")
    main(["embed", "test_resnet", "photos", *NET, "--unlabelled", "--output", "f"])
    capsys.readouterr()
    assert main(["probe", "f", "--output", "m"]) == 2
    assert "no features of split 'train'" in capsys.readouterr().err
