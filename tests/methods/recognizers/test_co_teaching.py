import math
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from fakes.killing import Killed, kill_after
from fakes.tiny_model import TAXONOMY
from fakes.tiny_run import CPU, data_flags, make_photos, read_csv
from safetensors.torch import save_file

from fgvc.__main__ import main
from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.base import Head
from fgvc.methods.recognizers.base import mean_probability
from fgvc.methods.recognizers.co_teaching import CoTeaching, forgotten, without_largest
from fgvc.methods.slots import known_classes
from fgvc.model_file.model import load

TINY = partial(Backbone, name="test_resnet", weights="none")
OWLS = TAXONOMY.find("Owls")
LABELS = torch.tensor([0, 3, -1, OWLS, 4, 1, 2, 2])


def made(head="LinearHead", **arguments):
    torch.manual_seed(0)
    return CoTeaching(TAXONOMY, 64, TINY, known_classes()[head], **arguments).train()


def images(number=8):
    return torch.randint(0, 256, (number, 3, 64, 64), generator=torch.Generator().manual_seed(1)).float()


def spread(model):
    """Let the two networks have opinions of their own."""
    for number, network in enumerate(model.networks):
        torch.manual_seed(10 + number)
        torch.nn.init.normal_(network.head.classifier.weight, std=3.0)
    return model


def leaves_of(label):
    path = TAXONOMY.path(label)
    return [leaf for leaf in range(5) if TAXONOMY.path(leaf)[: len(path)] == path]


def costs_by_hand(logits):
    """Per image -log of the sum of the probabilities below its label in float64; None without a label."""
    rows = logits.detach().double().softmax(dim=1).tolist()
    return [
        None if label < 0 else -math.log(sum(row[leaf] for leaf in leaves_of(label)))
        for row, label in zip(rows, LABELS.tolist(), strict=True)
    ]


def chosen_by_hand(costs, keep):
    """Take the cheapest image again and again."""
    left = {row: cost for row, cost in enumerate(costs) if cost is not None}
    chosen = set()
    while len(chosen) < keep:
        row = min(left, key=left.get)
        chosen.add(row)
        del left[row]
    return chosen


def test_the_share_rises_linearly_and_then_stays():
    found = [forgotten(epoch, 0.4, 4) for epoch in range(7)]
    assert found == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4])
    assert forgotten(0, 0.4, 0) == 0.4


@pytest.mark.parametrize(("share", "left"), [(0.0, 7), (0.1, 6), (0.4, 4), (0.5, 3), (0.99, 0)])
def test_the_labels_that_cost_most_are_left_out(share, left):
    costs = torch.tensor([3.0, 1.0, 99.0, 5.0, 2.0, 0.5, 4.0, 6.0])  # the third has no label
    found = without_largest(LABELS, costs, share)
    order = [5, 1, 4, 0, 6, 3, 7]  # cheapest first
    assert [row for row in range(8) if found[row] >= 0] == sorted(order[:left])
    assert all(found[row] in (LABELS[row], -1) for row in range(8))
    assert without_largest(torch.full((3,), -1), torch.rand(3), 0.5).tolist() == [-1, -1, -1]


@pytest.mark.parametrize("epoch", [0, 1, 2, 9])
def test_each_network_learns_from_what_costs_the_other_least(epoch):
    model = made(forget_rate=0.5, warm_epochs=2)
    model.begin_epoch(epoch)
    drawn = 2 * torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(3))
    views = {f"network{n + 1}": Prediction({"species": logits}, torch.zeros(8, 2)) for n, logits in enumerate(drawn)}
    answer = Prediction({"species": drawn.mean(dim=0)}, torch.zeros(8, 4), views=views)
    costs = [costs_by_hand(answer.views[f"network{number}"].logits["species"]) for number in (1, 2)]
    terms = model.loss(answer, LABELS)
    keep = 7 - round(7 * 0.5 * min(epoch / 2, 1))
    assert list(terms) == ["network1_classes", "network2_classes"]
    for own, other, term in zip(costs, reversed(costs), terms.values(), strict=True):
        chosen = chosen_by_hand(other, keep)
        assert term.item() == pytest.approx(sum(own[row] for row in chosen) / keep, rel=1e-4)
    assert epoch == 0 or chosen_by_hand(costs[0], keep) != chosen_by_hand(costs[1], keep)


def test_a_networks_term_moves_that_network_alone():
    model = spread(made(forget_rate=0.4, warm_epochs=0))
    terms = model.loss(model(images()), LABELS)
    for number, name in enumerate(terms):
        slopes = torch.autograd.grad(terms[name], list(model.parameters()), retain_graph=True, allow_unused=True)
        moved = {
            name.split(".")[1]
            for (name, _), slope in zip(model.named_parameters(), slopes, strict=True)
            if slope is not None
        }
        assert moved == {str(number)}


