import json
import re
import shutil
import socket
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from fakes.tiny_model import TAXONOMY, saved, tiny_model
from fakes.tiny_run import BACKBONE, CPU, NET, data_flags, make_photos, read_csv
from safetensors.torch import load_file, save_file

from fgvc.__main__ import main
from fgvc.errors import UsageError
from fgvc.methods.attention.apn import APN
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.hse import HSEHead
from fgvc.methods.recognizers.fcan import FCAN
from fgvc.methods.recognizers.ra_cnn import RACNN
from fgvc.methods.recognizers.spatial_transformer import SpatialTransformer
from fgvc.methods.recognizers.whole_image import WholeImage
from fgvc.model_file.model import ModelFileError, read_state
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.warm_start import find, init_from

TINY = partial(Backbone, name="test_resnet", weights="none")
SMALL_APN = partial(APN, hidden=8, grid=2)
PAIR = Taxonomy(["genus", "species"], [("Corvus", "crow"), ("Corvus", "raven"), ("Pica", "magpie")])
OTHER = Taxonomy.flat(["crow", "raven"])


def swap(folder, state):
    """Put other weights into the model of a run; a model without their hash takes any."""
    save_file(state, folder / "model/model.safetensors")
    path = folder / "model/fgvc.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weights_sha256": None}))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The folder of a whole-image model whose batch statistics are no defaults."""
    folder = saved(tmp_path_factory.mktemp("source"))
    weights = folder / "model/model.safetensors"
    generator = torch.Generator().manual_seed(0)
    moved = {k: v + torch.rand(v.shape, generator=generator) for k, v in load_file(weights).items() if "running" in k}
    swap(folder, {**load_file(weights), **moved})
    return folder


def part(state, prefix):
    """Return the tensors below a prefix, by the rest of their names."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("taxonomy", [TAXONOMY, PAIR], ids=["same", "other"])
def test_copies_of_the_last_stage_start_as_that_of_the_model(source, taxonomy):
    model = WholeImage(taxonomy, 32, TINY, partial(HSEHead, embedding_width=4, guide_width=4))
    report = init_from(model, source, whole_backbones=True)
    wanted = part(read_state(source)[0], "backbone.net.layer4.")
    copies = list(model.last_stages())
    assert len(copies) == 2 * len(taxonomy.levels) - 2
    for copy in copies:
        assert same(dict(copy.steps[0].state_dict()), wanted)
    assert not [name for name in report.reset if "steps" in name]


@pytest.mark.parametrize("shared", [False, True])
def test_a_whole_image_model_fills_every_scale(source, shared):
    model = RACNN(TAXONOMY, 32, TINY, attention=SMALL_APN, num_scales=3, share_backbone=shared)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = init_from(model, source)
    state, wanted = model.state_dict(), read_state(source)[0]
    for number in range(3):
        assert same(part(state, f"scales.{number}.head."), part(wanted, "head."))
        if number == 0 or not shared:
            assert same(part(state, f"scales.{number}.backbone."), part(wanted, "backbone."))
    untouched = {name for name in before if name.startswith(("attentions", "fusion"))}
    assert set(report.reset) == untouched and report.ignored == ()
    assert all(torch.equal(before[name], state[name]) for name in untouched)
    assert set(report.kept) == set(before) - untouched


@pytest.mark.parametrize(
    ("make", "trunks"),
    [
        (partial(FCAN, share_backbone=False), ["backbone", "closer"]),
        (SpatialTransformer, ["trunks.0", "trunks.1", "scout"]),
        (WholeImage, ["backbone"]),
    ],
)
def test_every_backbone_is_filled_whatever_its_name(source, tmp_path, make, trunks):
    model = make(TAXONOMY, 32, backbone=TINY)
    init_from(model, source)
    wanted = part(read_state(source)[0], "backbone.")
    for trunk in trunks:
        assert same(part(model.state_dict(), f"{trunk}."), wanted)
    # and back, also from a model whose backbones bear other names
    shutil.copytree(source, tmp_path / "back")
    swap(tmp_path / "back", model.state_dict())
    again = WholeImage(TAXONOMY, 32, backbone=TINY)
    init_from(again, tmp_path / "back")
    assert same(part(again.state_dict(), "backbone."), wanted)


