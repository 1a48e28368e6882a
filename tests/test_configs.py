"""Every YAML of `configs/` is found and run: a new one needs no line here."""

import importlib
import inspect
import json
import math
import re
from pathlib import Path

import pytest
import torch
import yaml
from fakes.cub import BIRD, make_fake_cub
from fakes.stages import write_stages
from fakes.tiny_run import CPU, NET, data_flags, make_new_classes, make_photos, read_csv

from fgvc.__main__ import main
from fgvc.data.sources.base import named_sources
from fgvc.methods.backbone import Backbone
from fgvc.methods.few_shot.base import Episode
from fgvc.methods.slots import known_classes

CONFIGS = Path(__file__).parents[1] / "configs"
PATTERNS = ("methods/*.yaml", "networks/*.yaml", "data/*.yaml", "few_shot/*.yaml", "*.yaml")
METHODS, NETWORKS, DATA, FEW_SHOT, WHOLE = (sorted(CONFIGS.glob(pattern)) for pattern in PATTERNS)
SHORT = [
    "--trainer.limit_train_batches",
    "2",
    "--trainer.limit_val_batches",
    "1",
    "--trainer.num_sanity_val_steps",
    "0",
]
LEVELS = "[order, family, genus, species]"
SMALL = ["--data.batch_size", "2", "--data.num_workers", "0"]


def stem(path):
    return path.stem


def fake_arguments(name, root):
    """Return the arguments of a source over fake data, made by the `make_fake(root)` of tests/fakes/<stem>.py."""
    try:
        module = importlib.import_module(f"fakes.{name}")
    except ModuleNotFoundError:
        pytest.fail(
            f"configs/data/{name}.yaml is never run: add tests/fakes/{name}.py with make_fake(root) -> init_args"
        )
    return module.make_fake(root)


def source_flags(arguments):
    words = {key: value if isinstance(value, str) else json.dumps(value) for key, value in arguments.items()}
    return [word for key, value in words.items() for word in (f"--data.source.init_args.{key}", value)]


