import statistics
import time

import numpy as np
import pytest
from fakes.ragged_trees import ragged_tree
from fakes.tiny_model import TAXONOMY

from fgvc.data.inspection.stats import (
    class_counts,
    class_rows,
    coarse_labels,
    extremes,
    level_counts,
    node_counts,
    table,
    to_plain,
)
from fgvc.taxonomy.tree import Taxonomy


def labels_of(*names):
    return np.array([TAXONOMY.find(name) if name else -1 for name in names], dtype=np.int32)


TRAIN = labels_of(*["Siskin"] * 6, *["Barn Owl"] * 2, "Strix", "Owls", "")
SPLITS = {"train": TRAIN, "test": labels_of("Siskin")}


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_a_slow_loop(seed):
    taxonomy, _ = ragged_tree(seed)
    labels = np.random.default_rng(seed).integers(-1, taxonomy.num_nodes, 60).astype(np.int32)
    nodes = node_counts(labels, taxonomy)
    for level in taxonomy.levels:
        depth = taxonomy.depth(level)
        known = [taxonomy.path(label)[: depth + 1] for label in labels.tolist() if label >= 0]
        known = [path for path in known if len(path) == depth + 1]
        paths = [taxonomy.path(taxonomy.node(level, k)) for k in range(taxonomy.size(level))]
        counts = [known.count(path) for path in paths]
        assert class_counts(nodes, taxonomy, level).tolist() == counts
        some = [count for count in counts if count]
        found = level_counts(nodes, taxonomy, level)
        assert found == (len(some), len(paths), len(known), min(some), statistics.median(some), max(some))
        assert found.imbalance == max(some) / min(some)


def test_a_split_without_images_has_no_spread():
    found = level_counts(node_counts(labels_of(), TAXONOMY), TAXONOMY, "species")
    assert found == (0, 5, 0, 0, 0.0, 0) and found.imbalance is None


def test_the_largest_and_the_smallest_classes_are_no_class_twice():
    taxonomy = Taxonomy.flat([f"c{i}" for i in range(8)])
    labels = np.repeat(np.arange(8), [3, 9, 0, 1, 4, 4, 2, 7]).astype(np.int32)
    largest, smallest = extremes(node_counts(labels, taxonomy), taxonomy)
    assert list(largest.items()) == [("c1", 9), ("c7", 7), ("c4", 4), ("c5", 4), ("c0", 3)]
    assert list(smallest.items()) == [("c3", 1), ("c6", 2)]


def test_the_table_is_aligned_and_says_what_is_known():
    assert list(table(to_plain(SPLITS, TAXONOMY))) == [
        "split     images  level       known         classes  least/median/most per class   ratio",
        "train         11  family    90.91 %          2 of 2                    4 / 5 / 6     1.5",
        "                  genus     81.82 %          3 of 4                    1 / 2 / 6     6.0",
        "                  species   72.73 %          2 of 5                    2 / 4 / 6     3.0",
        "test           1  family   100.00 %          1 of 2                    1 / 1 / 1     1.0",
        "                  genus    100.00 %          1 of 4                    1 / 1 / 1     1.0",
        "                  species  100.00 %          1 of 5                    1 / 1 / 1     1.0",
        "largest in train: Siskin 6, Barn Owl 2",
    ]
    assert list(table(to_plain({"train": labels_of()}, Taxonomy.flat("ab")))) == [
        "split     images  level     known         classes  least/median/most per class   ratio",
        "train          0  class    0.00 %          0 of 2                    0 / 0 / 0       -",
    ]


def test_the_plain_numbers_hold_the_same():
    plain = to_plain(SPLITS, TAXONOMY)
    assert list(plain) == ["train", "test"]
    assert (plain["train"]["images"], plain["train"]["unlabelled"]) == (11, 1)
    genus = {"classes": 3, "of": 4, "known": 9, "least": 1, "median": 2.0, "most": 6, "imbalance": 6.0}
    assert plain["train"]["levels"]["genus"] == genus
    assert plain["train"]["smallest"] == {}


def test_every_class_has_a_row():
    rows = list(class_rows(SPLITS, TAXONOMY))
    assert rows[0] == ["level", "class", "train", "test"]
    assert rows[1:4] == [["family", "Finches", 6, 1], ["family", "Owls", 4, 0], ["genus", "Carduelis", 6, 1]]
    assert len(rows) == 1 + 2 + 4 + 5


def test_labels_that_end_above_the_leaves_are_told():
    assert list(coarse_labels("train", TRAIN, TAXONOMY)) == [
        "note: 1 of 11 labels of train end at family",
        "note: 1 of 11 labels of train end at genus",
    ]
    assert list(coarse_labels("test", SPLITS["test"], TAXONOMY)) == []


def test_millions_are_counted_in_a_moment():
    taxonomy = Taxonomy(["a", "b"], [(f"a{i % 100}", f"b{i}") for i in range(10_000)])
    labels = np.random.default_rng(0).integers(-1, taxonomy.num_nodes, 2_700_000).astype(np.int32)
    before = time.process_time()
    plain = to_plain({"train": labels}, taxonomy)
    assert plain["train"]["levels"]["a"]["known"] == (labels >= 0).sum()
    assert time.process_time() - before < 2  # 0.02 s; a loop over the labels takes longer
