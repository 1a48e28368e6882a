from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.tiny_run import make_new_classes, make_photos

from fgvc.data.datamodule import FineGrainedData
from fgvc.data.episode_batches import EpisodePlan, EpisodeSampler, Kind, held_out_classes
from fgvc.data.episodes import draw
from fgvc.data.sources.image_folder import ImageFolder
from fgvc.data.sources.table import Table
from fgvc.errors import UsageError
from fgvc.images.decoding import ImageError
from fgvc.taxonomy.tree import Taxonomy

LABELS = np.repeat(np.arange(8), [9, 20, 12, 30, 11, 25, 10, 14])
FOUND = [(one == LABELS).nonzero()[0] for one in range(8)]
KIND = Kind(5, 2, 6, 10)
PLAN = EpisodePlan(n_way=2, n_shot=1, n_query=2, per_epoch=4, val_n_way=2, val_n_query=2, val_episodes=3)


def keys(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


def make_data(root, episodes=PLAN, levels=("genus", "species"), **options):
    source = ImageFolder(str(root), levels=list(levels), new_classes=True)
    return FineGrainedData(source, 32, num_workers=0, episodes=episodes, **options)


def test_an_episode_is_support_way_by_way_then_queries_way_by_way():
    rows = np.array([row for _, row in keys(EpisodeSampler(FOUND, KIND, 3, True))]).reshape(10, 40)
    assert len({tuple(row) for row in rows.tolist()}) == 10
    for row in rows:
        assert len(set(row.tolist())) == 40
        ways = LABELS[row[:10:2]]
        assert len(set(ways.tolist())) == 5
        assert LABELS[row].tolist() == [*np.repeat(ways, 2), *np.repeat(ways, 6)]


def test_training_episodes_are_functions_of_seed_epoch_and_number():
    one, two = EpisodeSampler(FOUND, KIND, 3, True), EpisodeSampler(FOUND, KIND, 3, True)
    keys(two, 0)
    assert keys(one, 4) == keys(two, 4)
    assert [row for _, row in keys(one, 4)] != [row for _, row in keys(one, 5)]
    assert keys(one, 4) != keys(EpisodeSampler(FOUND, KIND, 4, True), 4)
    whole = keys(one, 4)
    one.skip = 3 * 40
    assert keys(one, 4) == whole[120:]
    assert keys(one, 4) == whole


def test_an_evaluation_has_the_episodes_of_draw_whatever_the_epoch():
    sampler = EpisodeSampler(FOUND, KIND, 3, False)
    drawn = draw(LABELS, *KIND[:4], seed=3, names="abcdefgh", where="test")
    expected = [
        np.concatenate([s.ravel(), q.ravel()]).tolist() for s, q in zip(drawn.support, drawn.query, strict=True)
    ]
    for epoch in (0, 5):
        found = keys(sampler, epoch)
        assert [row for _, row in found] == [row for rows in expected for row in rows]
        assert {epoch for epoch, _ in found} == {0}


def test_a_batch_is_an_episode_of_the_splits_own_classes(tmp_path):
    data = make_data(make_new_classes(tmp_path))
    names = data.taxonomy.names("species")
    for split, number in {"train": 4, "val": 3, "test": 600}.items():
        loader = getattr(data, f"{split}_dataloader")()
        assert len(loader) == number
        batch = next(iter(loader))
        assert (batch.n_way, batch.n_shot, batch.image.shape) == (2, 1, (6, 3, 32, 32))
        one, other = batch.label[:2].tolist()
        assert batch.label.tolist() == [one, other, one, one, other, other]
        assert all(names[label].startswith(split) for label in (one, other))
        assert data.records(split).labels[batch.index].tolist() == batch.label.tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_pass_is_the_rest_of_its_epoch_and_the_next_one_is_whole(tmp_path, workers):
    root = make_new_classes(tmp_path)

    def loader(workers=0, **options):
        data = make_data(root, **options)
        data.num_workers = workers
        return data.train_dataloader()

    def epoch(found, number):
        found.sampler.set_epoch(number)
        return [(batch.index.tolist(), int(batch.image.sum())) for batch in found]

    straight = [epoch(loader(), number) for number in range(3)]
    stopped = loader(workers)
    stopped.sampler.set_epoch(1)
    some = iter(stopped)
    assert [next(some).index.tolist() for _ in range(3)] == [rows for rows, _ in straight[1][:3]]
    resumed = loader(workers)
    resumed.load_state_dict(stopped.state_dict())
    assert [(batch.index.tolist(), int(batch.image.sum())) for batch in resumed] == straight[1][3:]
    assert epoch(resumed, 2) == straight[2]
    done = loader()
    epoch(done, 0)
    resumed = loader()
    resumed.load_state_dict(done.state_dict())
    assert [batch.index.tolist() for batch in resumed] == [rows for rows, _ in straight[1]]
    other = loader(episodes=EpisodePlan(n_way=3, n_query=2, per_epoch=4))
    assert other.changed(stopped.state_dict()).keys() == {"data.batch_size", "data.episodes", "images of an epoch"}


def test_classes_are_held_out_where_there_is_no_val_split(tmp_path):
    root = make_new_classes(tmp_path / "photos", train=3, val=0, test=2)
    more = make_new_classes(tmp_path / "more", train=3, val=0, test=0)
    for folder in (more / "train").iterdir():
        folder.rename(root / "train" / f"more {folder.name}")
    for seed in range(3):
        data = make_data(root, val_fraction=1 / 3, split_seed=seed)
        train, val = (set(data.records(split).labels.tolist()) for split in ("train", "val"))
        assert (len(train), len(val)) == (4, 2) and not train & val
        assert len(data.records("val")) == 10
        data.val_dataloader()
    assert "val" not in make_data(root, val_fraction=0).splits


def test_held_out_classes_change_with_the_seed_and_not_with_the_order():
    taxonomy = Taxonomy.flat([f"bird {i}" for i in range(20)])
    labels = np.repeat(np.arange(20), 3)
    order = np.random.default_rng(0).permutation(60)
    kinds = [frozenset(labels[held_out_classes(labels, taxonomy, 0.25, seed)].tolist()) for seed in range(8)]
    assert {len(kind) for kind in kinds} == {5} and len(set(kinds)) > 1
    assert np.array_equal(
        held_out_classes(labels[order], taxonomy, 0.25, 1), held_out_classes(labels, taxonomy, 0.25, 1)[order]
    )
    unknown = np.where(labels < 10, labels, -1)
    assert not held_out_classes(unknown, taxonomy, 0.5, 1)[unknown < 0].any()


def test_a_class_that_is_trained_on_is_refused_in_another_split(tmp_path):
    data = make_data(make_photos(tmp_path, train=4, val=4, test=4), levels=["genus", "species"])
    data.train_dataloader()
    told = r"class 'Larus canus' and 2 more of the val split is trained on, too; give splits without"
    with pytest.raises(UsageError, match=told):
        data.val_dataloader()
    with pytest.raises(UsageError, match="of the test split"):
        data.test_dataloader()


def test_inner_nodes_are_in_no_episode(tmp_path):
    root = make_photos(tmp_path, train=4, val=0, test=0)
    rows = ["path,genus,species"]
    for path in root.rglob("*.png"):
        place, (species, genus) = path.relative_to(root), (path.parent.name, path.parents[1].name)
        rows.append(f"{place},{genus},{species if path.stem != 'train3' else ''}")
    (root / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    source = Table(str(root / "list.csv"), test_fraction=0, levels=["genus", "species"])
    data = FineGrainedData(source, 32, num_workers=0, val_fraction=0, episodes=PLAN)
    inner = set(np.flatnonzero(data.records("train").labels >= 3).tolist())
    assert len(inner) == 3
    assert not inner & {row for batch in data.train_dataloader() for row in batch.index.tolist()}


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ({"n_way": 1}, "data.episodes.n_way 1: give 2 or more"),
        ({"val_n_shot": 0}, "data.episodes.val_n_shot 0: give 1 or more"),
        ({"val_n_way": 1}, "data.episodes.val_n_way 1: give 2 or more"),
        ({"per_epoch": 0}, "data.episodes.per_epoch: 0; it must be at least 1"),
        ({"test_episodes": -1}, "data.episodes.test_episodes: -1"),
    ],
)
def test_numbers_that_make_no_episode_are_refused(numbers, told):
    with pytest.raises(UsageError, match=told):
        EpisodePlan(**numbers).check()