def test_an_evaluation_leaves_nothing_out_and_answers_with_the_mean_probability():
    model = spread(made(forget_rate=0.5, warm_epochs=0)).eval()
    answer = model(images())
    terms = model.loss(answer, LABELS)
    for number, term in enumerate(terms.values(), start=1):
        costs = [cost for cost in costs_by_hand(answer.views[f"network{number}"].logits["species"]) if cost is not None]
        assert term.item() == pytest.approx(sum(costs) / 7, rel=1e-4)
    views = list(answer.views.values())
    p = [view.logits["species"].double().softmax(dim=1) for view in views]
    assert torch.allclose(answer.logits["species"].double().exp(), (p[0] + p[1]) / 2, atol=1e-6)
    assert torch.equal(mean_probability(views)["species"], answer.logits["species"])
    differ = sum(int(a.argmax()) != int(b.argmax()) for a, b in zip(*p, strict=True))
    assert model.measures(answer, LABELS)["disagreement"].item() == pytest.approx(differ / 8)


@pytest.mark.parametrize("head", [name for name, kind in known_classes().items() if issubclass(kind, Head)])
def test_any_head_is_taught(head):
    model = made(head, forget_rate=0.5, warm_epochs=0)
    terms = model.loss(model(images()), LABELS)
    assert {name.partition("_")[0] for name in terms} == {"network1", "network2"}
    sum(terms.values()).backward()
    for network in model.networks:
        slopes = [parameter.grad for parameter in network.head.parameters() if parameter.grad is not None]
        assert slopes and all(slope.isfinite().all() for slope in slopes) and any(slope.any() for slope in slopes)


@pytest.mark.parametrize("arguments", [{"forget_rate": 1}, {"forget_rate": -0.1}, {"warm_epochs": -1}])
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError, match="CoTeaching: forget_rate"):
        made(**arguments)


BACKBONE = "--model.recognizer.init_args.backbone.init_args"
HEAD = "--model.recognizer.init_args.head"


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FGVC_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(7)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.safetensors")
    return make_photos(tmp_path / "photos", train=7, val=3, test=1, noise=200)


def fit(photos, name, *words):
    part = "--model.recognizer"
    net = [part, "CoTeaching", f"{part}.init_args.forget_rate", "0.4", f"{part}.init_args.warm_epochs", "2"]
    net += [f"{part}.init_args.backbone", "Backbone", f"{BACKBONE}.name", "test_resnet"]
    net += [f"{BACKBONE}.weights", "weights.safetensors", "--model.image_size", "32"]
    return main(["fit", *net, *CPU, *data_flags(photos), "--trainer.max_epochs", "4", *words, "--name", name])


def test_a_run_that_is_killed_and_resumed_becomes_the_run_that_was_left_alone(photos, monkeypatch):
    words = ["--save_every_minutes", "0", HEAD, "LinearHead", f"{HEAD}.dropout", "0.3"]
    assert fit(photos, "straight", *words) == 0
    kill_after(monkeypatch, [8, 3, 6])  # in the middle of the second epoch, and in later ones
    with pytest.raises(Killed):
        fit(photos, "killed", *words)
    for _ in range(2):
        with pytest.raises(Killed):
            main(["fit", "--resume", "runs/killed"])
    assert main(["fit", "--resume", "runs/killed"]) == 0
    models = [Path("runs", name, "model/model.safetensors").read_bytes() for name in ("straight", "killed")]
    assert models[0] == models[1]
    rows = read_csv(Path("runs/straight/metrics.csv"))
    assert all(0 <= float(row["val/disagreement"]) <= 1 for row in rows if row["val/loss"])
    assert {"val/network1/species/top1", "val/network2/species/top1"} <= rows[0].keys()
    assert main(["test", "runs/killed"]) == 0
    model = load("runs/killed/model").recognizer
    assert isinstance(model, CoTeaching) and model.forget_rate == 0.4


STILL = ["--phases", "[{name: head, epochs: 4}]", "--data.augmentation.off", "true"]


def test_heads_learn_from_vectors_where_the_networks_stand_still(photos, monkeypatch, capsys):
    words = [*STILL, HEAD, "LinearHead", f"{HEAD}.dropout", "0.3", "--model.optimizer", "sgd"]
    assert fit(photos, "vectors", *words) == 0
    assert "the network stands still: the features of 30 photographs" in capsys.readouterr().err
    monkeypatch.setattr("fgvc.training.frozen.remember", lambda *_: "")
    assert fit(photos, "images", *words) == 0
    one, other = (load(f"runs/{name}/model").recognizer.state_dict() for name in ("vectors", "images"))
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-5)
    backbone = [name for name in one if name.startswith("networks.0.backbone.")]
    assert backbone and all(torch.equal(one[name], one[name.replace("s.0.", "s.1.")]) for name in backbone)
    assert not torch.equal(one["networks.0.head.classifier.weight"], one["networks.1.head.classifier.weight"])


def test_networks_with_other_weights_each_see_the_images(photos, capsys):
    assert fit(photos, "images", *STILL, f"{BACKBONE}.weights", "none") == 0
    assert "stands still" not in capsys.readouterr().err


def test_pictures_made_of_two_are_refused(photos, capsys):
    assert fit(photos, "mixed", "--model.mixup", "0.2") == 2
    assert (
        "model.mixup: 0.2; CoTeaching cannot learn from an image made of two; leave it out" in capsys.readouterr().err
    )
    assert fit(photos, "mixed", "--model.cutmix", "1") == 2
    assert "model.cutmix: 1.0; CoTeaching cannot" in capsys.readouterr().err
