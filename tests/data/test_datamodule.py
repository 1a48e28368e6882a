import csv
import itertools
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from fakes.cub import make_fake_cub
from fakes.tiny_run import make_photos
from PIL import Image

from fgvc.data.datamodule import FineGrainedData, default_workers
from fgvc.data.episode_batches import EpisodePlan
from fgvc.data.long_tail import LongTail
from fgvc.data.noise import Noise
from fgvc.data.sources.base import Annotations
from fgvc.data.sources.cub import CUB
from fgvc.data.sources.image_folder import ImageFolder
from fgvc.data.sources.table import Table
from fgvc.data.stages import Drawn, Stages
from fgvc.data.transforms import Augmentation
from fgvc.errors import UsageError

FORKS = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
TRAIN = {"ash": 20, "beech": 10, "cedar": 10}


def picture(path, seed, size=(30, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 6, size[0] // 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size).save(path, quality=90)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 training pictures of three classes, 2:1:1, and 7 test pictures."""
    root = tmp_path_factory.mktemp("trees")
    for name, count in TRAIN.items():
        for number in range(count):
            picture(root / "train" / name / f"{number:02d}.jpg", seed=number + 100 * len(name))
    for number in range(7):
        picture(root / "test" / ["ash", "beech", "cedar"][number % 3] / f"{number}.jpg", seed=900 + number)
    return root


@pytest.fixture
def source(folder):
    return ImageFolder(str(folder))


def make(source, **settings):
    return FineGrainedData(source, **{"image_size": 16, "batch_size": 8, "num_workers": 0, **settings})


def names(records):
    return [records.relative_path(i) for i in range(len(records))]


def one_epoch(loader, epoch=0):
    loader.sampler.set_epoch(epoch)
    return list(loader)


def write_table(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    for row in rows[1:]:
        picture(path.parent / row[0], seed=0)
    return Table(str(path))


def test_the_held_out_part_is_stratified_and_apart_from_train(source):
    data = make(source, val_fraction=0.2)
    assert set(data.splits) == {"train", "val", "test"}
    train, val = names(data.records("train")), names(data.records("val"))
    assert Counter(name.split("/")[-2] for name in val) == {"ash": 4, "beech": 2, "cedar": 2}
    assert sorted(train + val) == sorted(names(source.records("train")))
    assert not set(train) & set(val)
    assert names(data.records("test")) == names(source.records("test"))


def test_the_split_seed_decides_the_held_out_part_and_the_seed_does_not(source):
    def held_out(**settings):
        return names(make(source, val_fraction=0.2, **settings).records("val"))

    assert held_out() == held_out(seed=5) != held_out(split_seed=5)


def test_labels_follow_their_files_into_every_split(source):
    data = make(source, val_fraction=0.3)
    leaves = data.taxonomy.names(data.taxonomy.leaf_level)
    for split in ("train", "val", "test"):
        records = data.records(split)
        assert [leaves[label] for label in records.labels] == [name.split("/")[-2] for name in names(records)]


def test_class_counts_are_those_of_the_images_left_for_training(source):
    counts = make(source, val_fraction=0.2).class_counts
    assert (counts.dtype, counts.tolist()) == (torch.int64, [16, 8, 8])
    assert make(source, val_fraction=0).class_counts.tolist() == [20, 10, 10]


def test_class_counts_leave_out_what_is_known_to_a_coarser_rank_only(tmp_path):
    tree = [("genus", "species"), ("Larus", "canus"), ("Larus", "fuscus"), ("Sterna", "hirundo")]
    (tmp_path / "tree.csv").write_text("\n".join(map(",".join, tree)), encoding="utf-8")
    labels = ["canus", "canus", "fuscus", "Larus", "Larus", "hirundo"]
    rows = [("path", "label", "split"), *((f"{i}.jpg", label, "train") for i, label in enumerate(labels))]
    write_table(tmp_path / "photos.csv", rows)
    data = make(Table(str(tmp_path / "photos.csv"), taxonomy=str(tmp_path / "tree.csv")), val_fraction=0)
    assert len(data.records("train")) == 6
    assert data.class_counts.tolist() == [2, 1, 1]


def test_a_fraction_of_0_holds_nothing_out(source):
    data = make(source, val_fraction=0)
    assert set(data.splits) == {"train", "test"}
    assert data.val_dataloader() == []
    assert len(data.records("train")) == 40


def test_a_val_split_of_the_source_s_own_is_taken_as_it_is(tmp_path):
    splits = ["train"] * 8 + ["val"] * 3 + ["test"] * 2
    rows = [("path", "label", "split"), *((f"{i}.jpg", "ab"[i % 2], split) for i, split in enumerate(splits))]
    data = make(write_table(tmp_path / "photos.csv", rows), val_fraction=0.5)
    assert [len(data.records(split)) for split in ("train", "val", "test")] == [8, 3, 2]


def test_no_group_is_cut(tmp_path):
    rows = [("path", "label", "split", "group")]
    rows += [(f"{i}.jpg", "ab"[i % 2], "train", f"site {i // 4}") for i in range(48)]
    data = make(write_table(tmp_path / "photos.csv", rows), val_fraction=0.25)
    sites = {name: f"site {int(name.removesuffix('.jpg')) // 4}" for name, *_ in rows[1:]}
    train, val = ({sites[name] for name in names(data.records(split))} for split in ("train", "val"))
    assert not train & val
    assert len(data.records("val")) == 12
    # The same rows without the column are cut through: the test can fail.
    bare = make(write_table(tmp_path / "bare.csv", [row[:3] for row in rows]), val_fraction=0.25)
    train, val = ({sites[name] for name in names(bare.records(split))} for split in ("train", "val"))
    assert train & val


@pytest.mark.parametrize("has_val", [False, True])
def test_each_fold_is_the_test_split_once_and_no_group_is_cut(tmp_path, has_val):
    rows = [("path", "label", "split", "group")]
    rows += [(f"{i}.jpg", "ab"[i % 2], "train", f"site {i // 4}") for i in range(48)]
    rows += [(f"{i}.jpg", "ab"[i % 2], split, "") for i, split in ((48, "test"), (49, "val" if has_val else "test"))]
    source = write_table(tmp_path / "photos.csv", rows)
    sites = {name: f"site {int(name.removesuffix('.jpg')) // 4}" for name, *_ in rows[1:]}
    tested = []
    for fold in (1, 2, 3):
        data = make(source, val_fraction=0.25, folds=3, fold=fold)
        parts = {split: names(data.records(split)) for split in ("train", "val", "test")}
        used = [*parts["train"], *parts["test"], *([] if has_val else parts["val"])]
        assert sorted(used) == sorted(f"{i}.jpg" for i in range(48))
        assert parts["val"] == ["49.jpg"] if has_val else len(parts["val"]) == 8
        groups = [{sites[name] for name in part} for part in parts.values()]
        assert not any(one & other for one, other in itertools.combinations(groups, 2))
        assert data.class_counts.tolist() == [len(parts["train"]) // 2] * 2
        tested += parts["test"]
    assert sorted(tested) == sorted(f"{i}.jpg" for i in range(48))


@pytest.mark.parametrize("fold", [0, 4])
def test_a_fold_that_is_not_there_is_one_line(source, fold):
    with pytest.raises(UsageError, match=f"data.fold: {fold}; there are the folds 1 to 3"):
        make(source, folds=3, fold=fold)


def test_annotations_belong_to_the_record_of_the_same_index(tmp_path):
    root = make_fake_cub(tmp_path / "CUB_200_2011", images_per_class=4)
    files = dict(line.split() for line in (root / "images.txt").read_text(encoding="utf-8").splitlines())
    left = {path: int(image) % 19 for image, path in files.items()}
    lines = [f"{image} {left[path]}.0 8.0 20.0 16.0" for image, path in files.items()]
    (root / "bounding_boxes.txt").write_text("\n".join(lines), encoding="utf-8")
    data = make(CUB(str(root)), val_fraction=0.25)
    for split, size in (("train", 300), ("val", 100), ("test", 400)):
        records = data.records(split)
        assert len(records) == size
        for index in range(0, size, 11):
            x = next(x for path, x in left.items() if records.relative_path(index).endswith(path))
            assert data.annotations(split, index).boxes["object"] == pytest.approx((x / 40, 0.25, (x + 20) / 40, 0.75))


def test_a_source_without_annotations_has_empty_ones(source):
    assert make(source).annotations("val", 0) == Annotations()


@FORKS
def test_workers_show_every_image_once_and_differ_between_epochs_and_give_what_one_process_gives(source):
    settings = {"val_fraction": 0, "augmentation": Augmentation(policy=1)}
    alone = make(source, **settings).train_dataloader()
    workers = make(source, **settings, num_workers=2).train_dataloader()
    pictures = []
    for epoch in (0, 1):
        batches, expected = one_epoch(workers, epoch), one_epoch(alone, epoch)
        index = torch.cat([batch.index for batch in batches])
        assert sorted(index.tolist()) == list(range(40))
        for batch, other in zip(batches, expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(batch[:4], other[:4], strict=True))
            assert batch.image.is_contiguous(memory_format=torch.channels_last)
        pictures.append(torch.cat([batch.image for batch in batches])[index.argsort()])
    same = (pictures[0] == pictures[1]).flatten(1).all(dim=1)
    assert not same.any()
    # Other images of the same epoch have other views: workers do not share a stream.
    assert len(torch.cat([batch.view for batch in batches]).unique(dim=0)) == 40


def test_the_seed_changes_order_and_augmentation(source):
    first, again, other = (one_epoch(make(source, seed=seed).train_dataloader())[0] for seed in (0, 0, 1))
    assert torch.equal(first.image, again.image)
    assert first.index.tolist() != other.index.tolist()
    views = {int(i): view for i, view in zip(first.index, first.view, strict=True)}
    shared = [(views[int(i)], view) for i, view in zip(other.index, other.view, strict=True) if int(i) in views]
    assert shared
    assert not any(torch.equal(a, b) for a, b in shared)


@FORKS
@pytest.mark.filterwarnings("ignore")  # Lightning's advice and its own deprecations
def test_lightning_tells_the_sampler_its_epoch(source):
    seen = []

    class Watcher(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch, batch_idx):
            seen.append((self.current_epoch, batch.index.tolist(), batch.view))
            return self.weight

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", use_distributed_sampler=False, **quiet)
    data = make(source, val_fraction=0, num_workers=1)
    trainer.fit(Watcher(), datamodule=data)
    alone = make(source, val_fraction=0).train_dataloader()
    expected = [(epoch, batch) for epoch in (0, 1) for batch in one_epoch(alone, epoch)]
    assert len(seen) == len(expected) == 10
    for (epoch, index, view), (expected_epoch, batch) in zip(seen, expected, strict=True):
        assert (epoch, index) == (expected_epoch, batch.index.tolist())
        assert torch.equal(view, batch.view)


def test_batches_of_training_are_full_and_those_of_evaluation_complete(source):
    data = make(source, val_fraction=0.2, batch_size=6)
    assert [len(batch.label) for batch in data.train_dataloader()] == [6] * 5
    assert [len(batch.label) for batch in data.val_dataloader()] == [6, 2]
    assert torch.cat([batch.index for batch in data.test_dataloader()]).tolist() == list(range(7))


def test_evaluation_shows_the_picture_as_it_is(source):
    batch = next(iter(make(source, fit="squash").test_dataloader()))
    assert batch.view.tolist() == [[0, 0, 1, 1]] * 7
    with Image.open(source.records("test")[0].path) as opened:
        pixels = np.asarray(opened, dtype=float)
    # Exact means over areas: 24 rows and 30 columns, each 16 times, in 16 equal parts.
    fine = pixels.repeat(16, axis=0).repeat(16, axis=1).reshape(16, 24, 16, 30, 3)
    assert np.abs(batch.image[0].permute(1, 2, 0).numpy() - fine.mean(axis=(1, 3))).max() <= 1
    cut = next(iter(make(source, crop_fraction=0.5).test_dataloader()))
    # 24 of 30 x 24 pixels, half of it: 12 x 12 in the middle.
    assert cut.view[0].tolist() == pytest.approx([9 / 30, 6 / 24, 21 / 30, 18 / 24])


def test_the_model_is_handed_the_source_size(source):
    data = make(source, image_size=12, source_size=20)
    assert data.resize.size == 20
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        assert next(iter(loader)).image.shape[1:] == (3, 20, 20)
    assert make(source, image_size=12).resize.size == 12


def test_processes_share_the_images_among_them(source):
    parts = {"train": [], "test": []}
    for rank in range(3):
        data = make(source, val_fraction=0, batch_size=4)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=3)
        for split, loader in (("train", data.train_dataloader()), ("test", data.test_dataloader())):
            parts[split].append([int(i) for batch in loader for i in batch.index])
    assert [len(part) for part in parts["train"]] == [12, 12, 12]  # 13 each, in full batches of 4
    assert len(set(itertools.chain(*parts["train"]))) == 36
    assert sorted(itertools.chain(*parts["test"])) == list(range(7))


def test_a_whole_split_is_for_one_process_alone_however_many_train(source):
    data = make(source, val_fraction=0.2, batch_size=4)
    data.trainer = SimpleNamespace(global_rank=1, world_size=3)
    for split, images in (("val", 8), ("test", 7)):
        batches = list(data.whole_split(split))
        assert [int(i) for batch in batches for i in batch.index] == list(range(images))
        assert torch.cat([batch.label for batch in batches]).tolist() == data.records(split).labels.tolist()
    data.trainer = None
    expected = next(iter(data.test_dataloader()))
    assert torch.equal(next(iter(data.whole_split("test"))).image, expected.image)
    with pytest.raises(UsageError, match="the data has no dev split"):
        data.whole_split("dev")


def test_balance_reaches_the_sampler(source):
    data = make(source, val_fraction=0, balance="class_balanced")
    sampler, labels = data.train_dataloader().sampler, data.records("train").labels
    drawn = []
    for epoch in range(20):
        sampler.set_epoch(epoch)
        drawn += [labels[index] for _, index in sampler]
    # 800 draws, 267 per class give or take 13; each image once, ash would have 400.
    assert all(210 < count < 325 for count in np.bincount(drawn).tolist())


def test_the_beta_of_effective_numbers_reaches_the_sampler(source):
    shares = {}
    for beta in (0.0, 1.0):
        data = make(source, val_fraction=0, balance="effective_number", balance_beta=beta)
        sampler, labels = data.train_dataloader().sampler, data.records("train").labels
        drawn = []
        for epoch in range(20):
            sampler.set_epoch(epoch)
            drawn += [labels[index] for _, index in sampler]
        shares[beta] = np.bincount(drawn)[0] / len(drawn)  # of ash, which has half of the images
    # 800 draws: one standard deviation is 0.018
    assert shares[0.0] == pytest.approx(1 / 2, abs=0.07) and shares[1.0] == pytest.approx(1 / 3, abs=0.07)


def test_a_long_tail_thins_what_is_trained_on_and_nothing_else(source):
    plain, data = (make(source, val_fraction=0.2, long_tail=tail) for tail in (None, LongTail(8, 2)))
    assert sorted(data.class_counts.tolist()) == [2, 4, 8]
    assert (plain.thinned_from, data.thinned_from) == (0, 32)
    for split in ("val", "test"):
        assert names(data.records(split)) == names(plain.records(split))
    assert set(names(data.records("train"))) < set(names(plain.records("train")))
    again = make(source, val_fraction=0.2, long_tail=LongTail(8, 2), seed=5)  # the seed of the training is another
    assert names(again.records("train")) == names(data.records("train"))
    before = make(source, val_fraction=0.2, long_tail=LongTail(8, 2), batch_size=4).train_dataloader().state_dict()
    other = make(source, val_fraction=0.2, long_tail=LongTail(8, 2, seed=1), batch_size=4).train_dataloader()
    assert list(other.changed(before)) == ["data.long_tail"]


def test_there_is_at_least_one_worker_and_not_too_many(monkeypatch):
    for cores, workers in ((None, 1), (1, 1), (2, 1), (6, 5), (64, 8)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert default_workers() == workers


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_fraction": 1.0}, "data.val_fraction: 1.0"),
        ({"val_fraction": -0.1}, "data.val_fraction: -0.1"),
        ({"batch_size": 0}, "data.batch_size: 0"),
        ({"balance_beta": 1.5}, "data.balance_beta: 1.5"),
        ({"long_tail": LongTail(2, 3)}, "data.long_tail: most 2, least 3"),
        ({"long_tail": LongTail(3, 2), "episodes": EpisodePlan()}, "data.long_tail: episodes draw"),
        ({"seed": -1}, "data.seed: -1"),
        ({"fit": "stretch"}, "fit: 'stretch'"),
        ({"split_seed": -1}, "data.split_seed: -1"),
        ({"num_workers": -3}, "data.num_workers: -3"),
        ({"crop_fraction": 0.0}, "data.crop_fraction: 0.0"),
        ({"crop_fraction": math.nan}, "data.crop_fraction: nan"),
        ({"image_size": 0}, "model.image_size: 0"),
        ({"image_size": 0, "source_size": 64}, "model.image_size: 0"),
        ({"augmentation": Augmentation(flip=2.0)}, "data.augmentation.flip: 2.0"),
    ],
)
def test_a_setting_outside_its_range_is_refused_in_one_line(source, settings, message):
    with pytest.raises(UsageError) as caught:
        make(source, **settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_split_that_is_not_there_is_named_with_those_that_are(folder):
    data = make(ImageFolder(str(folder / "train"), test_fraction=0))
    expected = r"the data has no test split; it has \['train', 'val'\]"
    for ask in (data.test_dataloader, lambda: data.records("test"), lambda: data.annotations("test", 0)):
        with pytest.raises(UsageError, match=expected):
            ask()


def test_a_batch_larger_than_the_data_is_refused(source):
    with pytest.raises(UsageError, match=r"data\.batch_size: 41, but there are only 40 training images"):
        make(source, val_fraction=0, batch_size=41).train_dataloader()
    assert len(list(make(source, val_fraction=0, batch_size=40).train_dataloader())) == 1


def test_a_share_of_a_process_smaller_than_a_batch_is_refused(source):
    data = make(source, val_fraction=0, batch_size=21)
    data.trainer = SimpleNamespace(global_rank=0, world_size=2)
    with pytest.raises(UsageError, match=r"data\.batch_size: 21, but there are only 20 training images per process"):
        data.train_dataloader()


def test_a_source_smaller_than_what_the_model_sees_is_refused(source):
    with pytest.raises(UsageError, match=r"data.source_size: 24 is less than model.image_size 32.* give 32 or more"):
        make(source, image_size=32, source_size=24)


def test_a_slip_of_the_keyboard_starts_no_million_processes(tmp_path):
    photos = make_photos(tmp_path / "photos", train=2, val=1, test=0)
    with pytest.raises(UsageError, match=r"data\.num_workers: 1000000; this machine takes at most \d+ "):
        FineGrainedData(ImageFolder(str(photos)), num_workers=1_000_000)
    assert FineGrainedData(ImageFolder(str(photos)), num_workers=64).num_workers == 64


def test_vectors_take_the_place_of_images_in_the_same_order(source):
    data = make(source, val_fraction=0.25)
    images = {"train": one_epoch(data.train_dataloader(), 1), "val": list(data.val_dataloader())}
    for split in images:
        data.remember(split, torch.arange(len(data.records(split))).float()[:, None].expand(-1, 3))
    vectors = {"train": one_epoch(data.train_dataloader(), 1), "val": list(data.val_dataloader())}
    for split, batches in images.items():
        for batch, wanted in zip(vectors[split], batches, strict=True):
            assert batch.index.tolist() == wanted.index.tolist() and batch.label.tolist() == wanted.label.tolist()
            assert batch.image.tolist() == [[i] * 3 for i in wanted.index.tolist()]
            assert batch.label.dtype == wanted.label.dtype and batch.view.shape == wanted.view.shape
    assert next(iter(data.whole_split("val"))).image.ndim == 4  # what is asked beside the training sees images
    with pytest.raises(ValueError, match="2 vectors for"):
        data.remember("train", torch.zeros(2, 3))


def test_without_augmentation_training_sees_what_evaluation_sees(source):
    data = make(source, val_fraction=0, augmentation=Augmentation(off=True))
    batch = one_epoch(data.train_dataloader(), 3)[0]
    assert not data.is_random and make(source).is_random
    shown = next(iter(data.whole_split("train", batch.index.tolist())))
    assert torch.equal(batch.image, shown.image) and torch.equal(batch.view, shown.view)


def test_phases_decide_what_the_loader_draws_and_never_how_much(source, tmp_path):
    plain = make(source, val_fraction=0)
    records = plain.records("train")
    stages = ["clean" if i % 4 else "noisy" for i in range(len(records))]
    rows = [[records.relative_path(i), records.relative_path(i).split("/")[-2], stages[i]] for i in range(len(records))]
    with (tmp_path / "stages.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["path", "label", "stage"], *rows])
    data = make(source, val_fraction=0, stages=str(tmp_path / "stages.csv"))
    assert [batch.index.tolist() for batch in one_epoch(data.train_dataloader())] == [
        batch.index.tolist() for batch in one_epoch(plain.train_dataloader())
    ]  # a table alone changes nothing
    data.follow([Drawn(["noisy"]), Drawn(None, "class_balanced"), Drawn()].__getitem__)
    loader = data.train_dataloader()
    assert len(loader) == len(plain.train_dataloader()) == 5
    drawn = [torch.cat([batch.index for batch in one_epoch(loader, epoch)]) for epoch in range(3)]
    assert {stages[i] for i in drawn[0].tolist()} == {"noisy"}
    assert sorted(drawn[2].tolist()) == list(range(40)) and len(set(drawn[1].tolist())) < 40
    orders = []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        orders.append(loader.state_dict()["order"])
    assert [order["data.balance"] for order in orders] == ["uniform", "class_balanced", "uniform"]
    assert [order.get("drawn from", "")[:8] for order in orders] == ["10 noisy", "", ""]


def test_a_loader_of_other_stages_knows_that_the_order_has_changed(source, tmp_path):
    def loader(first):
        data = make(source, val_fraction=0)
        data._stages = Stages(np.array([i < first for i in range(40)], dtype=np.int8), "stages.csv")
        data.follow([Drawn(1), Drawn(2)].__getitem__)
        return data.train_dataloader()

    before = loader(10).state_dict()
    assert loader(10).changed(before) == {}
    assert loader(12).changed(before).keys() == {"drawn from"}
    plain = make(source, val_fraction=0).train_dataloader().state_dict()
    assert loader(10).changed(plain).keys() == {"drawn from"}  # nothing was said of it before


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        (Drawn(["clean"]), "^subsets: data.stages names no table of stages; fgvc curriculum writes one$"),
        (Drawn(2), "^subsets: data.stages names no"),
    ],
)
def test_stages_are_not_drawn_without_a_table(source, drawn, said):
    with pytest.raises(UsageError, match=said):
        make(source).check_drawn(drawn)
    make(source).check_drawn(Drawn(None, "sqrt"))


def test_each_image_has_the_weight_of_its_stage(source):
    data = make(source, val_fraction=0, stages="stages.csv", stage_weights=[1, 0.5, 0.25])
    data._stages = Stages(np.array([0, 1, 2, -1] * 10, dtype=np.int8), "stages.csv")
    assert data.loss_weights.tolist() == [1, 0.5, 0.25, 1] * 10
    data._stage_weights = [0.5, 0.5, 0.5]
    assert data.loss_weights is None
    assert make(source).loss_weights is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"stage_weights": [1, 1, 1]}, "stage_weights: given, but data.stages names no table"),
        ({"stages": "s.csv", "stage_weights": [1, 0.5]}, r"stage_weights: \[1, 0.5\]; give 3 numbers above 0"),
        ({"stages": "s.csv", "stage_weights": [1, 0.5, 0]}, "give 3 numbers above 0, for clean, noisy, highly_noisy"),
        ({"stages": "s.csv", "stage_weights": [1, float("nan"), 1]}, "give 3 numbers above 0"),
    ],
)
def test_weights_that_make_no_sense_are_refused(source, settings, said):
    with pytest.raises(UsageError, match=said):
        make(source, **settings)


