"""Few-shot networks through `fgvc fit`, against a slow loop over the same episodes with easyfsl."""

import json
import math
import statistics
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from easyfsl.methods import PrototypicalNetworks
from fakes.killing import Killed, kill_after
from fakes.tiny_run import CPU, NET, data_flags, make_new_classes, make_photos, read_csv
from PIL import Image

from fgvc.__main__ import main
from fgvc.config import quiet
from fgvc.data.datamodule import FineGrainedData
from fgvc.data.episode_batches import EpisodePlan
from fgvc.data.episodes import draw
from fgvc.data.sources.image_folder import ImageFolder
from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.few_shot.prototypes import PrototypeClassifier
from fgvc.methods.recognizers.few_shot import FewShotRecognizer
from fgvc.model_file.model import load
from fgvc.training.callbacks.step_checkpoints import StepCheckpoint
from fgvc.training.episodic import EpisodicModule

NUMBERS = {"n_way": 3, "n_shot": 2, "n_query": 3, "per_epoch": 5, "val_n_way": 2, "val_n_shot": 1, "val_n_query": 3,
           "val_episodes": 6, "test_episodes": 20}  # fmt: skip
BACKBONE = "--model.recognizer.init_args.backbone"
FEW_SHOT = ["--model.recognizer", "FewShotRecognizer", BACKBONE, "Backbone", f"{BACKBONE}.init_args.name",
            "test_resnet", f"{BACKBONE}.init_args.weights", "none", "--model.image_size", "32"]  # fmt: skip
