"""Generated birds as a data source."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import yaml

from fgvc.data.birds.species import MARKS
from fgvc.data.sources import generated_birds
from fgvc.data.sources.generated_birds import GeneratedBirds
from fgvc.errors import UsageError
from fgvc.images.decoding import decode

TINY = {
    "num_orders": 2,
    "families_per_order": 1,
    "genera_per_family": 2,
    "species_per_genus": 2,
    "train_per_class": 3,
    "val_per_class": 1,
    "test_per_class": 2,
    "image_size": 80,
}


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    root = tmp_path_factory.mktemp("cache")
    return GeneratedBirds(**TINY, root=str(root))


def test_the_tree_and_the_splits_have_the_asked_sizes(birds):
    tree = birds.taxonomy
    assert [(level, tree.size(level)) for level in tree.levels] == [
        ("order", 2),
        ("family", 2),
        ("genus", 4),
        ("species", 8),
    ]
    assert tuple(birds.splits) == ("train", "val", "test")
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        assert np.bincount(birds.records(split).labels).tolist() == [count] * 8


def test_pictures_decode_to_their_size_and_lie_in_the_folder_of_their_species(birds):
    for split in birds.splits:
        for record in birds.records(split):
            assert decode(record.path).shape == (80, 80, 3)
            assert birds.taxonomy.path(record.label)[-1].replace(" ", "_") in record.path


def test_a_record_shows_the_species_of_its_label(birds):
    """Independent of the labels' order: the mark lies nearer to the body part in the name than to most others."""
    parts = {word: part for part, word in MARKS.items()}
    ranks = []
    for index, record in enumerate(birds.records("train")):
        known = birds.annotations("train", index)
        part = parts[birds.taxonomy.path(record.label)[-1].split()[0].split("-")[1]]
        x1, y1, x2, y2 = known.boxes["mark"]
        centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
        distance = {name: np.linalg.norm(centre - point) for name, point in known.points.items()}
        if part in distance:
            ranks.append(sorted(distance, key=distance.__getitem__).index(part))
    assert len(ranks) > 12 and np.mean(np.array(ranks) == 0) > 0.9


def test_annotations_are_fractions_with_the_mark_inside_the_object(birds):
    for split in birds.splits:
        for index in range(len(birds.records(split))):
            known = birds.annotations(split, index)
            x1, y1, x2, y2 = known.boxes["object"]
            mx1, my1, mx2, my2 = known.boxes["mark"]
            slack = 1.5 / 80
            assert 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1
            assert x1 - slack <= mx1 < mx2 <= x2 + slack and y1 - slack <= my1 < my2 <= y2 + slack
            assert known.points and all(0 <= value <= 1 for point in known.points.values() for value in point)


def test_a_second_source_reads_what_the_first_one_painted(birds, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("painted again")

    monkeypatch.setattr(generated_birds, "write_once", refuse)
    again = GeneratedBirds(**TINY, root=str(birds.folder.parent))
    assert list(again.records("test")) == list(birds.records("test"))


def test_more_pictures_leave_the_first_ones_as_they_are_in_another_folder(birds):
    more = GeneratedBirds(**(TINY | {"train_per_class": 4, "val_per_class": 0}), root=str(birds.folder.parent))
    assert more.folder != birds.folder and tuple(more.splits) == ("train", "test")
    first = list(birds.records("train"))
    for old, new in zip(first, list(more.records("train"))[: len(first)], strict=True):
        assert Path(old.path).read_bytes() == Path(new.path).read_bytes() and old.label == new.label


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 1024}, "image_size is 1024; choose 64 to 512"),
        ({"mark_size": 0.5}, "mark_size is 0.5; choose 0.01 to 0.1"),
        ({"mark_size": 0.02, "image_size": 80}, "pixels of the mark.* is 1.6; choose 2 to"),
        ({"train_per_class": 0}, "train_per_class is 0; choose 1 to"),
        ({"test_per_class": -1}, "test_per_class is -1; choose 0 to"),
        ({"seed": -1}, "seed is -1; choose 0 to"),
        ({"num_processes": 0}, "num_processes is 0; choose 1 to"),
        ({"num_orders": 9}, "num_orders is 9; choose 1 to 4"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_painted(tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        GeneratedBirds(**arguments, root=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_yaml_states_the_default_of_every_argument():
    text = (Path(__file__).parents[3] / "configs" / "data" / "generated_birds.yaml").read_text(encoding="utf-8")
    source = yaml.safe_load(text)["data"]["source"]
    defaults = {name: one.default for name, one in inspect.signature(GeneratedBirds).parameters.items()}
    assert source["class_path"] == "GeneratedBirds"
    assert source["init_args"] | {"num_processes": None} == defaults
    assert all("#" in line for line in text.splitlines()[5:])


def test_a_split_that_is_not_there_is_named(birds):
    with pytest.raises(UsageError, match="no 'valid' split; there are"):
        birds.records("valid")