def test_a_replaced_image_is_of_the_same_stage(source, tmp_path):
    """An image of the first stage cannot be read: what is shown for it is of this stage, in whatever epoch."""
    data = make(source, val_fraction=0, on_bad_image="skip", stages="stages.csv")
    data._stages = Stages(np.array([0] * 4 + [1] * 36, dtype=np.int8), "stages.csv")
    dataset = data.train_dataloader().dataset
    for epoch in range(12):
        shown = list(itertools.islice(dataset._candidates(2, (0, epoch, 2)), 6))
        assert shown[0] == 2 and set(shown[1:]) <= {0, 1, 2, 3}
    assert len({tuple(dataset._candidates(2, (0, epoch, 2))) for epoch in range(12)}) == 12


def test_noise_is_the_same_each_time_it_is_made_and_reaches_the_batches(source):
    once, again = (make(source, val_fraction=0.2, noise=Noise("uniform", 0.5, seed=2)) for _ in range(2))
    clean = make(source, val_fraction=0.2)
    assert (once.records("train").labels == again.records("train").labels).all()
    assert names(once.records("train")) == names(clean.records("train"))
    assert (once.records("train").labels != clean.records("train").labels).sum() == 16
    assert (once.records("val").labels == clean.records("val").labels).all()
    for batch in one_epoch(once.train_dataloader()):
        assert batch.label.tolist() == once.records("train").labels[batch.index].tolist()
    assert once.class_counts.tolist() == np.bincount(once.records("train").labels, minlength=3).tolist()
    assert (once.of_source().records("train").labels == clean.records("train").labels).all()


def test_annotations_follow_their_photographs_when_others_are_left_out(tmp_path):
    root = make_fake_cub(tmp_path)
    whole = FineGrainedData(CUB(root=str(root)), val_fraction=0)
    paths = names(whole.records("train"))
    out = tmp_path / "out.csv"
    out.write_text("path\n" + paths[0] + "\n" + paths[2] + "\n", encoding="utf-8")
    picture(tmp_path / "cars" / "1.jpg", seed=0)
    some = FineGrainedData(
        CUB(root=str(root)), val_fraction=0, exclude=str(out), noise=Noise("strangers", folder=str(tmp_path / "cars"))
    )
    left = names(some.records("train"))
    assert left[:-1] == [path for i, path in enumerate(paths) if i not in (0, 2)]
    for place, path in enumerate(left[:-1]):
        assert some.annotations("train", place) == whole.annotations("train", paths.index(path))
    assert some.annotations("train", len(left) - 1) == Annotations()
    assert some.of_source() is some  # its features are not those of the source
