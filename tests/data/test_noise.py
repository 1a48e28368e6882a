import hashlib
import re

import numpy as np
import pytest

from fgvc.data.noise import Noise, chosen_strangers, draws, flipped, read_pairs, stranger_labels, stranger_leaves
from fgvc.errors import UsageError
from fgvc.taxonomy.tree import Taxonomy

TREE = Taxonomy(
    ("family", "genus", "species"),
    [("F", "A", "a1"), ("F", "A", "a2"), ("F", "A", "a3"), ("F", "B", "b1"), ("G", "C", "c1")],
)
LABELS = np.repeat(np.arange(5, dtype=np.int32), 200)
PATHS = [f"{i:04d}.jpg" for i in range(len(LABELS))]
LEAVES = np.arange(5)


def noisy(labels=LABELS, paths=PATHS, leaves=LEAVES, **settings):
    return flipped(labels, paths, TREE, Noise(**{"share": 0.4, **settings}).check(), leaves)


def test_a_draw_is_the_hash_of_its_words():
    digest = hashlib.blake2b(b"chosen\x007\0x/y.jpg", digest_size=8).digest()
    assert draws(["x/y.jpg"], 7, "chosen").tolist() == [int.from_bytes(digest, "big")]


def test_uniform_noise_changes_exactly_the_share_to_every_other_class_alike():
    wrong = noisy(kind="uniform")
    changed = wrong != LABELS
    assert changed.sum() == 400
    table = np.zeros((5, 5), dtype=int)
    np.add.at(table, (LABELS[changed], wrong[changed]), 1)
    assert (np.diag(table) == 0).all()
    off = table[~np.eye(5, dtype=bool)]
    # 400 draws over 20 cells: chi-squared of 19 degrees of freedom exceeds 43.8 once in a thousand seeds
    assert ((off - 20.0) ** 2 / 20).sum() < 43.8
    assert table.sum(axis=1).min() > 50  # each class loses about 80


def test_relatives_stay_in_the_genus_then_the_family_then_anywhere():
    wrong = noisy(kind="relatives", share=1.0)
    assert (wrong != LABELS).all()
    assert set(wrong[LABELS == 0]) == {1, 2}  # the genus A
    assert set(wrong[LABELS == 3]) == {0, 1, 2}  # B has one species: the family F
    assert set(wrong[LABELS == 4]) == {0, 1, 2, 3}  # G has one species: the whole tree


def test_a_class_without_training_photographs_is_nobodys_wrong_label():
    wrong = noisy(kind="relatives", share=1.0, leaves=np.array([0, 1, 3, 4]))
    assert set(wrong[LABELS == 0]) == {1}


def test_noise_is_a_function_of_path_and_seed_alone():
    order = np.random.default_rng(0).permutation(len(LABELS))
    shuffled = noisy(LABELS[order], [PATHS[i] for i in order], kind="uniform", seed=3)
    assert (shuffled == noisy(kind="uniform", seed=3)[order]).all()
    assert (noisy(kind="uniform", seed=4) != noisy(kind="uniform", seed=3)).any()


def test_labels_of_inner_nodes_and_unknown_ones_stay_and_do_not_count():
    labels = LABELS.copy()
    labels[:100], labels[100:200] = -1, TREE.find("A")
    wrong = noisy(labels, kind="uniform", share=0.5)
    assert (wrong[:200] == labels[:200]).all()
    assert (wrong != labels).sum() == 400