EPISODES = ["--data.episodes", json.dumps(NUMBERS)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures in their species' colour and, most of it, one of their own: not every query is answered right."""
    root = make_new_classes(tmp_path_factory.mktemp("photos"), images=6)
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        with Image.open(path) as picture:
            own = np.random.default_rng(number).integers(256, size=3)
            mixed = Image.fromarray((0.3 * np.asarray(picture) + 0.7 * own).astype(np.uint8))
        mixed.save(path)
    return root


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def flags(photos):
    return [*CPU, *data_flags(photos), "--data.source.init_args.new_classes", "true"]


def fit(photos, name, *words):
    few = ["--trainer.max_epochs", "3", "--trainer.log_every_n_steps", "1", "--save_every_minutes", "0"]
    return main(["fit", *FEW_SHOT, *EPISODES, *flags(photos), *few, *words, "--name", name])


def make_data(photos, **numbers):
    source = ImageFolder(str(photos), levels=["genus", "species"], new_classes=True)
    return FineGrainedData(source, 32, num_workers=0, episodes=EpisodePlan(**NUMBERS | numbers))


def make_module(data, classifier=PrototypeClassifier, **settings):
    quiet.libraries()
    torch.manual_seed(1)
    backbone = partial(Backbone, name="test_resnet", weights="none")
    recognizer = partial(FewShotRecognizer, backbone=backbone, classifier=classifier)
    return EpisodicModule(recognizer, data.taxonomy, image_size=32, channels_last=False, **settings)


def by_hand(embed, images, n_way, n_shot):
    """Return the loss and the accuracy of an episode, query by query, with easyfsl's prototypes."""
    peer = PrototypicalNetworks(backbone=torch.nn.Identity())
    vectors = embed(images).double()
    peer.process_support_set(vectors[: n_way * n_shot], torch.arange(n_way).repeat_interleave(n_shot))
    queries = vectors[n_way * n_shot :]
    each, losses, right = len(queries) // n_way, [], []
    for i, query in enumerate(queries):
        scores = [-(d**2) for d in (-peer(query[None])[0]).tolist()]
        top = max(scores)
        losses.append(top + math.log(sum(math.exp(s - top) for s in scores)) - scores[i // each])
        right.append(scores.index(top) == i // each)
    return statistics.fmean(losses), statistics.fmean(right)


def test_the_loss_is_the_cross_entropy_of_the_queries_over_the_ways(photos, monkeypatch):
    data = make_data(photos)
    module = make_module(data).double()
    module.recognizer.train()
    logged = {}
    monkeypatch.setattr(module, "log_dict", lambda named, **keys: logged.update(named))
    for batch in data.train_dataloader():
        answered = module.training_step(batch, 0)
        expected, _ = by_hand(module.recognizer.embed, batch.image, 3, 2)
        assert answered["loss"].item() == pytest.approx(expected, rel=1e-6)
        assert logged == {"train/loss": answered["loss"]}
        assert answered["boxes"] is None and answered["loss"].requires_grad


@pytest.mark.parametrize("stage", ["val", "test"])
def test_an_evaluation_is_the_mean_over_its_episodes_with_an_interval(photos, monkeypatch, stage):
    data = make_data(photos)
    module = make_module(data).double().eval()
    logged = {}
    monkeypatch.setattr(module, "log_dict", lambda named, **keys: logged.update(named))
    losses, rights = [], []
    with torch.no_grad():
        for number, batch in enumerate(getattr(data, f"{stage}_dataloader")()):
            getattr(module, {"val": "validation_step", "test": "test_step"}[stage])(batch, number)
            loss, right = by_hand(module.recognizer.embed, batch.image, 2, 1)
            losses.append(loss)
            rights.append(right)
        getattr(module, {"val": "on_validation_epoch_end", "test": "on_test_epoch_end"}[stage])()
    assert len(rights) == {"val": 6, "test": 20}[stage] and statistics.stdev(rights) > 0
    half = 1.96 * statistics.stdev(rights) / math.sqrt(len(rights))
    assert {name: float(value) for name, value in logged.items()} == {
        f"{stage}/loss": pytest.approx(statistics.fmean(losses), rel=1e-5),
        f"{stage}/episodes/top1": pytest.approx(statistics.fmean(rights)),
        f"{stage}/episodes/interval": pytest.approx(half),
    }


def test_a_run_trains_is_tested_and_its_model_answers_the_same(photos, folder, capsys):
    assert fit(photos, "birds") == 0
    told = capsys.readouterr()
    assert "training: 3 epochs of 5 episodes, 3-way 2-shot, 3 queries per class\n" in told.err
    assert "not calibrated: the model knows no classes yet\n" in told.err
    assert "next:  fgvc test runs/birds\n       fgvc few-shot enroll runs/birds FOLDER\n" in told.err
    assert "ambiguous" not in told.err
    assert Path("runs/birds/checkpoints/best.ckpt").is_file()
    provenance = json.loads(Path("runs/birds/model/fgvc.json").read_text())["provenance"]
    rows = [
        float(row["val/episodes/top1"]) for row in read_csv(Path("runs/birds/metrics.csv")) if row["val/episodes/top1"]
    ]
    assert provenance["metrics"] == {"val/episodes/top1": pytest.approx(max(rows), abs=1e-6)}
    assert main(["validate", "runs/birds"]) == 0
    assert main(["test", "runs/birds"]) == 0
    assert "12 test images, 20 episodes, 2-way 1-shot, 3 queries per class\n" in capsys.readouterr().out
    scores = json.loads(Path("runs/birds/test.json").read_text())
    data, model = make_data(photos), load("runs/birds").recognizer
    drawn = draw(data.records("test").labels, 2, 1, 3, 20, 0, data.taxonomy.names("species"), "test")
    rights = []
    images = torch.cat([batch.image for batch in data.whole_split("test")])
    with torch.no_grad():
        for support, query in zip(drawn.support, drawn.query, strict=True):
            rows = np.concatenate([support.ravel(), query.ravel()])
            rights.append(by_hand(model.embed, images[rows], 2, 1)[1])
    assert 0 < statistics.fmean(rights) < 1
    assert scores["test/episodes/top1"] == pytest.approx(statistics.fmean(rights), abs=1e-6)
    assert not [path for path in Path("runs/birds").iterdir() if "predictions" in path.name or "class" in path.name]
    assert main(["report", "runs/birds"]) == 0
    assert main(["info", "runs/birds"]) == 0


def test_a_run_that_is_killed_and_resumed_becomes_the_run_that_was_left_alone(photos, folder, monkeypatch):
    assert fit(photos, "straight") == 0
    kill_after(monkeypatch, [2, 2, 1, 3])
    with pytest.raises(Killed):
        fit(photos, "killed")
    for _ in range(3):
        with pytest.raises(Killed):
            main(["fit", "--resume", "runs/killed"])
    assert main(["fit", "--resume", "runs/killed"]) == 0
    rows = [
        [{key: value for key, value in row.items() if key.startswith("val/") or key == "step"} for row in found]
        for found in (
            [row for row in read_csv(Path("runs", name, "metrics.csv")) if row["val/loss"]]
            for name in ("straight", "killed")
        )
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 3
    models = [Path("runs", name, "model/model.safetensors").read_bytes() for name in ("straight", "killed")]
    assert models[0] == models[1]


def test_other_episodes_than_before_begin_the_epoch_anew(photos, folder, monkeypatch, capsys):
    original = StepCheckpoint._save

    def save(self, trainer):
        original(self, trainer)
        if trainer.global_step == 7:
            raise Killed

    monkeypatch.setattr(StepCheckpoint, "_save", save)
    with pytest.raises(Killed):
        fit(photos, "birds")
    monkeypatch.setattr(StepCheckpoint, "_save", original)
    assert main(["fit", "--resume", "runs/birds", "--data.episodes.n_way", "2"]) == 0
    assert (
        "data.episodes was 5 episodes, 3-way 2-shot, 3 queries per class and is 5 episodes, 2-way"
        in capsys.readouterr().err
    )


def test_it_starts_from_the_network_of_a_run_on_base_classes(photos, folder, capsys):
    base = make_photos(folder / "base", train=4, val=1, test=0)
    words = [*NET, *CPU, *data_flags(base), "--trainer.max_epochs", "1", "--name", "base"]
    assert main(["fit", *words]) == 0
    still = ["--init_from", "runs/base", "--model.lr", "1e-12", "--trainer.max_epochs", "1"]
    assert fit(photos, "birds", *still, "--model.weight_decay", "0") == 0
    assert "start from runs/base: kept " in capsys.readouterr().err
    own, theirs = (load(f"runs/{name}").recognizer.backbone.net for name in ("birds", "base"))
    for name, value in own.named_parameters():
        torch.testing.assert_close(value, theirs.get_parameter(name), atol=1e-6, rtol=0)


def test_classes_are_held_out_of_the_base_classes_where_there_is_no_val_split(folder):
    root = make_new_classes(folder / "photos", images=6, train=3, val=0, test=2)
    for path in list((root / "train").glob("*/*")):
        (path.parent / f"other {path.name}").mkdir()
        for file in list(path.iterdir()):
            (path.parent / f"other {path.name}" / file.name).write_bytes(file.read_bytes())
    assert fit(root, "birds", "--data.val_fraction", "0.34") == 0
    assert main(["test", "runs/birds"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model.mixup", "0.2"], "model.mixup: 0.2; a training on episodes has none; leave it out"),
        (["--model.readouts", "[crm]"], "model.readouts: ['crm']; a training on episodes has none; leave it out"),
        (["--data.episodes", "null"], "data.episodes: null given, but FewShotRecognizer learns from episodes; give "
         "e.g. --data.episodes.n_way 5"),
        (["--model.recognizer", "WholeImage"], "data.episodes: given, but model.recognizer learns from ordinary "
         "batches; give FewShotRecognizer"),
        (["--data.episodes.n_way", "4"], "train: 3 classes, but data.episodes.n_way 4 takes as many in an episode"),
        (["--find_batch_size", "true"], "--find_batch_size: a batch is an episode here; data.episodes says how large "
         "it is"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_episodes_is_refused_in_one_line(photos, folder, capsys, words, said):
    assert fit(photos, "birds", *words) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"fgvc: {said}"
    assert not Path("runs/birds").exists()


def test_a_class_in_train_and_val_is_refused(folder, capsys):
    shared = make_photos(folder / "photos", train=6, val=6, test=0)
    assert fit(shared, "birds") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("fgvc: data.episodes: class 'Larus canus' and 2 more of the val split is trained on, too;")
    assert not Path("runs/birds").exists()


def test_what_a_trained_network_cannot_answer_is_refused_in_one_line(photos, folder, capsys):
    assert fit(photos, "birds", "--trainer.max_epochs", "1") == 0
    capsys.readouterr()
    for words in (["predict", "runs/birds", str(photos / "test")], ["calibrate", "runs/birds"]):
        assert main(words) == 2
        assert "this model knows no classes yet" in capsys.readouterr().err.splitlines()[-1]
    assert main(["test", "runs/birds", "--data", str(photos / "test")]) == 2
    assert "tested on episodes of its own test split" in capsys.readouterr().err


def test_several_processes_are_refused(photos, folder):
    data = make_data(photos)
    data.trainer = type("Trainer", (), {"global_rank": 0, "world_size": 2})
    with pytest.raises(UsageError, match="one process trains on episodes"):
        data.train_dataloader()


def test_a_classifier_that_is_prepared_is_refused(photos):
    class Prepared(PrototypeClassifier):
        needs_base = True

    with pytest.raises(UsageError, match="Prepared: it is prepared once"):
        make_module(make_data(photos), Prepared)


def test_the_config_of_the_run_holds_the_episodes(photos, folder):
    assert fit(photos, "birds", "--trainer.max_epochs", "1") == 0
    stored = yaml.safe_load(Path("runs/birds/config.yaml").read_text())
    assert stored["data"]["episodes"] == NUMBERS
    assert stored["model"]["recognizer"]["class_path"] == "FewShotRecognizer"
