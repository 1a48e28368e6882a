import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.several_runs import train
from fakes.tiny_run import make_photos
from safetensors.torch import load_file

from fgvc.__main__ import main
from fgvc.model_file.model import load

EVERY = [
    "--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.save_top_k=-1",
    "--trainer.callbacks.filename={epoch}", "--trainer.max_epochs", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("birds"), train=8, val=8, test=3, noise=100)


@pytest.fixture(scope="module")
def runs(photos, tmp_path_factory):
    """Three runs from one start, the first of which keeps a checkpoint of every epoch."""
    home = tmp_path_factory.mktemp("runs")
    start = train(home, "start", photos)
    from_it = ["--init_from", str(start), "--model.lr", "0.001"]
    every = [*EVERY[:1], f"--trainer.callbacks.dirpath={home}/s0/checkpoints", *EVERY[1:]]
    return [train(home, f"s{i}", photos, i, 32, *from_it, *(every if i == 0 else [])) for i in range(3)]


def tensors(folder):
    return load_file(folder / "model" / "model.safetensors")


def test_the_uniform_soup_is_the_mean_by_hand(runs, tmp_path, capsys):
    output = tmp_path / "soup"
    words = ["soup", *map(str, runs), "--out", str(output), "--uniform"]
    assert main(words) == 0
    states, found = [tensors(run) for run in runs], tensors(output)
    for name, value in found.items():
        if value.is_floating_point():
            by_hand = np.mean([state[name].double().numpy() for state in states], axis=0)
            np.testing.assert_allclose(value.double().numpy(), by_hand, rtol=1e-6, atol=1e-7, err_msg=name)
    model = load(output)
    assert model.provenance["soup"]["kind"] == "uniform" and model.vouching is not None
    assert [one["kept"] for one in model.provenance["soup"]["members"]] == [True] * 3


def test_a_soup_of_models_with_weighed_views_weighs_none(photos, tmp_path):
    """The shares of a member's views were fitted to its own weights."""
    closer = ["--model.recognizer", "RACNN", "--model.recognizer.attention", "CentreBox"]
    start = train(tmp_path, "start", photos, 0, 32, *closer)
    made = [train(tmp_path, f"s{i}", photos, i, 32, *closer, "--init_from", str(start)) for i in range(2)]
    for run in made:
        file = run / "model" / "fgvc.json"
        described = json.loads(file.read_text(encoding="utf-8"))
        described["views"] = {"scale2": {"temperature": 2.0, "weight": 1.0}}
        file.write_text(json.dumps(described), encoding="utf-8")
        assert load(run).views
    assert main(["soup", *map(str, made), "--output", str(tmp_path / "soup"), "--uniform"]) == 0
    assert load(tmp_path / "soup").views == {}


def test_batch_norms_are_measured_on_training_images_where_that_is_asked_for(runs, tmp_path, capsys):
    measured, averaged = tmp_path / "measured", tmp_path / "averaged"
    words = ["soup", *map(str, runs), "--uniform", "--output"]
    assert main([*words, str(measured), "--batch_norm", "measure"]) == 0
    assert "statistics of 15 batch normalisations are measured on training images" in capsys.readouterr().err
    assert main([*words, str(averaged)]) == 0
    one, other = tensors(measured), tensors(averaged)
    differ = {name for name in one if not torch.equal(one[name], other[name])}
    assert differ and all("running_" in name or "num_batches" in name for name in differ)


def test_the_greedy_soup_is_not_worse_on_the_validation_images_than_the_best_run(runs, tmp_path, capsys):
    output = tmp_path / "soup"
    assert main(["soup", *map(str, runs), "--output", str(output)]) == 0
    told = load(output).provenance["soup"]
    alone = [one["val/top1"] for one in told["members"]]
    assert main(["validate", str(output)]) == 0
    reached = json.loads((output / "validate.json").read_text())["val/species/top1"]
    assert reached >= max(alone) - 1e-6
    for run, share in zip(runs, alone, strict=True):
        assert main(["validate", str(run)]) == 0
        assert json.loads((run / "validate.json").read_text())["val/species/top1"] == pytest.approx(share, abs=1e-6)
    assert any(one["kept"] for one in told["members"])
    capsys.readouterr()
    assert main(["test", str(output)]) == 0 and main(["info", str(output)]) == 0
    assert "val/top1" in capsys.readouterr().out


def test_the_checkpoints_of_a_run_are_averaged(runs, tmp_path):
    checkpoints = sorted((runs[0] / "checkpoints").glob("epoch*.ckpt"))
    assert len(checkpoints) == 2
    output = tmp_path / "soup"
    words = ["soup", *map(str, checkpoints), "--output", str(output), "--uniform"]
    assert main(words) == 0
    states = [torch.load(path, weights_only=True)["state_dict"] for path in checkpoints]
    for name, value in tensors(output).items():
        if value.is_floating_point():
            by_hand = np.mean([state[f"recognizer.{name}"].double().numpy() for state in states], axis=0)
            np.testing.assert_allclose(value.double().numpy(), by_hand, rtol=1e-6, atol=1e-7, err_msg=name)


def test_runs_that_have_no_mean_are_refused_with_the_first_difference(runs, photos, tmp_path, capsys):
    larger = train(tmp_path, "larger", photos, 0, 40)
    smooth = "--model.recognizer.init_args.head.init_args.label_smoothing"
    other = train(tmp_path, "other", photos, 0, 32, "--model.recognizer.init_args.head", "LinearHead", smooth, "0.1")
    split = train(tmp_path, "split", photos, 0, 32, "--data.split_seed", "3")
    for folder, said in (
        (larger, f"{larger}: another network than {runs[0]} (image_size: 32 and 40)"),
        (other, "(recognizer.head.label_smoothing: 0.0 and 0.1), and their weights have no mean"),
        (split, f"{split}: held out other images than {runs[0]} (data.split_seed differs"),
        (tmp_path / "none", "no model here"),
        (runs[0] / "checkpoints" / "gone.ckpt", "no checkpoint that can be read"),
    ):
        capsys.readouterr()
        assert main(["soup", str(runs[0]), str(folder), "--output", str(tmp_path / "x")]) != 0
        assert said in capsys.readouterr().err and not (tmp_path / "x").exists()
    assert main(["soup", str(runs[0]), "--output", str(tmp_path / "x")]) == 2
    assert "one run makes no mean" in capsys.readouterr().err
    assert main(["soup", *map(str, runs), "--output", str(Path(runs[1]))]) == 2
    assert "holds a model already" in capsys.readouterr().err


def test_random_starts_are_told_of(photos, tmp_path, capsys):
    two = [train(tmp_path, f"r{seed}", photos, seed) for seed in range(2)]
    assert main(["soup", *map(str, two), "--output", str(tmp_path / "x")]) == 0
    assert "the runs began from random weights of their own" in capsys.readouterr().err