def test_confusion_follows_the_weights_of_a_table(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("label,given,times\na1,b1,3\na1,c1,1\na2,a2,9\nb1,a1,0\n", encoding="utf-8")
    wrong = noisy(kind="confusion", share=1.0, pairs=str(table))
    assert (wrong[LABELS > 0] == LABELS[LABELS > 0]).all()  # nothing that they are confused with
    counts = np.bincount(wrong[LABELS == 0], minlength=5)
    assert counts[[0, 1, 2]].sum() == 0
    assert abs(counts[3] - 150) < 20  # three of four; the deviation is 6
    assert noisy(kind="confusion", share=0.25, pairs=str(table))[LABELS == 0].tolist().count(0) == 150


def test_confusion_of_a_run_counts_its_wrong_answers(tmp_path):
    table = tmp_path / "predictions_test.csv"
    head = "path,genus_true,genus_pred,species_true,species_pred,species_score,score\n"
    rows = ["1,A,B,a1,b1,1,1", "2,A,B,a1,b1,1,1", "3,A,A,a1,a2,1,1", "4,A,A,a1,a1,1,1", "5,A,A,,a1,1,1"]
    table.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    found = read_pairs(str(table), TREE)
    assert set(found) == {0}
    assert found[0].leaves.tolist() == [1, 3]
    assert found[0].weights.tolist() == [1, 2]


def test_strangers_classes_are_named_at_any_level_or_by_number():
    assert stranger_leaves(Noise("strangers", classes=["B"]), TREE).tolist() == [False, False, False, True, False]
    assert stranger_leaves(Noise("strangers", classes=["2-3", "G"]), TREE).tolist() == [False, True, True, False, True]


def test_the_share_of_strangers_is_of_all_that_result():
    assert chosen_strangers(PATHS[:100], 200, Noise("strangers", share=0.2)).sum() == 50  # 50 of 250
    assert chosen_strangers(PATHS[:100], 200, Noise("strangers")).sum() == 100


def test_strangers_are_given_every_class_that_is_left():
    labels = stranger_labels(PATHS, 0, np.array([1, 4]))
    assert set(labels) == {1, 4}
    assert abs((labels == 1).mean() - 0.5) < 0.06


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"kind": "unifrom", "share": 0.1}, "data.noise.kind: 'unifrom'; it is one of uniform"),
        ({"kind": "uniform"}, "data.noise.share: missing"),
        ({"kind": "uniform", "share": 1.5}, "data.noise.share: 1.5; it must be"),
        ({"kind": "strangers", "share": 1.0, "folder": "x"}, "data.noise.share: 1; strangers"),
        ({"kind": "uniform", "share": 0.1, "seed": -1}, "data.noise.seed: -1"),
        ({"kind": "confusion", "share": 0.1}, "data.noise.pairs: goes with kind confusion"),
        ({"kind": "uniform", "share": 0.1, "pairs": "x"}, "data.noise.pairs: goes with kind confusion"),
        ({"kind": "strangers"}, "data.noise.classes, data.noise.folder: one of them"),
        ({"kind": "strangers", "classes": ["a1"], "folder": "x"}, "data.noise.classes, data.noise.folder: one of"),
        ({"kind": "uniform", "share": 0.1, "folder": "x"}, "data.noise.classes, data.noise.folder: one of them"),
        ({"kind": "strangers", "folder": "x", "val": True}, "data.noise.val: true, but"),
    ],
)
def test_keys_that_make_no_sense_are_refused(keys, told):
    with pytest.raises(UsageError, match=re.escape(told)):
        Noise(**keys).check()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("label,given\na1,zz\n", "unknown class 'zz'"),
        ("label,given\na1,B\n", "'B' is no species"),
        ("label,given,times\na1,b1,x\n", "row 2: times 'x'"),
        ("label,given,times\na1,b1,-1\n", "row 2: times '-1'"),
        ("label\na1\n", "no column 'given'"),
    ],
)
def test_damaged_pairs_are_refused(tmp_path, text, told):
    table = tmp_path / "pairs.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape(told)):
        read_pairs(str(table), TREE)


def test_what_cannot_be_made_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no training label has another class"):
        noisy(leaves=np.array([0]), labels=LABELS[:200], paths=PATHS[:200], kind="uniform")
    with pytest.raises(UsageError, match=r"give at most 0\.3333, or more strangers"):
        chosen_strangers(PATHS[:100], 200, Noise("strangers", share=0.5))
    with pytest.raises(UsageError, match="numbers 1 to 5"):
        stranger_leaves(Noise("strangers", classes=["4-9"]), TREE)
    with pytest.raises(UsageError, match=r"data\.noise\.classes: unknown class 'q'"):
        stranger_leaves(Noise("strangers", classes=["q"]), TREE)
    with pytest.raises(UsageError, match="all classes; leave some"):
        stranger_leaves(Noise("strangers", classes=["F", "G"]), TREE)
    with pytest.raises(UsageError, match="no class with training photographs is left"):
        stranger_labels(PATHS, 0, np.array([], dtype=int))
