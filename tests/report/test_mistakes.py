from collections import Counter

import numpy as np
import torch
from fakes.fake_run import ANSWERS, LEVELS, TREE, lineage, random_rows, rows_of, write

from fgvc.files.answer_table import read_answers
from fgvc.report.mistakes import PAIRS, class_rows, confused_pairs, lineage_of, matrix
from fgvc.taxonomy.relatives import heights
from fgvc.taxonomy.tree import Taxonomy


def read(folder, rows):
    answers = read_answers(write(folder, rows) / "predictions_test.csv")
    return answers, np.flatnonzero(answers.known & ~answers.right).tolist()


def test_pairs_are_ranked_and_know_their_ancestor(tmp_path):
    answers, wrong = read(tmp_path, rows_of())
    pairs = list(confused_pairs(answers, wrong, lineage_of(answers)))
    assert [(pair.truth, pair.answer, pair.times, pair.height, pair.shared) for pair in pairs] == [
        ("herring gull", "common gull", 2, 1, "genus"),
        ("common gull", "kittiwake", 1, 2, "family"),
        ("kittiwake", "house crow", 1, 3, None),
    ]
    # The surest mistake (0.9 of 0.9 and 0.5), and the surest right image of either class.
    assert [(pair.row, pair.truth_row, pair.answer_row) for pair in pairs] == [(3, 0, 4), (5, 4, None), (6, None, 7)]


def test_the_height_is_that_of_the_taxonomy(tmp_path):
    rows = random_rows(400, 64, error=0.8)
    answers, wrong = read(tmp_path, rows)
    taxonomy = Taxonomy(LEVELS, dict.fromkeys(tuple(row[f"{level}_true"] for level in LEVELS) for row in rows))
    leaf = {name: i for i, name in enumerate(taxonomy.names("species"))}
    pairs = list(confused_pairs(answers, wrong, lineage_of(answers)))
    assert len(pairs) == PAIRS
    for pair in pairs:
        expected = int(heights(taxonomy, torch.tensor([leaf[pair.truth]]))[0, leaf[pair.answer]])
        assert pair.height == expected
        assert pair.shared == (None if expected == 3 else LEVELS[2 - expected])
    counts = Counter((row["species_true"], row["species_pred"]) for row in rows)
    assert [pair.times for pair in pairs] == [
        times for _, times in Counter({k: n for k, n in counts.items() if k[0] != k[1]}).most_common(PAIRS)
    ]


def test_what_lies_above_a_class_is_what_its_own_images_say(tmp_path):
    rows = rows_of()
    rows[5] |= {"genus_pred": "Larus"}  # heads that contradict each other: a kittiwake of the genus Larus
    answers, _ = read(tmp_path, rows)
    found = lineage_of(answers)
    for species in TREE:
        codes = found[answers.names[-1].index(species)]
        assert tuple(names[code] for names, code in zip(answers.names, codes, strict=True)) == lineage(species)


def test_a_class_without_images_is_placed_by_the_surest_answer(tmp_path):
    rows = [rows_of()[0] | {"species_pred": "auk", "genus_pred": genus, "species_score": score} for genus, score in
            (("Alca", "0.9"), ("Larus", "0.3"))]  # fmt: skip
    answers, _ = read(tmp_path, rows)
    assert answers.names[1][lineage_of(answers)[answers.names[-1].index("auk"), 1]] == "Alca"


def test_classes_are_counted_the_worst_first(tmp_path):
    answers, wrong = read(tmp_path, rows_of())
    assert [(row.share.name, row.share.right, row.share.total, row.mistake, row.times) for row in
            class_rows(answers, wrong)] == [
        ("kittiwake", 0, 1, "house crow", 1),
        ("herring gull", 2, 4, "common gull", 2),
        ("common gull", 1, 2, "kittiwake", 1),
        ("house crow", 1, 1, "", 0),
    ]  # fmt: skip


def test_classes_of_a_random_table_equal_a_slow_count(tmp_path):
    rows = random_rows(300, 20, error=0.6)
    answers, wrong = read(tmp_path, rows)
    for row in class_rows(answers, wrong):
        mine = [r["species_pred"] for r in rows if r["species_true"] == row.share.name]
        assert (row.share.right, row.share.total) == (mine.count(row.share.name), len(mine))
        others = Counter(name for name in mine if name != row.share.name)
        assert row.times == max(others.values(), default=0)
        assert others[row.mistake] == row.times


def test_nothing_is_confused_where_all_is_right(tmp_path):
    answers, wrong = read(tmp_path, rows_of([ANSWERS[0], ANSWERS[7]]))
    assert wrong == [] and list(confused_pairs(answers, wrong, lineage_of(answers))) == []
    assert [row.mistake for row in class_rows(answers, wrong)] == ["", ""]


def test_a_confusion_matrix_counts_and_keeps_relatives_together(tmp_path):
    answers, _ = read(tmp_path, rows_of())
    found = matrix(answers, lineage_of(answers))
    assert found.level == "species" and found.names == ["house crow", "common gull", "herring gull", "kittiwake"]
    for i, truth in enumerate(found.names):
        for j, answer in enumerate(found.names):
            assert found.counts[i, j] == sum((one, other) == (truth, answer) for one, other, *_ in ANSWERS)


def test_of_more_than_forty_classes_the_matrix_is_of_a_coarser_level_or_of_none(tmp_path):
    for classes, level in ((40, "species"), (41, "genus"), (4 * 41, "family"), (16 * 41, None)):
        answers, _ = read(tmp_path / str(classes), random_rows(2 * classes, classes))
        found = matrix(answers, lineage_of(answers))
        assert (found and found.level) == level
        assert found is None or found.counts.sum() == 2 * classes