def test_a_further_scale_starts_from_the_first_one(source, tmp_path):
    shutil.copytree(source, tmp_path / "two")
    two = RACNN(TAXONOMY, 32, TINY, attention=SMALL_APN)
    swap(tmp_path / "two", two.state_dict())
    three = RACNN(TAXONOMY, 32, TINY, attention=SMALL_APN, num_scales=3)
    init_from(three, tmp_path / "two")
    own, wanted = three.state_dict(), two.state_dict()
    for mine, theirs in (("scales.0.", "scales.0."), ("scales.1.", "scales.1."), ("attentions.0.", "attentions.0.")):
        assert same(part(own, mine), part(wanted, theirs))
    assert same(part(own, "scales.2.backbone."), part(wanted, "scales.0.backbone."))


def test_other_classes_start_with_a_fresh_classifier_and_the_report_says_so(source):
    model = WholeImage(OTHER, 32, backbone=TINY)
    classifier = model.head.classifier.weight.clone()
    report = init_from(model, source)
    assert same(part(model.state_dict(), "backbone."), part(read_state(source)[0], "backbone."))
    assert torch.equal(model.head.classifier.weight, classifier)
    assert set(report.reset) == set(report.ignored) == {"head.classifier.weight", "head.classifier.bias"}
    assert "reset 2 (head.classifier.weight, head.classifier.bias)" in str(report)


def test_a_classifier_of_as_many_other_classes_is_not_taken_over(source):
    leaves = TAXONOMY.to_plain()["leaves"]
    turned = Taxonomy(TAXONOMY.levels, leaves[::-1])
    model = WholeImage(turned, 32, backbone=TINY)
    classifier = model.head.classifier.weight.clone()
    assert classifier.shape == read_state(source)[0]["head.classifier.weight"].shape
    init_from(model, source)
    assert torch.equal(model.head.classifier.weight, classifier)
    assert same(part(model.state_dict(), "backbone."), part(read_state(source)[0], "backbone."))


