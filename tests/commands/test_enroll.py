import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.tiny_run import CPU, NET, data_flags, make_photos
from PIL import Image

import fgvc
from fgvc.__main__ import main
from fgvc.images.resizing import EvalResize
from fgvc.model_file.architecture import build
from fgvc.model_file.model import Model, save
from fgvc.taxonomy.tree import Taxonomy

NEW = {"Anas acuta": ("Anas", (220, 220, 30)), "Larus argentatus": ("Larus", (20, 210, 210))}


def make_new(root, number=4, nested=True):
    for s, (species, (genus, colour)) in enumerate(NEW.items()):
        for i in range(number):
            folder = root / genus / species if nested else root / species
            folder.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([s, i]).integers(-40, 41, (40, 48, 1))
            Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    photos = make_photos(home / "photos", train=8, val=6, test=2)
    words = [*NET, *CPU, *data_flags(photos), "--runs", str(home / "runs"), "--name", "gulls"]
    assert main(["fit", *words, "--trainer.max_epochs", "6", "--model.lr", "0.003"]) == 0
    make_new(home / "new")
    make_new(home / "one", number=1)
    make_new(home / "flat", nested=False)
    return home


@pytest.fixture
def enroll(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    levels = ["--data.source.init_args.levels", "[genus, species]"]

    def run(*words, photos="new", model=None, nested=True):
        given = [str(model or home / "runs" / "gulls"), str(home / photos), *(levels if nested else [])]
        return main(["few-shot", "enroll", *given, "--output", "new_model", *words])

    return run


def answers(model, folder):
    return {Path(one.path).parent.name: one.label for one in fgvc.load(model).predict(folder)}


def test_new_classes_alone(enroll, home, capsys):
    assert enroll() == 0
    told = capsys.readouterr().err
    assert "enrolled 2 new classes by 4 photographs each" in told
    assert "by the other photographs of its class: 100.0 % of 8 (" in told and "95 % interval" in told
    assert answers("new_model", home / "new") == {name: name for name in NEW}
    stored = json.loads(Path("new_model/fgvc.json").read_text())
    assert stored["taxonomy"]["levels"] == ["genus", "species"] and len(stored["taxonomy"]["leaves"]) == 2


def test_old_classes_stay_beside_the_new_ones(enroll, home, capsys):
    assert enroll("--keep_old") == 0
    told = capsys.readouterr().err
    assert "the same beside the old classes:" in told and "old classes now:" in told and "points lost" in told
    both = answers("new_model", home / "new") | answers("new_model", home / "photos" / "test")
    assert sum(name == label for name, label in both.items()) >= 4 and len(both) == 5
    one = fgvc.load("new_model").predict(home / "new" / "Larus" / "Larus argentatus" / "0.png")
    assert sum(guess.score for guess in one.top) == pytest.approx(1, abs=1e-4)
    tree = fgvc.load("new_model").taxonomy
    assert tree.size("genus") == 3  # Larus was known, Anas is new


def test_unequal_numbers_of_photographs_are_judged_by_class(enroll, home, tmp_path, capsys):
    for folder, number in (("Anas/Anas acuta", 4), ("Larus/Larus argentatus", 2), ("Larus/Larus one", 1)):
        (tmp_path / "uneven" / folder).mkdir(parents=True)
        source = sorted((home / "new").glob("*/*"))[len(folder) % 2]
        for i in range(number):
            (tmp_path / "uneven" / folder / f"{i}.png").write_bytes((source / f"{i}.png").read_bytes())
    assert enroll(photos=tmp_path / "uneven") == 0
    told = capsys.readouterr().err
    assert "enrolled 3 new classes by 1 to 4 photographs each" in told
    found = re.search(r"of its class: (\S+) % of 6 .*, mean of classes (\S+) %", told)
    right = round(float(found[1]) * 6 / 100)
    assert float(found[2]) in {round(100 * (a / 4 + (right - a) / 2) / 2, 1) for a in range(right + 1)}
    assert "not judged: 1 class of one photograph" in told


def test_photographs_alone_in_their_class(enroll, home, capsys):
    assert enroll("--keep_old", photos="one") == 0
    told = capsys.readouterr().err
    assert "one photograph per class: how often it is right cannot be told" in told
    assert "may take at most 5 % of the old ones' photographs" in told
    assert answers("new_model", home / "one").keys() == NEW.keys()


def test_names_alone_are_new_classes_too(enroll, home):
    assert enroll("--keep_old", photos="flat", nested=False) == 0
    assert fgvc.load("new_model").taxonomy.num_classes == 5


def test_an_enrolled_model_is_told_about_and_enrolled_again(enroll, home, capsys):
    assert enroll() == 0
    assert main(["info", "new_model"]) == 0
    assert "EnrolledRecognizer" in capsys.readouterr().out
    assert enroll("--overwrite", model="new_model", photos="flat", nested=False) == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--method", "prototype"], "--method prototype: no such few-shot method; did you mean 'prototypes'"),
        (["--method", "map.yaml"], "map: it compares maps, and gulls makes vectors"),
        (["--data.source.init_args.levels", "[tribe, species]", "--keep_old"], "level 'tribe' of the new classes"),
    ],
)
def test_words_that_do_not_fit(enroll, capsys, words, told):
    Path("map.yaml").write_text("classifier: {class_path: DN4Classifier}")
    assert enroll(*words) == 2
    assert told in capsys.readouterr().err
    assert not Path("new_model").exists()


