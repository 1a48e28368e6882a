import math

import numpy as np
import pytest

from fgvc.features.labels.answered import disputed
from fgvc.features.labels.confident import RULES
from fgvc.features.labels.suspects import HEAD, suspects, table, typical
from fgvc.files.answer_table import Answers
from fgvc.taxonomy.tree import Taxonomy

TREE = Taxonomy(
    ("order", "family", "genus", "species"),
    [("O", "F", "A", "a1"), ("O", "F", "A", "a2"), ("O", "F", "B", "b1"), ("O", "G", "C", "c1"), ("P", "H", "D", "d1")],
)


@pytest.fixture
def planted():
    """Return probabilities and labels: 20 of each class surely right, then a genus, a family, an order, a stranger."""
    labels = np.repeat(np.arange(5), 20)
    probabilities = np.full((100, 5), 0.0125)
    probabilities[np.arange(100), labels] = 0.95
    wrong = np.full((5, 5), 0.01)
    for row, true in enumerate([1, 2, 3, 4]):
        wrong[row, true] = 0.96
    wrong[4] = [0.01, 0.24, 0.25, 0.25, 0.25]
    return np.concatenate([probabilities, wrong]), np.concatenate([labels, np.zeros(5, dtype=int)])


def test_kinds_follow_the_tree_and_a_stranger_is_no_class(planted, monkeypatch):
    probabilities, labels = planted
    monkeypatch.setitem(RULES, "last", lambda p, y: np.arange(len(y)) >= 100)
    found = {one.place: one for one in suspects(probabilities, labels, TREE, "last")}
    assert [found[place].kind for place in range(100, 105)] == ["relative", "relative", "far", "far", "stranger"]
    assert [found[place].ranks_apart for place in range(100, 104)] == [1, 2, 3, 4]
    assert [found[place].ancestor for place in range(100, 104)] == ["A", "F", "O", ""]
    assert [found[place].likely for place in range(100, 104)] == [1, 2, 3, 4]
    assert found[101].suspicion == pytest.approx(math.log(96))
    rows = table(list(found.values()), [f"{i}.jpg" for i in range(105)], TREE)
    assert tuple(rows[0]) == HEAD
    by_path = {row[0]: dict(zip(HEAD, row, strict=True)) for row in rows[1:]}
    assert by_path["104.jpg"]["likely_label"] == ""
    assert by_path["102.jpg"] | {"kind": "", "suspicion": ""} == {
        "path": "102.jpg", "label": "a1", "likely_label": "c1", "kind": "", "suspicion": "", "probability": "0.0100",
        "likely_probability": "0.9600", "margin": "0.9500", "ranks_apart": "3", "common_ancestor": "O",
    }  # fmt: skip


def test_every_rule_finds_planted_labels_the_most_suspicious_first(planted):
    probabilities, labels = planted
    for rule in ("class", "noise_rate", "both"):
        found = suspects(probabilities, labels, TREE, rule)
        assert {100, 101, 102, 103} <= {one.place for one in found} <= set(range(100, 105))
        assert [one.suspicion for one in found] == sorted((one.suspicion for one in found), reverse=True)
    assert suspects(probabilities[:100], labels[:100], TREE, "both") == []


def test_in_a_flat_tree_nobody_has_relatives(planted, monkeypatch):
    monkeypatch.setitem(RULES, "last", lambda p, y: np.arange(len(y)) >= 100)
    flat = Taxonomy.flat(list("abcde"))
    assert {one.kind for one in suspects(*planted, flat, "last")} == {"far", "stranger"}
    two = Taxonomy(("genus", "species"), [("A", "1"), ("A", "2"), ("B", "3"), ("C", "4"), ("D", "5")])
    kinds = {one.place: one.kind for one in suspects(*planted, two, "last")}
    assert [kinds[place] for place in (100, 101)] == ["relative", "far"]


def test_typical_photographs_are_sure_and_unsuspected(planted):
    probabilities, labels = planted
    probabilities[7, 0] = 0.99
    probabilities[9, 0] = 0.995
    assert typical(probabilities, labels, [9], 2)[0] == [7, 0]


def test_a_run_s_answers_are_disputed_where_they_are_as_sure_as_right_ones():
    names = [["A", "B"], ["a1", "a2", "b1"]]
    truth = np.array([[0, 0], [0, 0], [0, 1], [0, 1], [1, 2], [0, 0], [0, 0], [-1, -1]])
    answer = np.array([[0, 0], [0, 0], [0, 1], [0, 0], [1, 2], [1, 2], [1, 2], [0, 0]])
    score = np.array([0.9, 0.7, 0.8, 0.85, 0.6, 0.7, 0.5, 1.0])
    answers = Answers([f"{i}.jpg" for i in range(8)], ("genus", "species"), names, truth, answer, score)
    head, *rows = disputed(answers)
    found = [dict(zip(head, row, strict=True)) for row in rows]
    # a1 is reached from (0.9 + 0.7) / 2 on, b1 from 0.6 on
    assert [row["path"] for row in found] == ["3.jpg", "5.jpg"]
    assert found[0] | {"suspicion": ""} == {
        "path": "3.jpg", "label": "a2", "likely_label": "a1", "kind": "relative", "suspicion": "", "probability": "",
        "likely_probability": "0.8500", "margin": "", "ranks_apart": "1", "common_ancestor": "A",
    }  # fmt: skip
    assert float(found[0]["suspicion"]) == pytest.approx(math.log(0.85 / 0.15), abs=1e-4)
    assert (found[1]["kind"], found[1]["common_ancestor"]) == ("far", "")
