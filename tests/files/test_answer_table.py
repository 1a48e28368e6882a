import math

import numpy as np
import pytest
import torch
from fakes.fake_run import ANSWERS, rows_of, write
from scipy.stats import binomtest
from torchmetrics.functional.classification import binary_calibration_error

from fgvc.confidence.intervals import share, wilson
from fgvc.confidence.reliability import reliability, risk_coverage
from fgvc.errors import UsageError
from fgvc.files.answer_table import read_answers


def read(folder, rows):
    return read_answers(write(folder, rows) / "predictions_test.csv")


# --- the table ---


def test_every_column_is_read(tmp_path):
    rows = rows_of()
    for row in rows:
        row |= {"species_of_crop": "kittiwake", "boxes": "[[0, 0.25, 0.5, 1]]"}
    answers = read(tmp_path, rows)
    assert answers.levels == ("family", "genus", "species")
    assert [answers.leaf(code) for code in answers.truth[:, -1]] == [truth for truth, *_ in ANSWERS]
    assert [answers.leaf(code) for code in answers.answer[:, -1]] == [answer for _, answer, *_ in ANSWERS]
    assert [answers.names[1][code] for code in answers.truth[:, 1]] == ["Larus"] * 6 + ["Rissa", "Corvus"]
    assert answers.score.tolist() == [score for *_, score, _ in ANSWERS]
    assert answers.confidence.tolist() == [calibrated for *_, calibrated in ANSWERS]
    assert answers.right.tolist() == [truth == answer for truth, answer, *_ in ANSWERS]
    assert [answers.leaf(code) for code in answers.views["crop"]] == ["kittiwake"] * 8
    assert answers.boxes_of(3) == [(0, 0.25, 0.5, 1)]
    assert answers.rising == sorted(range(8), key=lambda row: ANSWERS[row][3])


def test_an_older_table_has_the_score_of_the_network_alone(tmp_path):
    rows = [{key: cell for key, cell in row.items() if not key.endswith("_score")} for row in rows_of()]
    answers = read(tmp_path, rows)
    assert answers.calibrated is None and answers.boxes is None and answers.views == {}
    assert answers.confidence.tolist() == [score for *_, score, _ in ANSWERS]
    assert answers.boxes_of(0) == []


def test_an_image_of_unknown_species_is_neither_right_nor_wrong(tmp_path):
    rows = rows_of()
    rows[0]["species_true"] = ""
    answers = read(tmp_path, rows)
    assert answers.known.tolist() == [False] + [True] * 7
    assert not answers.right[0]
    assert answers.leaf(answers.truth[0, -1]) == ""
    assert share("genus", answers.truth[:, 1], answers.answer[:, 1]).total == 8
    assert share("species", answers.truth[:, 2], answers.answer[:, 2])[1:] == (3, 7)


@pytest.mark.parametrize("cell", ["", "nothing", "[1, 2]", "[[1, 2]]", '{"a": 1}', "[[0, 0, NaN, 1]]", "null"])
def test_boxes_that_are_none_are_no_boxes(tmp_path, cell):
    assert read(tmp_path, [row | {"boxes": cell} for row in rows_of()]).boxes_of(0) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no answers in it"),
        ("path,species_true,species_pred,score\n", "no answers in it"),
        ("path,label\na.png,gull\n", "no columns path, <level>_true and <level>_pred"),
        ("species_true,species_pred\na,b\n", "no columns path"),
        ("path,species_true,species_pred\na.png,gull\n", "row 2 has 2 cells and not 3"),
    ],
)
def test_a_table_that_is_none_is_refused_in_one_line(tmp_path, text, words):
    path = tmp_path / "predictions_test.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match="run `fgvc test") as error:
        read_answers(path)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_names_may_hold_anything(tmp_path):
    rows = rows_of()
    rows[0] |= {"path": 'a,"b"\n.png', "species_true": '<i>"Übergull", & co'}
    answers = read(tmp_path, rows)
    assert answers.paths[0] == 'a,"b"\n.png'
    assert answers.leaf(answers.truth[0, -1]) == '<i>"Übergull", & co'


# --- the numbers ---


@pytest.mark.parametrize(("right", "total"), [(0, 1), (1, 1), (3, 7), (780, 1194), (0, 40), (9999, 10_000)])
def test_the_interval_is_scipys(right, total):
    expected = binomtest(right, total).proportion_ci(0.95, method="wilson")
    assert wilson(right, total) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_of_no_image_nothing_is_known():
    assert wilson(0, 0) == (0, 1)
    nothing = np.array([], dtype=np.int64)
    assert math.isnan(share("species", nothing, nothing).value)


@pytest.mark.parametrize("images", [1, 7, 500])
def test_the_calibration_error_is_torchmetrics(images):
    rng = np.random.default_rng(images)
    confidence = rng.random(images).clip(0.01, 0.99)
    right = rng.random(images) < confidence**2
    found = reliability(confidence, right)
    # torchmetrics takes the probability of "yes"; with answers that are always "yes" it is the confidence.
    expected = binary_calibration_error(
        torch.from_numpy(confidence), torch.from_numpy(right.astype(np.int64)), n_bins=15, norm="l1"
    )
    assert found.ece == pytest.approx(float(expected), abs=1e-6)
    assert found.counts.sum() == images
    for b, count in enumerate(found.counts):
        inside = [i for i in range(images) if b / 15 <= confidence[i] < (b + 1) / 15]
        assert count == len(inside)
        if inside:
            assert found.confidence[b] == pytest.approx(np.mean(confidence[inside]))
            assert found.accuracy[b] == pytest.approx(np.mean(right[inside]))
        else:
            assert math.isnan(found.accuracy[b])


def test_probabilities_of_0_and_1_lie_in_the_outer_bins():
    found = reliability(np.array([0.0, 1.0, 1.0]), np.array([False, True, False]), bins=4)
    assert found.counts.tolist() == [1, 0, 0, 2]
    assert found.ece == pytest.approx(2 / 3 * 0.5)


def test_the_risk_is_the_share_of_mistakes_among_the_surest():
    rng = np.random.default_rng(0)
    confidence, right = rng.random(60), rng.random(60) < 0.7
    found = risk_coverage(confidence, right)
    surest = sorted(range(60), key=lambda i: -confidence[i])
    expected = [sum(not right[i] for i in surest[:n]) / n for n in range(1, 61)]
    assert found.risk.tolist() == pytest.approx(expected)
    assert found.aurc == pytest.approx(sum(expected) / 60)
    good = sorted(right, reverse=True)
    assert found.best.tolist() == pytest.approx([sum(not one for one in good[:n]) / n for n in range(1, 61)])


def test_the_order_of_equally_sure_images_does_not_matter():
    confidence = np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.1])
    right = np.array([True, False, False, True, True, False])
    found = risk_coverage(confidence, right)
    turned = risk_coverage(confidence[::-1].copy(), right[::-1].copy())
    assert found.risk.tolist() == pytest.approx(turned.risk.tolist())
    # Of the four in the middle two are wrong: half a mistake for each.
    assert found.risk.tolist() == pytest.approx([0, 0.5 / 2, 1 / 3, 1.5 / 4, 2 / 5, 3 / 6])
