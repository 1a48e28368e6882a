"""What is left open in a config is what the weights were tested with."""

import warnings

import pytest
import yaml

from fgvc.__main__ import main
from fgvc.config import quiet
from fgvc.config.run_cli import RunCLI
from fgvc.config.words import of_run

WEIGHTS = "model.recognizer.init_args.backbone.init_args"


@pytest.fixture(autouse=True)
def _without_warnings_of_libraries():
    with warnings.catch_warnings():
        quiet.libraries()
        yield


def parsed(*words: str) -> RunCLI:
    data = ["--data.source", "GeneratedBirds"]
    return RunCLI("fit", [*data, "--model.recognizer", "WholeImage", *words])


def backbone(name: str, weights: str) -> list[str]:
    kind = ["--model.recognizer.init_args.backbone", "Backbone"]
    return [*kind, f"--{WEIGHTS}.name", name, f"--{WEIGHTS}.weights", weights]


def test_what_a_config_leaves_open_follows_the_weights_and_is_told():
    cli = parsed(*backbone("tf_efficientnet_lite2", "pretrained"))
    assert cli.config["model"]["image_size"] == cli.config["data"]["image_size"] == 260
    assert (cli.config["data"]["crop_fraction"], cli.config["data"]["interpolation"]) == (0.89, "bicubic")
    told = "evaluation: 260 px, centred square, 0.89 of the side, bicubic, as the weights of tf_efficientnet_lite2 ask"
    assert cli.evaluation == told
    stored = yaml.safe_load(cli.plain_config())
    assert stored["model"]["image_size"] == 260  # a run repeats itself, whatever a later timm knows
    assert {key: stored["data"][key] for key in ("fit", "crop_fraction", "interpolation")} == {
        "fit": "crop", "crop_fraction": 0.89, "interpolation": "bicubic"
    }  # fmt: skip


def test_what_a_config_says_wins_and_the_difference_is_told():
    cli = parsed(*backbone("tf_efficientnet_lite2", "pretrained"), "--model.image_size", "224",
                 "--data.crop_fraction", "1", "--data.interpolation", "area")  # fmt: skip
    assert cli.config["data"]["image_size"] == 224
    assert cli.evaluation == (
        "evaluation: 224 px, centred square, area (the weights of tf_efficientnet_lite2 were tested with size 260, "
        "crop_fraction 0.89, interpolation bicubic)"
    )


def test_weights_that_squash_and_weights_that_are_none():
    squashed = parsed(*backbone("coat_lite_medium_384", "w.safetensors")).config["data"]
    assert (squashed["fit"], squashed["crop_fraction"]) == ("squash", 1.0)
    cli = parsed(*backbone("tf_efficientnet_lite2", "none"))
    assert cli.config["data"]["image_size"] == 224
    assert [cli.config["data"][key] for key in ("fit", "crop_fraction", "interpolation")] == ["crop", 1.0, "area"]
    assert cli.evaluation == ""


def test_an_unknown_filter_is_refused_in_one_line(capsys):
    words = ["--config", "whole_image", "--data.source", "GeneratedBirds", "--data.interpolation", "lanczos"]
    assert main(["fit", *words]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "data.interpolation: 'lanczos' given, but it takes one of 'area', 'bilinear', 'bicubic'" in message


def test_a_run_of_before_is_evaluated_as_it_was(tmp_path):
    (tmp_path / "config.yaml").write_text("data: {fit: crop, crop_fraction: 1.0}\n")
    words = of_run(tmp_path, ["--data.batch_size", "3"])
    assert words[2:4] == ["--data.interpolation", "area"]
    (tmp_path / "config.yaml").write_text("data: {fit: crop, crop_fraction: 1.0, interpolation: bicubic}\n")
    assert "--data.interpolation" not in of_run(tmp_path, [])
