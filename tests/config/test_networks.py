from pathlib import Path

import pytest
import yaml
from fakes.tiny_run import make_photos

from fgvc.__main__ import main
from fgvc.config.networks import check_flag, combined, flags, read
from fgvc.errors import UsageError

MINE = {"name": "mobilenetv2_100", "weights": "none", "model_args": {"pad_type": "same"}, "mean": [0.5, 0.5, 0.5]}


def config(path, backbone, rest=None, **model):
    recognizer = {**(rest or {}), "init_args": {"backbone": {"class_path": "Backbone", "init_args": backbone}}}
    Path(path).write_text(yaml.safe_dump({"model": {"recognizer": recognizer, **model}}))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a network, a whole recognizer and a method of the user's."""
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "photos", train=2, val=0, test=1)
    config("net.yaml", MINE)
    config("sized.yaml", MINE, image_size=160)
    config("whole.yaml", MINE, {"class_path": "WholeImage"})
    config("other.yaml", {"name": "resnet18", "weights": "none"}, {"class_path": "WholeImage"})
    return tmp_path


@pytest.fixture
def model(home, capsys):
    """Return the part `model` of the config that some words stand for, and what was told."""

    def run(*words):
        with pytest.raises(SystemExit) as stop:
            main(["fit", "--data.source", "ImageFolder", "--data.source.root", "photos", *words, "--print_config"])
        assert stop.value.code == 0
        out, err = capsys.readouterr()
        return yaml.safe_load(out)["model"], err

    return run


def backbone_of(found):
    return {
        key: one for key, one in found["recognizer"]["init_args"]["backbone"]["init_args"].items() if one is not None
    }


@pytest.mark.parametrize("method", ["hse", "whole_image", "ra_cnn_hse"])
@pytest.mark.parametrize("network", ["net.yaml", "mobilenetv2_100", "vit_small"])
def test_the_order_of_network_and_method_does_not_matter(model, network, method):
    first, told = model("--config", network, "--config", method)
    second, again = model("--config", method, f"--config={network}")
    assert first == second and told == again == ""
    alone, _ = model("--config", method)
    assert backbone_of(first) != backbone_of(alone)
    if network == "net.yaml":
        assert backbone_of(first) == {**MINE, "min_kept": 0.5}
    for one in (first, alone):
        one["recognizer"]["init_args"].pop("backbone")
    assert first == alone  # nothing else changes


def test_the_network_of_a_method_that_has_arguments_of_its_own_goes_as_a_whole(model):
    for words in (["whole.yaml", "resnet50"], ["resnet50", "whole.yaml"]):
        found, _ = model(*(word for name in words for word in ("--config", name)))
        assert backbone_of(found) == {"name": "resnet50", "weights": "pretrained", "min_kept": 0.5}


def test_a_later_flag_or_part_changes_a_key_of_the_network(model, home):
    (home / "part.yaml").write_text("model: {recognizer: {init_args: {backbone: {init_args: {min_kept: 0.25}}}}}")
    flag = ["--model.recognizer.backbone.weights", "w.pth"]
    found, _ = model("--config", "net.yaml", "--config", "hse", "--config", "part.yaml", *flag)
    assert backbone_of(found) == {**MINE, "weights": "w.pth", "min_kept": 0.25}


def test_other_keys_of_a_network_stay_where_it_stands(model):
    for order in (["sized.yaml", "hse"], ["hse", "sized.yaml"]):
        found, _ = model(*(word for name in order for word in ("--config", name)))
        assert backbone_of(found)["name"] == "mobilenetv2_100"
        assert found["image_size"] == (224 if order[-1] == "hse" else 160)  # later ones win, key by key


def test_the_method_may_be_a_flag(model):
    for words in (["--config", "net.yaml", "--model.recognizer", "WholeImage"],
                  ["--model.recognizer=WholeImage", "--config", "net.yaml"]):  # fmt: skip
        assert backbone_of(model(*words)[0]) == {**MINE, "min_kept": 0.5}


def test_of_two_networks_the_later_is_taken_and_told(model):
    found, told = model("--config", "net.yaml", "--config", "resnet50", "--config", "hse")
    assert backbone_of(found) == {"name": "resnet50", "weights": "pretrained", "min_kept": 0.5}
    assert told.startswith("network: resnet50 of ") and told.endswith("resnet50.yaml, not mobilenetv2_100\n")


def refused(capsys, *words):
    assert main(["fit", "--config", "image_folder", *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err.removeprefix("fgvc: ").rstrip("\n")


def test_a_part_of_another_network_is_refused(home, capsys):
    line = refused(capsys, "--config", "whole.yaml", "--config", "hse")
    assert line.endswith(
        "hse.yaml: its network is resnet50, but model_args and mean of whole.yaml were chosen for mobilenetv2_100; for "
        "mobilenetv2_100 with this method leave in whole.yaml, of the recognizer, its backbone alone"
    )
    line = refused(capsys, "--config", "net.yaml", "--config", "hse", "--model.recognizer.backbone.name", "resnet18")
    assert line == (
        "--model.recognizer.backbone.name resnet18: model_args and mean of net.yaml were chosen for mobilenetv2_100; "
        "give --model.recognizer.backbone.model_args too, or another config"
    )
    line = refused(capsys, "--config", "net.yaml")
    assert line == (
        "net.yaml: a network (mobilenetv2_100) without a method; give both, e.g. --config net --config whole_image"
    )


def test_a_network_that_is_overruled_as_a_whole_is_told(model):
    found, told = model("--config", "other.yaml", "--config", "whole_image")
    assert backbone_of(found)["name"] == "resnet50"
    assert told.startswith("network: resnet50 of ") and told.endswith("whole_image.yaml, not resnet18 of other.yaml\n")


def test_the_same_network_twice_is_no_matter(home):
    config("again.yaml", {"name": "mobilenetv2_100"}, {"class_path": "WholeImage"})
    found = combined([read(Path("whole.yaml")), read(Path("again.yaml"))], has_method=False)
    assert (found.words, found.told) == (["whole.yaml", "again.yaml"], "")
    with pytest.raises(UsageError, match=r"mean of whole\.yaml was chosen for mobilenetv2_100"):
        check_flag([read(Path("whole.yaml"))], {"name": "resnet18", "model_args": "{}"})
    check_flag([read(Path("whole.yaml"))], {"name": "resnet18", "model_args": "{}", "mean": "[0, 0, 0]"})
    assert "--model.recognizer.init_args.backbone.init_args.name" in flags("name")