def shrink(tree):
    """Return a config with timm's smallest networks, small images and episodes, and one epoch per phase."""
    if isinstance(tree, list):
        return [shrink(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    small = {key: shrink(value) for key, value in tree.items()}
    if str(tree.get("class_path", "")).endswith("Backbone"):
        name = str(tree.get("init_args", {}).get("name", ""))
        small["init_args"] = {"name": "test_vit" if "vit" in name else "test_resnet", "weights": "none"}
    for key, value in {"image_size": 64, "source_size": 96, "epochs": 1}.items():
        if small.get(key) is not None:
            small[key] = value
    if small.get("episodes"):
        small["episodes"] = dict.fromkeys(small["episodes"], 2) | {"n_shot": 1, "val_n_shot": 1}
    if "trainer" in small:
        small["trainer"]["max_epochs"] = max(1, len(small.get("phases") or []))
    return small


def has_episodes(tree):
    """Say whether a config trains on few-shot episodes: its model then knows no classes."""
    return bool(tree.get("data", {}).get("episodes"))


def learns_places(tree):
    """Say whether a config's recognizer learns from annotated points."""
    kind = known_classes().get(tree.get("model", {}).get("recognizer", {}).get("class_path", ""))
    return kind is not None and "points" in inspect.signature(kind).parameters


def fit(*words):
    return main(["fit", *words, *CPU, *SHORT, "--name", "run"])


def check_run():
    rows = read_csv(Path("runs/run/metrics.csv"))
    losses = [float(row[key]) for row in rows for key in row if key.endswith("/loss") and row[key]]
    assert losses and all(map(math.isfinite, losses))
    assert Path("runs/run/model/fgvc.json").is_file()
    assert "class_path: fgvc." not in Path("runs/run/config.yaml").read_text()


def test_stems_are_unique():
    stems = [path.stem for path in CONFIGS.rglob("*.yaml")]
    assert len(stems) == len(set(stems))
    assert len(METHODS) >= 4 and len(DATA) >= 5 and NETWORKS and WHOLE
    assert len(stems) == len(METHODS) + len(NETWORKS) + len(DATA) + len(FEW_SHOT) + len(
        WHOLE
    )  # none lies where nobody looks


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Four levels, as `cub` has: the schedules that go level by level name them all."""
    return make_photos(tmp_path_factory.mktemp("data") / "photos", train=3, val=1, test=1, above="birds/finches")


@pytest.fixture(scope="module")
def new_classes(tmp_path_factory):
    """The same four levels; val and test have species that train does not have."""
    return make_new_classes(tmp_path_factory.mktemp("data") / "photos", images=3, above="birds/finches")


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    """Photographs with a box and points, for the methods that learn from them; the levels are those of `cub`."""
    return make_fake_cub(tmp_path_factory.mktemp("data") / "cub", num_classes=3, images_per_class=8, points=BIRD)


@pytest.mark.parametrize("config", METHODS, ids=stem)
def test_every_method_trains(config, photos, new_classes, birds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree = yaml.safe_load(config.read_text())
    (tmp_path / config.name).write_text(yaml.safe_dump(shrink(tree)))
    flags = data_flags(photos, batch_size=2, levels=LEVELS)
    if learns_places(tree):
        flags = ["--data.source", "CUB", *source_flags({"root": str(birds)}), *SMALL, "--data.val_fraction", "0.2"]
    if has_episodes(tree):
        flags = [*data_flags(new_classes, levels=LEVELS), "--data.source.init_args.new_classes", "true"]
    if "stages" in tree.get("data", {}):
        write_stages(tmp_path / tree["data"]["stages"], photos, levels=4)
    assert fit("--config", config.name, *flags) == 0
    check_run()
    assert main(["validate", "runs/run"]) == 0  # the short names of its config are understood


@pytest.mark.parametrize("config", NETWORKS, ids=stem)
def test_every_network_runs_and_trains_in_a_method(config, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree = yaml.safe_load(config.read_text())
    part = tree["model"]["recognizer"]["init_args"].pop("backbone")
    assert tree == {"model": {"recognizer": {"init_args": {}}}}  # nothing but the backbone
    assert part["class_path"] == "Backbone" and part["init_args"].keys() <= {
        "name",
        "weights",
        "model_args",
        "mean",
        "std",
    }
    real = Backbone(64, **{**part["init_args"], "weights": "none"}).eval()
    with torch.no_grad():
        assert real(torch.zeros(1, 3, 64, 64)).map.shape == (1, real.channels, *real.grid)
    (tmp_path / config.name).write_text(yaml.safe_dump(shrink(yaml.safe_load(config.read_text()))))
    words = ["--config", config.name, "--config", "whole_image", "--model.image_size", "64"]
    assert fit(*words, *data_flags(photos, batch_size=2, levels=LEVELS), "--trainer.max_epochs", "1") == 0
    check_run()
    stored = yaml.safe_load(Path("runs/run/config.yaml").read_text())["model"]["recognizer"]["init_args"]["backbone"]
    assert stored["init_args"]["name"] == ("test_vit" if "vit" in config.stem else "test_resnet")


@pytest.mark.parametrize("config", FEW_SHOT, ids=stem)
def test_every_few_shot_classifier_scores_an_episode(config):
    plain = yaml.safe_load(config.read_text())
    assert plain.keys() == {"classifier"}
    kind = known_classes()[plain["classifier"]["class_path"]]
    classifier = kind(16, **plain["classifier"].get("init_args", {})).eval()
    numbers = torch.Generator().manual_seed(0)
    shape = (16, 3, 3) if kind.takes == "map" else (16,)
    centres = 3 * torch.randn((5, *shape), generator=numbers)
    labels = torch.arange(5).repeat_interleave(2)
    classifier.prepare(torch.randn((40, *shape), generator=numbers), torch.arange(40) % 8)
    support, query = (centres[labels] + torch.randn((3, 10, *shape), generator=numbers) for _ in range(2))
    scores = classifier(Episode(support, labels.expand(3, -1), query, 5))
    assert scores.shape == (3, 10, 5) and scores.isfinite().all()
    if not kind.needs_training:
        assert (scores.argmax(dim=2) == labels).float().mean() > 0.9


@pytest.mark.parametrize("config", DATA, ids=stem)
def test_every_data_set_trains_and_is_tested(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = fake_arguments(config.stem, tmp_path / "fake")
    flags = ["--config", config.stem, *source_flags(arguments), *SMALL, "--data.val_fraction", "0"]
    assert fit(*flags, *NET, "--trainer.max_epochs", "1") == 0
    check_run()
    assert main(["test", "runs/run"]) == 0
    assert len(read_csv(Path("runs/run/predictions_test.csv"))) >= 4


@pytest.mark.parametrize("config", WHOLE, ids=stem)
def test_every_complete_config_trains(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree = yaml.safe_load(config.read_text())
    kind = tree["data"]["source"]["class_path"]
    same = [file for file in DATA if yaml.safe_load(file.read_text())["data"]["source"]["class_path"] == kind]
    arguments = fake_arguments(same[0].stem, tmp_path / "fake")
    (tmp_path / config.name).write_text(yaml.safe_dump(shrink(tree)))
    assert fit("--config", config.name, *source_flags(arguments), *SMALL) == 0
    check_run()


def test_a_data_set_without_fake_data_is_reported(tmp_path):
    with pytest.raises(pytest.fail.Exception, match=r"add tests/fakes/unheard_of.py with make_fake\(root\)"):
        fake_arguments("unheard_of", tmp_path)


def test_no_config_names_a_machine_or_the_network():
    for config in CONFIGS.rglob("*.yaml"):
        text = config.read_text()
        assert "http" not in text and not any(f" {root}" in text for root in ("/home", "/mnt", "/data", "/root"))


BY_DEFAULT = {"EnrolledRecognizer", "Ensemble", "Backbone", "AveragePooling", "BAPPooling"}
BY_DEFAULT |= {"SCDAPooling", "ClassMeanPooling", "CrossEntropy"}
"""Parts that no YAML names: what `fgvc few-shot enroll`, `fgvc ensemble` and `fgvc probe` make, defaults, WS-DAN's own
pooling, and the pooling beside `SCDABox` of scda.yaml."""


def test_every_class_of_a_slot_is_named_by_a_config():
    text = "\n".join(path.read_text(encoding="utf-8") for path in (*METHODS, *DATA, *FEW_SHOT, *WHOLE))
    named = set(re.findall(r"class_path: *(\w+)", text)) | set(
        re.findall(r"(?:head|attention|pooling|loss): *(\w+)$", text, re.M)
    )
    sources = {
        source.__name__ for source in named_sources().values() if source.__module__.startswith("fgvc.data.sources.")
    }
    assert set(known_classes()) | sources <= named | BY_DEFAULT