def test_old_classes_cannot_be_new(enroll, home, capsys):
    assert enroll("--keep_old", photos="photos/train") == 2
    assert "the model knows it already; leave it out" in capsys.readouterr().err


def test_a_model_that_is_there_stays(enroll, capsys):
    assert enroll() == 0
    before = Path("new_model/fgvc.json").read_bytes()
    assert enroll() == 2
    assert "holds a model already; give --overwrite" in capsys.readouterr().err
    assert Path("new_model/fgvc.json").read_bytes() == before


def test_a_model_without_its_run_needs_old_photographs(enroll, home, tmp_path, capsys):
    (tmp_path / "alone").mkdir()
    for file in (home / "runs" / "gulls" / "model").iterdir():
        (tmp_path / "alone" / file.name).write_bytes(file.read_bytes())
    assert enroll("--keep_old", model="alone") == 2
    assert "give --old_data DATA" in capsys.readouterr().err
    assert enroll("--keep_old", "--old_data", str(home / "runs" / "gulls"), model="alone") == 0


def test_any_network_of_timm_learns_classes(home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    net = ["test_resnet", str(home / "flat"), "--weights", "none", "--image_size", "32", "--output", "new_model"]
    assert main(["few-shot", "enroll", *net]) == 0
    found = answers("new_model", home / "flat")
    assert found.keys() == NEW.keys() and len(set(found.values())) == 2
    assert main(["few-shot", "enroll", *net, "--overwrite", "--keep_old"]) == 2
    assert "knows no classes; leave it out" in capsys.readouterr().err


@pytest.mark.parametrize(("classifier", "pooling"), [("PrototypeClassifier", "FlattenPooling"), ("FRNClassifier", "")])
def test_a_network_that_was_trained_on_episodes_is_enrolled(home, tmp_path, monkeypatch, classifier, pooling):
    monkeypatch.chdir(tmp_path)
    parts = {"backbone": {"class_path": "Backbone", "init_args": {"name": "conv4", "weights": "none"}}}
    parts["classifier"] = {"class_path": classifier, "init_args": {}}
    parts |= {"pooling": {"class_path": pooling, "init_args": {}}} if pooling else {}
    plain = {"class_path": "FewShotRecognizer", "init_args": parts}
    torch.manual_seed(0)
    recognizer = build(plain, Taxonomy.flat(["a", "b"]), 48).eval()
    for number in recognizer.classifier.parameters():  # of FRN: as if a training had moved them
        number.data.add_(0.1)
    save(Model(recognizer, plain, EvalResize(48)), "episodic")
    assert main(["few-shot", "enroll", "episodic", str(home / "flat"), "--output", "new_model"]) == 0
    again = fgvc.load("new_model")
    stored = again.model.recognizer.classifier.state_dict()
    assert all(torch.equal(stored[key], value) for key, value in recognizer.classifier.state_dict().items())
    assert len(set(answers("new_model", home / "flat").values())) == 2


def test_words_are_missing(capsys):
    assert main(["few-shot", "enroll"]) == 2
    assert "give a model, then the photographs" in capsys.readouterr().err
    assert main(["few-shot", "enroll", "runs/none", "nowhere"]) == 2