def test_too_few_classes_or_images_are_refused_by_their_key(tmp_path):
    root = make_new_classes(tmp_path)
    with pytest.raises(UsageError, match=r"train: 3 classes, but data.episodes.n_way 4 takes"):
        make_data(root, EpisodePlan(4, 1, 2)).train_dataloader()
    with pytest.raises(UsageError, match=r"val: class 'val Larus canus' has 5 .* \(data.episodes.val_n_shot and"):
        make_data(root, EpisodePlan(2, 1, 2, val_n_way=2, val_n_query=5)).val_dataloader()
    for options, told in (({"folds": 2}, "data.folds: 2"), ({"balance": "sqrt"}, "data.balance: sqrt")):
        with pytest.raises(UsageError, match=told):
            make_data(root, **options)


def spoil(root, split, number):
    """Break the first pictures of each class."""
    for folder in sorted((root / split).glob("*/*")):
        for path in sorted(folder.iterdir())[:number]:
            path.write_bytes(b"no picture")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_bad_image_is_replaced_by_another_of_its_class(tmp_path, split):
    root = make_new_classes(tmp_path)
    spoil(root, split, 2)
    data = make_data(root, on_bad_image="skip")
    batches = list(getattr(data, f"{split}_dataloader")())
    for batch in batches:
        assert len(set(batch.index.tolist())) == 6  # none twice
        assert data.records(split).labels[batch.index].tolist() == batch.label.tolist()
        assert batch.label.bincount().max() == 3
    again = list(getattr(make_data(root, on_bad_image="skip"), f"{split}_dataloader")())
    assert all(torch.equal(one.index, two.index) for one, two in zip(batches, again, strict=True))
    bad = {i for i, record in enumerate(data.records(split)) if Path(record.path).read_bytes() == b"no picture"}
    assert not bad & {i for batch in batches for i in batch.index.tolist()}
    assert set(data.unreadable(split)) <= bad and data.unreadable(split)


def test_a_class_without_enough_good_images_stops(tmp_path):
    root = make_new_classes(tmp_path)
    spoil(root, "val", 3)
    with pytest.raises(ImageError, match="val images that were tried can be read"):
        list(make_data(root, on_bad_image="skip").val_dataloader())
    with pytest.raises(ImageError, match="or go on without it"):
        list(make_data(root).val_dataloader())