def test_what_was_filled_goes_on_learning(source):
    model = WholeImage(TAXONOMY, 32, backbone=TINY).train()
    init_from(model, source)
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())
    images = torch.randint(256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    sum(model.loss(model(images), torch.arange(4)).values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_nothing_that_fits_is_one_line(source):
    vit = partial(Backbone, name="test_vit", weights="none")
    with pytest.raises(UsageError, match=r"no tensor of that model fits this one \(kept 2 tensors, reset") as error:
        init_from(WholeImage(OTHER, 32, backbone=vit), source)
    assert "\n" not in str(error.value)


def test_a_backbone_that_must_be_whole_is_not_left_half_empty(source, tmp_path):
    shutil.copytree(source, tmp_path / "less")
    state = load_file(tmp_path / "less/model/model.safetensors")
    swap(tmp_path / "less", {key: value for key, value in state.items() if "conv1" not in key})
    model = RACNN(TAXONOMY, 32, TINY, attention=SMALL_APN)
    start = model.scales[0].head.classifier.weight.clone()
    bare = 2 * sum("conv1" in key for key in state if "running" not in key and "num_b" not in key)
    with pytest.raises(UsageError, match=rf"leaves {bare} tensors of the backbone unset \(scales.0.backbone.net.conv1"):
        init_from(model, tmp_path / "less", whole_backbones=True)
    assert torch.equal(model.scales[0].head.classifier.weight, start), "refused before anything is filled"
    assert len(init_from(model, tmp_path / "less").kept) > 0


def test_the_folder_may_be_a_run_its_model_or_latest(source, tmp_path):
    assert find(source) == source and find(source / "model") == source / "model"
    shutil.copytree(source, tmp_path / "newest")
    (tmp_path / "newest/config.yaml").touch()
    (tmp_path / "latest").write_text("newest\n")
    assert find(tmp_path / "latest") == tmp_path / "newest"
    (tmp_path / "latest").write_text("gone\n")
    with pytest.raises(UsageError, match="gone: no run folder"):
        find(tmp_path / "latest")


@pytest.mark.parametrize(("name", "found"), [("nowhere", "no such folder"), (".", r"no model there \(no fgvc.json\)")])
def test_a_folder_without_a_model_is_refused(tmp_path, name, found):
    with pytest.raises(UsageError, match=f"--init_from .*: {found}; give a run folder"):
        find(tmp_path / name)


def test_a_damaged_model_is_one_line(source, tmp_path):
    shutil.copytree(source, tmp_path / "bad")
    (tmp_path / "bad/model/model.safetensors").write_bytes(b"short")
    with pytest.raises(ModelFileError, match="not a safetensors file"):
        init_from(tiny_model().recognizer, tmp_path / "bad")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with photographs and the run `first`."""
    folder = tmp_path_factory.mktemp("home")
    make_photos(folder / "photos", train=8, val=5, noise=150)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert fit("--name", "first", "--model.lr", "0.003", "--trainer.max_epochs", "2") == 0
    return folder


@pytest.fixture
def runs(home, tmp_path, monkeypatch):
    """A copy of the runs in a folder of its own, which is the working folder."""
    shutil.copytree(home / "runs", tmp_path / "runs")
    (tmp_path / "photos").symlink_to(home / "photos")
    monkeypatch.chdir(tmp_path)
    return Path("runs")


def fit(*words):
    return main(["fit", *NET, *CPU, *data_flags(Path("photos")), "--model.warmup_epochs", "0", *words])


STILL = ["--model.lr", "1e-9", "--trainer.max_epochs", "1", "--model.weight_decay", "0"]


def accuracies(run):
    rows = [row for row in read_csv(run / "metrics.csv") if row["val/species/top1"]]
    return [float(row["val/species/top1"]) for row in rows]


def test_a_run_that_hardly_learns_is_as_good_as_its_source(runs, monkeypatch, capsys):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asked the network"))
    capsys.readouterr()
    pretrained = [f"{BACKBONE}.weights", "pretrained"]  # nothing of them is needed
    assert fit(*pretrained, *STILL, "--init_from", "runs/latest", "--name", "again") == 0
    out, err = capsys.readouterr()
    assert out.startswith("trained ") and "start" not in out
    assert re.search(r"^start from runs/first: kept \d+ tensors, reset 0, ignored 0$", err, flags=re.MULTILINE)
    old, new = (load_file(runs / name / "model/model.safetensors") for name in ("first", "again"))
    assert torch.equal(old["head.classifier.weight"], new["head.classifier.weight"]) is False, "it trained"
    torch.testing.assert_close(old["head.classifier.weight"], new["head.classifier.weight"], atol=1e-5, rtol=0)
    best = max(accuracies(runs / "first"))
    assert best > 1 / 3 and accuracies(runs / "again") == [pytest.approx(best)]
    kept = yaml.safe_load((runs / "again/config.yaml").read_text())
    assert kept["init_from"] == "runs/first", "`latest` is another run by now"
    arguments = kept["model"]["recognizer"]["init_args"]["backbone"]["init_args"]
    assert arguments["weights"] == "pretrained", "the config says what was asked for"
    shutil.rmtree(runs / "first")  # a finished run needs its source no longer
    assert main(["validate", "runs/again"]) == 0


def test_a_run_may_start_from_the_one_it_replaces(runs, capsys):
    assert fit(*STILL, "--init_from", "runs/first", "--name", "first", "--overwrite", "true") == 0
    assert "start from runs/first: kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--init_from", "runs/nowhere"], "--init_from runs/nowhere: no such folder; give a run folder"),
        (["--init_from", "photos"], "--init_from photos: no model there"),
        (
            ["--init_from", "runs/first", f"{BACKBONE}.name", "test_vit", f"{BACKBONE}.weights", "pretrained"],
            "leaves .* tensors of the backbone unset",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_a_run_folder_is_made(runs, capsys, words, message):
    capsys.readouterr()
    assert fit(*words, "--name", "failed") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("evaluation: ")]
    assert len(lines) == 1 and re.search(message, lines[0]), lines
    assert not (runs / "failed").exists() and (runs / "latest").read_text() == "first\n"
