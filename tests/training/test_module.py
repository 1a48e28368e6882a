import math
import resource
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from fakes.tiny_run import make_photos

from fgvc.config import quiet
from fgvc.data.datamodule import FineGrainedData
from fgvc.data.sources.image_folder import ImageFolder
from fgvc.data.stages import Stages
from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.heads.hse import HSEHead
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.last_stage import LastStage
from fgvc.methods.recognizers.fcan import FCAN
from fgvc.methods.recognizers.part_rcnn import PartRCNN
from fgvc.methods.recognizers.whole_image import WholeImage
from fgvc.methods.recognizers.ws_dan import WSDAN
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training import module as module_file
from fgvc.training.callbacks.phases import Phase, PhaseSchedule
from fgvc.training.mixing import Mixed
from fgvc.training.module import FineGrainedModule

FLAT = Taxonomy.flat(["a", "b", "c"])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = make_photos(tmp_path_factory.mktemp("data") / "photos")
    for i in range(2):  # known to the genus only
        picture = root / "val/Larus/Larus canus/val0.png"
        (root / f"val/Larus/genus{i}.png").write_bytes(picture.read_bytes())
    return root


@pytest.fixture(autouse=True)
def calm():
    quiet.libraries()


def make_data(photos, **keys):
    source = ImageFolder(str(photos), levels=["genus", "species"])
    return FineGrainedData(source, **{"image_size": 32, "batch_size": 4, "num_workers": 0, **keys})


def make_module(taxonomy=FLAT, net="test_resnet", head=None, **keys):
    torch.manual_seed(1)
    backbone = partial(Backbone, name=net, weights="none")
    recognizer = partial(WholeImage, backbone=backbone, head=partial(LinearHead, **(head or {})))
    return FineGrainedModule(recognizer, taxonomy, image_size=32, **{"channels_last": False, **keys})


