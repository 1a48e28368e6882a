import random
from collections import Counter

import numpy as np
import pytest
from fakes.ragged_trees import ragged_tree
from fakes.tiny_model import TAXONOMY

from fgvc.data.inspection import problems as module
from fgvc.data.inspection.problems import Problem, leaf_counts, name_of, problems, same
from fgvc.data.records import Records
from fgvc.images.decoding import Limits

GENUS = TAXONOMY.find("Strix")
GOLDFINCH, SISKIN, BRAMBLING, TAWNY, BARN = range(5)


@pytest.fixture
def contents(monkeypatch):
    """What is found in each file, in place of reading it: path -> what `look` returns."""
    found = {}

    def answer(work, paths):
        assert work.keywords == {"min_side": 32, "limits": Limits()}
        return (found.get(path, (hash(path) % 2**62 + 1, "", "")) for path in paths)

    monkeypatch.setattr(module, "in_processes", answer)
    return found


def records(**labels):
    return Records([f"{name}.jpg" for name in labels], np.array(list(labels.values()), dtype=np.int32))


def whole(**others):
    """A train split that shows every leaf."""
    return records(**{f"leaf{i}": i for i in range(5)}, **others)


def test_good_data_have_no_problems(contents):
    splits = {"train": whole(up=GENUS), "test": whole(up=TAXONOMY.find("Owls"))}
    splits["test"] = Records([f"test/{i}" for i in range(6)], splits["test"].labels)
    assert list(problems(splits, TAXONOMY)) == []


def test_what_a_file_lacks_is_told_with_its_split_and_label(contents):
    contents |= {"x.jpg": (0, "unreadable", "the file is empty"), "y.jpg": (7, "tiny", "1 x 1 pixels")}
    splits = {"train": whole(x=SISKIN), "test": records(y=GENUS)}
    assert list(problems(splits, TAXONOMY)) == [
        Problem("unreadable", "train", "x.jpg", "Siskin", "the file is empty"),
        Problem("tiny", "test", "y.jpg", "Strix", "1 x 1 pixels"),
    ]


def test_copies_are_told_by_the_first_of_each_kind(contents):
    for name in ("a", "b", "c", "d", "e", "f"):
        contents[f"{name}.jpg"] = (99, "", "")
    splits = {
        "train": whole(a=SISKIN, b=SISKIN, c=TAWNY),
        "val": records(d=SISKIN),
        "test": records(e=-1, f=BARN),
    }
    same_as = "the same content as {} in {}"
    assert list(problems(splits, TAXONOMY)) == [
        Problem("two_labels", "train", "c.jpg", "Tawny Owl", same_as.format("a.jpg", "train, labelled Siskin")),
        Problem("in_two_splits", "val", "d.jpg", "Siskin", same_as.format("a.jpg", "train")),
        Problem("in_two_splits", "test", "e.jpg", "", same_as.format("a.jpg", "train, labelled Siskin")),
        Problem("in_two_splits", "test", "f.jpg", "Barn Owl", same_as.format("a.jpg", "train, labelled Siskin")),
        Problem("two_labels", "test", "f.jpg", "Barn Owl", same_as.format("e.jpg", "test, labelled nothing")),
        Problem("no_label", "test", "e.jpg", "", "the label is -1: nothing is known"),
    ]


def test_one_path_listed_twice_is_called_so(contents):
    splits = {"train": whole(a=SISKIN), "test": records(a=SISKIN)}
    assert list(problems(splits, TAXONOMY)) == [
        Problem("in_two_splits", "test", "a.jpg", "Siskin", "the same path in train")
    ]


def test_unreadable_files_are_no_copies_of_each_other(contents):
    contents |= {"a.jpg": (0, "unreadable", "empty"), "b.jpg": (0, "unreadable", "empty")}
    found = problems({"train": whole(a=0), "test": records(b=1)}, TAXONOMY)
    assert [problem.problem for problem in found] == ["unreadable", "unreadable"]


def test_classes_that_training_never_sees_are_told(contents):
    splits = {"train": records(a=GOLDFINCH, b=BRAMBLING), "val": records(c=SISKIN), "test": records(d=SISKIN, e=SISKIN)}
    assert list(problems(splits, TAXONOMY)) == [
        Problem("class_not_in_train", "train", "", "Siskin", "no training images, but 1 in val, 2 in test"),
        Problem("class_without_images", "train", "", "Tawny Owl", "no images in any split"),
        Problem("class_without_images", "train", "", "Barn Owl", "no images in any split"),
    ]
    assert list(problems({"test": splits["test"]}, TAXONOMY)) == []  # nothing learns


def test_only_the_asked_splits_are_read_but_classes_are_seen_in_all(contents):
    contents["a.jpg"] = (0, "unreadable", "empty")
    splits = {"train": whole(a=-1), "test": records(b=-1)}
    found = list(problems(splits, TAXONOMY, read=["test"]))
    assert found == [Problem("no_label", "test", "b.jpg", "", "the label is -1: nothing is known")]
    assert next(problems({"train": records(), "test": records()}, TAXONOMY, read=[])).label == "Goldfinch"


@pytest.mark.parametrize("seed", range(20))
def test_positions_of_the_same_are_those_of_a_dictionary(seed):
    rng = random.Random(seed)
    drawn = [rng.choice([0, 1, 2**63 + 5, 2**64 - 1, rng.getrandbits(64)]) for _ in range(rng.randrange(40))]
    digests = np.array(drawn, dtype=np.uint64)
    wanted = {}
    for i, digest in enumerate(digests.tolist()):
        wanted.setdefault(digest, []).append(i)
    several = [run for digest, run in wanted.items() if digest and len(run) > 1]
    assert list(same(digests)) == several


@pytest.mark.parametrize("seed", range(5))
def test_an_image_of_a_node_with_one_leaf_below_counts_for_that_leaf(seed):
    taxonomy, leaves = ragged_tree(seed)
    labels = np.random.default_rng(seed).integers(-1, taxonomy.num_nodes, 200).astype(np.int32)
    wanted = Counter()
    for label in labels.tolist():
        path = taxonomy.path(label) if label >= 0 else ("nothing",)
        below = [leaf for leaf in leaves if leaf[: len(path)] == path]
        if len(below) == 1:
            wanted[leaves.index(below[0])] += 1
    assert leaf_counts(labels, taxonomy).tolist() == [wanted[i] for i in range(len(leaves))]


def test_names_are_those_of_the_node_itself():
    assert [name_of(label, TAXONOMY) for label in (-1, 0, GENUS, TAXONOMY.find("Owls"))] == [
        *("", "Goldfinch", "Strix", "Owls")
    ]