def trainer(*callbacks, **keys):
    plain = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False, "max_epochs": 1}
    silent = {"enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False}
    return pl.Trainer(**{**plain, **silent, **keys}, callbacks=list(callbacks))


def fitted(photos, *callbacks, data=None, run=None, **keys):
    data = make_data(photos, **(data or {}))
    module = make_module(data.taxonomy, **keys)
    trainer(*callbacks, **(run or {})).fit(module, datamodule=data)
    return module


def batch_of(size=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (size, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.randint(3, (size,), generator=generator)
    return module_file.Sample(images, labels, torch.arange(size), torch.zeros(size, 4))


def forward_by_hand(module, images):
    backbone, head = module.recognizer.backbone, module.recognizer.head
    mean, std = (torch.tensor(backbone.net.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    normalised = (images.double() / 255 - mean) / std
    features = backbone.net.forward_features(normalised.to(backbone.mean.dtype))
    pooled = features.flatten(2).sum(dim=2) / (features.shape[2] * features.shape[3])
    return pooled @ head.classifier.weight.T + head.classifier.bias


def cross_entropy_by_hand(logits, labels):
    pairs = list(zip(logits.tolist(), labels.tolist(), strict=True))
    losses = [math.log(sum(math.exp(x) for x in row)) - row[label] for row, label in pairs]
    return sum(losses) / len(losses)


class Recorder(pl.Callback):
    """Keep what `look(trainer, module)` returns before each optimizer step."""

    def __init__(self, look):
        self.look, self.seen = look, []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append(self.look(trainer, pl_module))


def test_the_training_loss_is_the_cross_entropy_of_the_forward_pass(monkeypatch):
    module = make_module().double()
    logged = {}
    monkeypatch.setattr(module, "log_dict", lambda named, **keys: logged.update(named))
    sample = batch_of()
    loss = module.training_step(sample, 0)["loss"]
    expected = cross_entropy_by_hand(forward_by_hand(module, sample.image), sample.label)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert logged == {"train/loss": loss}


def test_the_weights_of_the_data_are_those_of_the_images_of_the_batch(monkeypatch):
    module = make_module().double()
    monkeypatch.setattr(module, "log_dict", lambda named, **keys: None)
    sample = batch_of()._replace(index=torch.tensor([7, 0, 3, 9, 2, 5]))
    module._image_weights = torch.tensor([0.5, 9, 0.25, 1, 9, 0.5, 9, 1, 9, 0.5])
    loss = module.training_step(sample, 0)["loss"]
    logits, weights = forward_by_hand(module, sample.image), [1, 0.5, 1, 0.5, 0.25, 0.5]
    singles = [cross_entropy_by_hand(logits[i : i + 1], sample.label[i : i + 1]) for i in range(6)]
    expected = sum(w * one for w, one in zip(weights, singles, strict=True)) / sum(weights)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_data_without_weights_train_bit_by_bit_as_ever(photos):
    plain = fitted(photos)
    data = make_data(photos)
    data._stages_path, data._stages = "", Stages(np.arange(18, dtype=np.int8) % 3, "stages.csv")
    asked = []
    for weights in (None, [0.5, 0.5, 0.5], [1, 0.5, 0.25]):
        data._stage_weights = weights
        module = make_module(data.taxonomy)
        torch.manual_seed(1)
        trainer().fit(module, datamodule=data)
        asked.append(all(torch.equal(a, b) for a, b in zip(plain.parameters(), module.parameters(), strict=True)))
    assert asked == [True, True, False]


class Measured(WholeImage):
    """A recognizer that measures something and looks at a box."""

    def forward(self, images):
        prediction = super().forward(images)
        moving = torch.arange(len(images)) / 20  # so that each batch of another size has other boxes
        prediction.boxes = torch.stack((moving, moving, moving + 0.5, moving + 0.5), dim=1)[:, None] + self.away
        return prediction

    def measures(self, prediction, labels):
        assert not torch.is_grad_enabled()
        return {"confidence": prediction.logits[FLAT.leaf_level].softmax(dim=1).amax(dim=1).mean()}


def measured():
    module = make_module()
    made = Measured(FLAT, 32, backbone=partial(Backbone, name="test_resnet", weights="none"))
    made.load_state_dict(module.recognizer.state_dict())
    made.away = torch.nn.Parameter(torch.tensor(0.1))
    module.recognizer = made
    return module.double()


@pytest.mark.parametrize("stage", ["train", "val"])
def test_measures_are_logged_beside_the_loss_and_not_trained_on(monkeypatch, stage):
    plain, module = make_module().double(), measured()
    logged = {}
    monkeypatch.setattr(module, "log", lambda name, value, **keys: logged.update({name: value}))
    monkeypatch.setattr(module, "log_dict", lambda named, **keys: logged.update(named))
    monkeypatch.setattr(plain, "log_dict", lambda named, **keys: None)
    sample = batch_of()
    if stage == "train":
        loss = module.training_step(sample, 0)["loss"]
        assert loss.item() == plain.training_step(sample, 0)["loss"].item()
        loss.backward()
        plain.training_step(sample, 0)["loss"].backward()
        theirs = dict(plain.recognizer.named_parameters())
        for name, parameter in module.recognizer.named_parameters():
            assert parameter.grad is None if name == "away" else torch.equal(parameter.grad, theirs[name].grad), name
    else:
        with torch.no_grad():
            module.validation_step(sample, 0)
            module.on_validation_epoch_end()
    logits = forward_by_hand(module, sample.image)
    assert logged[f"{stage}/loss"].item() == pytest.approx(cross_entropy_by_hand(logits, sample.label), rel=1e-6)
    confidence = sum(max(row) for row in logits.softmax(dim=1).tolist()) / len(logits)
    assert logged[f"{stage}/confidence"].item() == pytest.approx(confidence, rel=1e-6)
    assert not logged[f"{stage}/confidence"].requires_grad


def test_a_term_of_an_earlier_phase_is_not_logged_as_nan(monkeypatch):
    module = measured()
    logged = {}
    monkeypatch.setattr(module, "log_dict", lambda named, **keys: logged.update(named))
    for term in ("rank1", "gone"):
        logged.clear()
        module._log_losses({"loss": torch.tensor(3.0), f"loss_{term}": torch.tensor(2.0)}, "val", 4)
        module.on_validation_epoch_end()
    losses = {name: value for name, value in logged.items() if "loss" in name}
    assert losses == {"val/loss": 3, "val/loss_gone": 2}


def test_a_step_returns_its_boxes(monkeypatch):
    module = measured()
    monkeypatch.setattr(module, "log_dict", lambda named, **keys: None)
    for size in (6, 2):
        boxes = module.training_step(batch_of(size), 0)["boxes"]
        assert boxes.shape == (size, 1, 4) and not boxes.requires_grad
        assert boxes[:, 0, 0].tolist() == pytest.approx([0.1 + i / 20 for i in range(size)])
    plain = make_module()
    monkeypatch.setattr(plain, "log_dict", lambda named, **keys: None)
    assert plain.training_step(batch_of(), 0)["boxes"] is None
    assert plain.validation_step(batch_of(), 0)["boxes"] is None


@pytest.mark.parametrize("lam", [0.3, 0.85])
def test_mixed_pictures_share_the_loss_between_both_labels(monkeypatch, lam):
    module = make_module(mixup=1.0).double()
    monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
    sample = batch_of()
    permutation = torch.tensor([1, 2, 3, 4, 5, 0])
    mixed = sample.image.double() * lam + sample.image[permutation].double() * (1 - lam)
    monkeypatch.setattr(module_file, "mix", lambda images, *_: Mixed(mixed, permutation, lam))
    logits = forward_by_hand(module, mixed)
    own, other = (cross_entropy_by_hand(logits, labels) for labels in (sample.label, sample.label[permutation]))
    assert own != pytest.approx(other)
    assert module.training_step(sample, 0)["loss"].item() == pytest.approx(lam * own + (1 - lam) * other, rel=1e-6)


def mixed_step(recognizer, lam, monkeypatch):
    """Train a recognizer on one mixed batch of labels 0, 1, 2, 2 with partners of 1, 2, 2, 0, and return the loss."""
    module = make_module()
    monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
    module.recognizer = recognizer
    sample = batch_of(4)._replace(label=torch.tensor([0, 1, 2, 2]))
    monkeypatch.setattr(module_file, "mix", lambda images, *_: Mixed(images.float(), torch.tensor([1, 2, 3, 0]), lam))
    torch.manual_seed(5)
    return module.train().training_step(sample, 0)["loss"]


@pytest.mark.parametrize("lam", [1.0, 0.5, 0.0])
def test_the_centres_of_ws_dan_move_once_by_the_shares_of_the_labels(lam, monkeypatch):
    torch.manual_seed(0)
    recognizer = WSDAN(FLAT, 32, partial(Backbone, name="test_resnet", weights="none"), num_attentions=4)
    recognizer.centres.normal_()
    before, answers = recognizer.centres.clone().double(), []
    recognizer.register_forward_hook(lambda _, args, answer: answers.append(answer))
    loss = mixed_step(recognizer, lam, monkeypatch)
    expected = before.clone()
    for share, labels in ((lam, [0, 1, 2, 2]), (1 - lam, [1, 2, 2, 0])):
        for leaf in range(3):
            rows = [n for n, label in enumerate(labels) if label == leaf]
            mean = answers[0].embedding.detach().double()[rows].mean(dim=0)
            expected[leaf] += share * 0.05 * (mean - before[leaf])
    torch.testing.assert_close(recognizer.centres.double(), expected, rtol=1e-5, atol=1e-7)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in recognizer.parameters())


@pytest.mark.parametrize("lam", [1.0, 0.5, 0.0])
def test_the_running_reward_of_fcan_moves_once_by_the_shares_of_the_labels(lam, monkeypatch):
    torch.manual_seed(0)
    recognizer = FCAN(FLAT, 32, partial(Backbone, name="test_resnet", weights="none"), part_sizes=[0.5])
    recognizer.baseline.fill_(0.5)
    answers = {"class": 9 * torch.eye(3)[[0, 1, 1, 2]]}
    recognizer.heads[1].register_forward_hook(lambda _, args, answer: Prediction(answers, answer.embedding))
    mixed_step(recognizer, lam, monkeypatch)
    reward = 3 / 4 * lam  # three answers are right by the own labels, none by those of the partners
    assert recognizer.baseline.item() == pytest.approx(0.9 * 0.5 + 0.1 * reward)


def test_validation_metrics_equal_a_slow_recount_at_every_level(photos):
    data = make_data(photos)
    module = make_module(data.taxonomy)
    module.recognizer.head.classifier.weight.data *= 50
    results = trainer().validate(module, datamodule=data, verbose=False)[0]
    tree, seen, own = data.taxonomy, {}, {}
    module.eval()
    for sample in data.val_dataloader():
        probabilities = forward_by_hand(module, sample.image).softmax(dim=1).tolist()
        for row, label in zip(probabilities, sample.label.tolist(), strict=True):
            genera = {}
            for leaf, p in enumerate(row):
                genera[tree.path(leaf)[0]] = genera.get(tree.path(leaf)[0], 0) + p
            answer = dict(zip(tree.levels, tree.path(row.index(max(row))), strict=True))
            for level, name in tree.lineage(label).items():
                seen.setdefault(level, {}).setdefault(name, []).append(answer[level] == name)
                best = answer if level == "species" else {"genus": max(genera, key=genera.get)}
                own.setdefault(level, {}).setdefault(name, []).append(best[level] == name)
    assert sum(map(len, seen["genus"].values())) == 11
    assert sum(map(len, seen["species"].values())) == 9  # two pictures are known to the genus only
    assert own["genus"] != seen["genus"]  # the best genus by itself is not always that of the best species
    for prefix, counted in (("val", seen), ("val/own", own)):
        for level, classes in counted.items():
            hits = [hit for found in classes.values() for hit in found]
            assert results[f"{prefix}/{level}/top1"] == pytest.approx(sum(hits) / len(hits))
            recalls = [sum(found) / len(found) for found in classes.values()]
            assert results[f"{prefix}/{level}/mean_per_class"] == pytest.approx(sum(recalls) / len(recalls))
            assert f"{prefix}/{level}/top5" not in results  # no level has more than five classes
    assert results["val/inconsistency"] == 0
    assert 0 < results["val/species/top1"] < 1  # an answer that could be wrong


TREE = Taxonomy(["genus", "species"], [("x", "0"), ("y", "1"), ("x", "2"), ("y", "3"), ("z", "4"), ("x", "5")])
PATHS = [TREE.path(leaf) for leaf in range(6)]
GENERA = ("x", "y", "z")
SURE = {"genus": 0.5, "species": 3.0}
"""Temperatures of the two levels."""


def opinions(size=90):
    """Logits of both levels, which disagree, and labels: some are known to the genus only, some not at all."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(6, (size,), generator=generator)
    species = 3 * torch.randn(size, 6, generator=generator) + 4 * torch.nn.functional.one_hot(labels, 6)
    genus = 3 * torch.randn(size, 3, generator=generator)
    labels[::10] = TREE.find("y", "genus")
    labels[1::10] = -1
    return {"genus": genus, "species": species}, labels


def told(monkeypatch, module, logits, labels, stage="test"):
    """Return what is logged of a stage in which the recognizer answers these logits, in batches of 40."""
    logged = {}
    monkeypatch.setattr(module, "log_dict", lambda named, **keys: logged.update(named))
    for start in range(0, len(labels), 40):
        part = slice(start, start + 40)
        prediction = Prediction({level: x[part] for level, x in logits.items()}, torch.zeros(0))
        monkeypatch.setattr(module.recognizer, "forward", lambda images, p=prediction: p)
        sample = batch_of(len(labels[part]))._replace(label=labels[part])
        with torch.no_grad():
            answered = getattr(module, {"test": "test_step", "val": "validation_step"}[stage])(sample, 0)
    getattr(module, {"test": "on_test_epoch_end", "val": "on_validation_epoch_end"}[stage])()
    return {name: value.item() for name, value in logged.items()}, answered


def probabilities(row, temperature):
    powers = [math.exp(x / temperature) for x in row]
    return [x / sum(powers) for x in powers]


def named_by(readout, p):
    """Return the genus and the species that a readout names, by its definition."""
    leaves = range(len(p))
    if readout == "crm":  # the least expected height of the lowest common ancestor with the truth
        heights = [[2 - sum(a == b for a, b in zip(PATHS[k], PATHS[j], strict=True)) for j in leaves] for k in leaves]
        best = min(leaves, key=lambda k: sum(heights[k][j] * p[j] for j in leaves))
    else:
        best = max(leaves, key=lambda k: p[k])
    if readout == "marginal":
        return max(GENERA, key=lambda g: sum(p[k] for k in leaves if PATHS[k][0] == g)), PATHS[best][1]
    return PATHS[best]


@pytest.mark.parametrize("temperature", [None, 3.0])
def test_other_ways_to_answer_are_counted_under_their_names_on_calibrated_probabilities(monkeypatch, temperature):
    names = ["marginal", "ancestor", "crm"]
    module, (logits, labels) = make_module(TREE, readouts=names), opinions(400)
    if temperature:
        module.temperatures = {**SURE, "species": temperature}
    found, _ = told(monkeypatch, module, logits, labels)
    expected = {}
    for name in names:
        for depth, level in enumerate(TREE.levels):
            hits = [
                named_by(name, probabilities(row, temperature or 1))[depth] == TREE.path(label)[depth]
                for row, label in zip(logits["species"].tolist(), labels.tolist(), strict=True)
                if label >= 0 and len(TREE.path(label)) > depth
            ]
            expected[name, level] = sum(hits) / len(hits)
            assert found[f"test/{name}/{level}/top1"] == pytest.approx(expected[name, level]), (name, level)
    assert len({(expected[name, "genus"], expected[name, "species"]) for name in names}) == 3


def slow_error(pairs, bins=15):
    members = {}
    for confidence, right in pairs:
        members.setdefault(min(int(confidence * bins), bins - 1), []).append((confidence, right))
    gaps = [abs(sum(c for c, _ in found) - sum(right for _, right in found)) for found in members.values()]
    return sum(gaps) / len(pairs)


def test_a_test_tells_the_calibration_error_with_and_without_temperatures(monkeypatch):
    module, (logits, labels) = make_module(TREE), opinions()
    module.temperatures = SURE
    found, _ = told(monkeypatch, module, logits, labels)
    for name, temperature in {"test/ece": 3.0, "test/ece_uncalibrated": 1.0}.items():
        pairs = []
        for row, label in zip(logits["species"].tolist(), labels.tolist(), strict=True):
            if 0 <= label < 6:  # the species is known
                p = probabilities(row, temperature)
                pairs.append((max(p), p.index(max(p)) == label))
        assert len(pairs) == 72
        assert found[name] == pytest.approx(slow_error(pairs), abs=1e-6), name
    assert abs(found["test/ece"] - found["test/ece_uncalibrated"]) > 0.05


def test_a_validation_asks_for_nothing_more(monkeypatch):
    module, (logits, labels) = make_module(TREE, readouts=["crm"], tta=["flip"]), opinions()
    found, _ = told(monkeypatch, module, logits, labels, "val")
    assert "val/species/top1" in found
    assert not [name for name in found if "ece" in name or "crm" in name or "flip" in name]


@pytest.mark.parametrize("stage", ["test", "val"])
def test_answers_lie_above_the_best_leaf_and_the_best_class_of_each_level_is_counted_beside_them(monkeypatch, stage):
    module, (logits, labels) = make_module(TREE), opinions()
    module.temperatures = SURE
    found, _ = told(monkeypatch, module, logits, labels, stage)
    hits = {"answer": [], "own": []}
    for genus, species, label in zip(
        logits["genus"].tolist(), logits["species"].tolist(), labels.tolist(), strict=True
    ):
        if label >= 0:
            hits["answer"].append(PATHS[species.index(max(species))][0] == TREE.path(label)[0])
            hits["own"].append(GENERA[genus.index(max(genus))] == TREE.path(label)[0])
    assert sum(hits["answer"]) != sum(hits["own"])
    assert found[f"{stage}/genus/top1"] == pytest.approx(sum(hits["answer"]) / len(hits["answer"]))
    assert found[f"{stage}/own/genus/top1"] == pytest.approx(sum(hits["own"]) / len(hits["own"]))
    assert found[f"{stage}/own/species/top1"] == found[f"{stage}/species/top1"]
    assert found[f"{stage}/inconsistency"] == 0 < found[f"{stage}/own/inconsistency"]


def test_flat_classes_are_counted_once(monkeypatch):
    found, _ = told(monkeypatch, make_module(), {"class": torch.randn(9, 3)}, torch.arange(9) % 3)
    assert "test/class/top1" in found and not [name for name in found if "own" in name]


@pytest.mark.parametrize("readout", ["own", "marginal"])
def test_a_test_step_returns_the_calibrated_lineages(monkeypatch, readout):
    module, (logits, labels) = make_module(TREE), opinions()
    module.temperatures, module.readout = SURE, readout
    _, answered = told(monkeypatch, module, logits, labels)
    expected = []
    for genus, species in zip(logits["genus"].tolist()[80:], logits["species"].tolist()[80:], strict=True):
        p = probabilities(species, 3.0)
        above = PATHS[p.index(max(p))][0]
        own = probabilities(genus, 0.5)[GENERA.index(above)]
        expected.append([own if readout == "own" else sum(p[k] for k in range(6) if PATHS[k][0] == above), max(p)])
    assert answered["lineage"].tolist() == [pytest.approx(row, abs=1e-6) for row in expected]


def test_one_seed_gives_the_same_weights_and_another_one_others(photos):
    keys = {"mixup": 0.4, "cutmix": 1.0, "head": {"dropout": 0.5}}
    first, again, other = (fitted(photos, seed=seed, **keys).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_a_resumed_run_draws_what_the_uninterrupted_one_drew(photos, tmp_path):
    keys = {"mixup": 1.0, "head": {"dropout": 0.5}}
    run = {"max_epochs": 2, "limit_val_batches": 0}
    seeds = [Recorder(lambda t, _: (t.current_epoch, torch.initial_seed())) for _ in range(2)]
    saver = Saver(tmp_path / "after.ckpt")
    whole = fitted(photos, seeds[0], saver, run=run, **keys)
    data = make_data(photos)
    resumed = make_module(data.taxonomy, **keys)
    torch.manual_seed(99)
    trainer(seeds[1], **run).fit(resumed, datamodule=data, ckpt_path=tmp_path / "after.ckpt", weights_only=False)
    assert seeds[1].seen == [entry for entry in seeds[0].seen if entry[0] == 1]
    assert len(set(seeds[0].seen)) == 8  # every step of both epochs has a seed of its own
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_before_each_batch_the_losses_know_the_epoch_also_after_a_stop(photos, tmp_path):
    def told(trainer, module):
        return trainer.current_epoch, [loss.epoch for loss in module.recognizer.losses()]

    run = {"max_epochs": 3, "limit_val_batches": 0}
    seen, again, saver = Recorder(told), Recorder(told), Saver(tmp_path / "after.ckpt")
    fitted(photos, seen, saver, run=run)
    data = make_data(photos)
    resumed = make_module(data.taxonomy)
    trainer(again, **run).fit(resumed, datamodule=data, ckpt_path=tmp_path / "after.ckpt", weights_only=False)
    assert {epoch for epoch, _ in seen.seen} == {0, 1, 2} and {epoch for epoch, _ in again.seen} == {1, 2}
    assert all(epochs and set(epochs) == {epoch} for epoch, epochs in (*seen.seen, *again.seen))


class Saver(pl.Callback):
    """Save a checkpoint after the first epoch."""

    def __init__(self, path):
        self.path = path

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)


def rates(trainer, module):
    return {group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups}


def test_learning_rates_follow_the_warm_up_and_the_cosine(photos):
    recorder = Recorder(rates)
    fitted(photos, recorder, lr=0.01, head_lr_ratio=5, warmup_epochs=0.5, run={"max_epochs": 2, "limit_val_batches": 0})
    rise = [1 / 2, 2 / 2]  # half of the first epoch's four steps
    fall = [(1 + math.cos(math.pi * i / 6)) / 2 for i in range(6)]
    for step, (factor, seen) in enumerate(zip(rise + fall, recorder.seen, strict=True)):
        for name, rate in seen.items():
            base = 0.05 if name.startswith("head") else 0.01
            assert rate == pytest.approx(base * factor), (step, name)
    assert {"head.decay", "head.no_decay", "backbone.decay", "backbone.no_decay"} <= set(recorder.seen[0])


def test_layer_decay_reaches_the_live_optimizer_of_a_wrapped_transformer(photos):
    def by_parameter(trainer, module):
        names = {id(p): name for name, p in module.recognizer.named_parameters()}
        return {names[id(p)]: group["lr"] for group in trainer.optimizers[0].param_groups for p in group["params"]}

    recorder = Recorder(by_parameter)
    keys = {"net": "test_vit", "layer_decay": 0.5, "lr": 0.01, "head_lr_ratio": 4, "warmup_epochs": 0}
    fitted(photos, recorder, run={"limit_train_batches": 1}, **keys)
    seen = recorder.seen[0]
    depth = 1 + max(int(name.split(".")[3]) for name in seen if ".blocks." in name)
    below_head = {f"backbone.net.blocks.{i}.mlp.fc1.weight": depth - i for i in range(depth)}
    below_head["backbone.net.patch_embed.proj.weight"] = depth + 1
    assert depth > 1
    assert seen["head.classifier.weight"] == pytest.approx(0.04)
    for name, layers in below_head.items():
        assert seen[name] == pytest.approx(0.01 * 0.5**layers), name
    assert set(seen) == {name for name, _ in make_module(net="test_vit").recognizer.named_parameters()}


@pytest.mark.parametrize("layer_decay", [None, 0.5])
def test_copies_of_the_last_stage_learn_at_the_rate_of_the_backbone(layer_decay):
    recognizer = partial(
        WholeImage,
        backbone=partial(Backbone, name="test_resnet", weights="none"),
        head=partial(HSEHead, embedding_width=4, guide_width=4),
    )
    keys = {"image_size": 32, "lr": 0.01, "head_lr_ratio": 8.0, "layer_decay": layer_decay}
    module = FineGrainedModule(recognizer, TREE, **keys)
    module.trainer = trainer()
    groups = {id(p): group for group in module.configure_optimizers().param_groups for p in group["params"]}
    copies = [name for name, part in module.recognizer.named_modules() if isinstance(part, LastStage)]
    assert len(copies) == 2 and all(name.startswith("head.") for name in copies)
    seen = {"copy": set(), "head": set()}
    for name, parameter in module.recognizer.head.named_parameters(prefix="head"):
        group = groups.pop(id(parameter))
        seen["copy" if name.startswith(tuple(f"{copy}." for copy in copies)) else "head"].add(group["lr"])
        assert group["weight_decay"] == (0.05 if parameter.ndim > 1 else 0), name
    # with layer decay a copy is one layer below the head
    assert seen == {"copy": {0.01 * (layer_decay or 1)}, "head": {0.08}}
    assert groups.keys() == {id(p) for p in module.recognizer.backbone.parameters()}
    assert {group["lr"] for group in groups.values()} <= {0.01 * (layer_decay or 1) ** i for i in range(20)}


class Snapshots(pl.Callback):
    """Keep the backbone's and the head's tensors as they are when each epoch starts and when training ends."""

    def __init__(self):
        self.seen = []

    def _take(self, module):
        self.seen.append({key: value.clone() for key, value in module.recognizer.state_dict().items()})

    def on_train_epoch_start(self, trainer, pl_module):
        self._take(pl_module)

    def on_train_end(self, trainer, pl_module):
        self._take(pl_module)


def changed(before, after, part):
    return {key for key in before if key.startswith(part) and not torch.equal(before[key], after[key])}


def test_phases_freeze_and_thaw_the_backbone_bit_by_bit(photos):
    snapshots, recorder = Snapshots(), Recorder(rates)
    phases = PhaseSchedule([Phase("head", 1, lr=0.02), Phase("all", 1)])
    run = {"max_epochs": 2, "num_sanity_val_steps": 1}
    fitted(photos, snapshots, phases, recorder, lr=0.01, head_lr_ratio=1, warmup_epochs=0, run=run)
    start, middle, end = snapshots.seen
    assert changed(start, middle, "backbone") == set()
    assert "head.classifier.weight" in changed(start, middle, "head")
    assert any(key.endswith("running_mean") for key in changed(middle, end, "backbone"))
    assert any(key.endswith("conv1.weight") for key in changed(middle, end, "backbone"))
    factors = [(1 + math.cos(math.pi * i / 8)) / 2 for i in range(8)]
    peaks = [0.02] * 4 + [0.01] * 4
    expected = [peak * factor for peak, factor in zip(peaks, factors, strict=True)]
    assert [seen["head.decay"] for seen in recorder.seen] == pytest.approx(expected)


def test_the_weight_decay_of_a_phase_reaches_matrices_only(photos):
    recorder = Recorder(lambda t, _: {group["name"]: group["weight_decay"] for group in t.optimizers[0].param_groups})
    phases = PhaseSchedule([Phase("all", 1, weight_decay=0.3), Phase("all", 1)])
    run = {"max_epochs": 2, "limit_train_batches": 1, "limit_val_batches": 0}
    fitted(photos, phases, recorder, weight_decay=0.1, run=run)
    assert [seen["backbone.decay"] for seen in recorder.seen] == [0.3, 0.1]
    assert [seen["head.no_decay"] for seen in recorder.seen] == [0, 0]


def test_gradients_are_accumulated_over_batches(photos):
    recorder = Recorder(lambda t, _: t.global_step)
    run = {"accumulate_grad_batches": 2, "max_epochs": 2, "limit_val_batches": 0}
    lrs = Recorder(rates)
    fitted(photos, recorder, lrs, lr=0.01, warmup_epochs=1, run=run)
    assert recorder.seen == [0, 1, 2, 3]  # 2 epochs of 4 batches
    assert [seen["backbone.decay"] for seen in lrs.seen] == pytest.approx([0.005, 0.01, 0.01, 0.005])


class GradientNorm(pl.Callback):
    """Keep the norm of the gradients that the optimizer read."""

    def __init__(self):
        self.seen = []

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        squares = [float(p.grad.square().sum()) for p in pl_module.parameters() if p.grad is not None]
        if squares:
            self.seen.append(math.sqrt(sum(squares)))


def test_gradients_are_clipped(photos):
    free, clipped = GradientNorm(), GradientNorm()
    fitted(photos, free, run={"limit_val_batches": 0})
    fitted(photos, clipped, run={"gradient_clip_val": 0.01, "limit_val_batches": 0})
    assert min(free.seen) > 0.01
    assert clipped.seen and max(clipped.seen) <= 0.01 * 1.001


class Losses(pl.Callback):
    """Keep the loss of each step and the type of the last logits."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(float(outputs["loss"]))


def test_bfloat16_keeps_finite_losses_and_float32_weights(photos):
    losses = Losses()
    types = set()
    data = make_data(photos)
    module = make_module(data.taxonomy)
    module.recognizer.head.classifier.register_forward_hook(lambda _, __, out: types.add(out.dtype))
    trainer(losses, precision="bf16-mixed").fit(module, datamodule=data)
    assert types == {torch.bfloat16}
    assert len(losses.seen) == 4 and all(map(math.isfinite, losses.seen))
    assert {p.dtype for p in module.parameters()} == {torch.float32}


@pytest.mark.parametrize("wanted", [False, True])
def test_compilation_happens_only_where_it_is_asked_for(monkeypatch, wanted):
    calls = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: calls.append(type(self).__name__))
    make_module(**({"compile": True} if wanted else {}))
    assert calls == (["WholeImage"] if wanted else [])


def test_channels_last_reaches_the_weights():
    weight = make_module(channels_last=True).recognizer.backbone.net.conv1[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_logit_adjustment_learns_the_class_counts():
    counts = torch.tensor([1, 3, 4])
    module = make_module(head={"prior_strength": 2.0}, class_counts=counts)
    expected = [2 * math.log(count / 8) for count in (1, 3, 4)]
    assert module.recognizer.head.log_prior.tolist() == pytest.approx(expected)
    assert make_module(head={"prior_strength": 2.0}).recognizer.head.log_prior.tolist() == [0, 0, 0]


def test_new_classifiers_are_those_of_a_start_and_the_optimizer_forgets_the_old_ones():
    module = make_module(seed=5)
    head, other = module.recognizer.head.classifier, module.recognizer.backbone.net.conv1[0]
    optimizer = torch.optim.AdamW([*module.recognizer.parameters()])
    module.recognizer(batch_of(4).image.float()).embedding.sum().backward()
    head.weight.grad, head.bias.grad = torch.ones_like(head.weight), torch.ones_like(head.bias)
    optimizer.step()
    before = other.weight.clone()
    module.optimizers = lambda: optimizer
    module.trainer = SimpleNamespace(current_epoch=3)
    module.check_new_classifiers()
    module.start_classifiers()
    first = head.weight.detach().clone()
    assert head.bias.eq(0).all() and torch.equal(other.weight, before)
    assert abs(float(first.std()) - 0.01) < 0.002 and abs(float(first.mean())) < 0.003
    assert head.weight not in optimizer.state and head.bias not in optimizer.state and other.weight in optimizer.state
    module.start_classifiers()
    assert torch.equal(head.weight, first)  # a function of seed and epoch
    module.trainer.current_epoch = 4
    module.start_classifiers()
    assert not torch.equal(head.weight, first)


def test_ten_thousand_classes_stay_small(monkeypatch):
    # a table of classes by classes would be 800 MB
    tree = Taxonomy(["genus", "species"], [(f"g{i // 5}", f"s{i}") for i in range(10_000)])
    module = make_module(tree)
    for word in ("log", "log_dict"):
        monkeypatch.setattr(module, word, lambda *_, **__: None)
    channels = module.recognizer.backbone.channels
    monkeypatch.setattr(module.recognizer.backbone, "forward", lambda x: Features(torch.rand(len(x), channels, 1, 1)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.no_grad():
        for seed in range(2):
            module.validation_step(batch_of(32, seed), 0)
        module.on_validation_epoch_end()
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)
    state = sum(
        value.nbytes for metric in module.scoreboard.answers["val"].levels for value in metric.metric_state.values()
    )
    assert state == 3 * 8 * (10_000 + 2_000)
    assert peak < 200e6


@pytest.mark.parametrize(
    "keys", [{"lr": 0}, {"weight_decay": -1}, {"mixup": -0.1}, {"tta": ["flipp"]}, {"readouts": ["crn"]}]
)
def test_settings_out_of_range_are_refused(keys):
    with pytest.raises(UsageError, match="model"):
        make_module(**keys)


def test_a_run_without_end_is_refused(photos):
    with pytest.raises(UsageError, match="max_epochs: -1 has no end"):
        fitted(photos, run={"max_epochs": -1})


def test_a_run_of_given_steps_warms_up_for_an_epoch_and_ends_at_zero(photos):
    recorder = Recorder(rates)
    fitted(photos, recorder, lr=0.01, warmup_epochs=0.5, run={"max_epochs": -1, "max_steps": 6, "limit_val_batches": 0})
    expected = [0.005, 0.01] + [0.01 * (1 + math.cos(math.pi * i / 4)) / 2 for i in range(4)]
    assert [seen["backbone.decay"] for seen in recorder.seen] == pytest.approx(expected)


def test_validations_of_a_training_are_watched_and_then_settled_and_no_others(photos, monkeypatch):
    seen = []
    monkeypatch.setattr(WholeImage, "watch", lambda self, prediction, labels: seen.append(len(labels)))
    monkeypatch.setattr(WholeImage, "settle", lambda self: seen.append("settled"))
    data = make_data(photos)
    module = make_module(data.taxonomy)
    trainer(num_sanity_val_steps=0).fit(module, datamodule=data)
    images = len(data.records("val"))
    assert seen[-1] == "settled" and sum(seen[:-1]) == images
    seen.clear()
    trainer().validate(module, datamodule=data, verbose=False)
    trainer().test(module, datamodule=data, verbose=False)
    assert seen == []


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_a_recognizer_of_places_refuses_mixed_images(mixing):
    backbone = partial(Backbone, name="test_resnet", weights="none")
    with pytest.raises(UsageError, match="PartRCNN cannot learn from an image made of two"):
        FineGrainedModule(partial(PartRCNN, backbone=backbone), FLAT, image_size=64, **{mixing: 0.2})
