import csv
import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from benchmarks.accuracy import vouched
from fgvc.confidence.vouching import GRID

TREE = [(f"order{s // 6}", f"genus{s // 2}", f"species{s}") for s in range(12)]
LEVELS = ("order", "genus", "species")
HEADER = ["path", *(f"{level}_{kind}" for level in LEVELS for kind in ("true", "pred"))]
HEADER += [*(f"{level}_score" for level in LEVELS), "score"]


def guesses(size, seed=0, sure=0.5):
    """(N,) truth, (N,) guess, (N, 3) honest scores: the guess lies in the order, genus, species as often as it says."""
    rng = np.random.default_rng(seed)
    scores = rng.random((size, 1)) ** (sure * np.array([0.1, 0.4, 1]))
    deepest = (rng.random((size, 1)) < scores).sum(axis=1)  # how many levels are right
    truth = rng.integers(12, size=size)
    offset = np.array([6, 2, 1, 0])[deepest]
    guess = np.where(deepest == 2, truth ^ 1, truth // 6 * 6 + (truth % 6 + offset) % 6)
    return truth, np.where(deepest == 0, (truth + 6) % 12, guess), scores


def write(path, truth, guess, scores, plain=None, header=HEADER):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for n, (t, g) in enumerate(zip(truth, guess, strict=True)):
            names = [name for level in range(3) for name in (TREE[t][level], f"head's own {level}")]
            names[-1] = TREE[g][2]
            own = scores[n][2] if plain is None else plain[n]
            writer.writerow([f"{n}.jpg", *names, *(f"{score:.6f}" for score in scores[n]), f"{own:.6f}"])
    return path


def taxonomy(path, leaves=TREE):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([LEVELS, *leaves])
    return path


def test_a_table_knows_what_is_right_at_every_level_of_the_guessed_leaf(tmp_path):
    truth, guess, scores = guesses(300)
    file = write(tmp_path / "p.csv", truth, guess, scores, plain=scores[:, 2] ** 2)
    table = vouched.read_table(file)
    assert table.levels == list(LEVELS)
    right = [[a == b for a, b in zip(TREE[g], TREE[t], strict=True)] for g, t in zip(guess, truth, strict=True)]
    assert table.correct.tolist() == right
    assert (np.diff(table.correct.mean(axis=0)) < -0.05).all()
    assert table.lineage == pytest.approx(scores, abs=1e-6)
    assert table.raw == pytest.approx(scores[:, 2] ** 2, abs=1e-6)
    again = vouched.read_table(file, taxonomy(tmp_path / "t.csv"))
    assert all(np.array_equal(a, b) for a, b in zip(table[1:], again[1:], strict=True))


def test_the_score_of_the_network_has_another_name_in_a_table_of_today(tmp_path):
    truth, guess, scores = guesses(300)
    file = write(tmp_path / "p.csv", truth, guess, scores, scores[:, 2] ** 2, [*HEADER[:-1], "score_uncalibrated"])
    head, *rows = file.read_text().splitlines()
    file.write_text("\n".join([f"{head},score", *(f"{row},0.125" for row in rows)]))
    assert vouched.read_table(file).raw == pytest.approx(scores[:, 2] ** 2, abs=1e-6)


def test_a_guess_that_is_never_the_truth_needs_a_taxonomy(tmp_path):
    file = write(tmp_path / "p.csv", [0, 4], [0, 5], np.full((2, 3), 0.5))
    with pytest.raises(
        vouched.UsageError, match="1 predicted classes have unknown ancestors, first species5; give --t"
    ):
        vouched.read_table(file)
    table = vouched.read_table(file, taxonomy(tmp_path / "t.csv"))
    assert table.correct.tolist() == [[True] * 3, [True, True, False]]
    with pytest.raises(vouched.UsageError, match="give another --taxonomy"):
        vouched.read_table(file, taxonomy(tmp_path / "less.csv", TREE[:5]))


def test_photographs_of_an_unknown_leaf_are_left_out(tmp_path):
    file = write(tmp_path / "p.csv", [0, 1], [0, 1], np.full((2, 3), 0.5))
    file.write_text(file.read_text().replace("head's own 1,species1,", "head's own 1,,", 1))
    assert len(vouched.read_table(file).correct) == 1


def slow_outcome(scores, correct, target, splits, delta, seed):
    """One image and one threshold at a time."""
    rng = np.random.default_rng(seed)
    rows = []

    def answers(images, t):
        passing = [[d for d in range(3) if scores[n, d] >= t] for n in images]
        return [(p[-1], correct[n, p[-1]]) for n, p in zip(images, passing, strict=True) if p]

    for _ in range(splits):
        order = rng.permutation(len(scores))
        half = len(order) // 2
        chosen = None

        def p_value(images, t):
            given = answers(images, t)
            return binom.cdf(sum(not right for _, right in given), len(given), 1 - target)

        pilot, counting = order[:half:2], order[1:half:2]
        best = min(p_value(pilot, t) for t in GRID)
        start = max(t for t in GRID if p_value(pilot, t) <= best * (1 + 1e-12))
        for t in reversed([t for t in GRID if t <= start]):
            if p_value(counting, t) > delta:
                break
            chosen = t
        given = [] if chosen is None else answers(order[half:], chosen)
        right = sum(bool(one) for _, one in given)
        bound = binomtest(right, len(given), alternative="less").proportion_ci(0.95).high if given else 1
        depth = np.mean([d + 1 for d, _ in given]) if given else math.nan
        precision = right / len(given) if given else math.nan
        rows.append((bound < target, chosen is None, len(given) / (len(order) - half), depth, precision))
    return np.nanmean(np.array(rows, dtype=float), axis=0)


@pytest.mark.parametrize("sure", [0.5, 0.1])
def test_outcomes_are_those_of_a_slow_loop(sure):
    truth, guess, scores = guesses(201, sure=sure)
    correct = np.array(
        [[a == b for a, b in zip(TREE[g], TREE[t], strict=True)] for g, t in zip(guess, truth, strict=True)]
    )
    found = vouched.evaluate(scores, correct, [0.8, 0.9], splits=6, delta=0.2, seed=3)
    for target, outcome in zip([0.8, 0.9], found, strict=True):
        assert outcome == pytest.approx(slow_outcome(scores, correct, target, 6, 0.2, 3), nan_ok=True)
    assert found[0].depth > found[1].depth > 1


def test_a_promise_counts_as_broken_where_the_other_half_surely_falls_short(monkeypatch):
    correct = np.zeros((200, 1), dtype=bool)
    correct[:140] = True
    monkeypatch.setattr(vouched, "threshold", lambda counted, target, delta: 0.0)
    sure, unsure = vouched.evaluate(np.ones((200, 1)), correct, [0.95, 0.7], splits=40)
    assert sure.broken == 1 and unsure.broken < 0.2
    assert sure.coverage == 1 and sure.precision == pytest.approx(0.7, abs=0.02)


def test_leaf_only_answers_the_leaf_or_nothing():
    scores = vouched.leaf_only(np.array([0.3, 0.6]), 3)
    assert vouched.summarise(scores, np.ones((2, 3), dtype=bool), 0.5).shares == (0, 0, 0.5)
    assert vouched.summarise(scores, np.ones((2, 3), dtype=bool), 0.0).shares == (0, 0, 1)


def test_the_report_keeps_the_promise_and_shows_that_the_lineage_answers_more(tmp_path, capsys):
    truth, guess, scores = guesses(1200, sure=0.2)
    file = write(tmp_path / "p.csv", truth, guess, scores, plain=scores[:, 2] / 2)
    assert vouched.main([str(file), "--splits", "20", "--targets", "0.85", "0.9"]) == 0
    head, columns, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith(f"{file}: 1200 photographs, 20 random halves (seed 0); species right in ")
    assert columns.split() == ["target", "answer", "broken", "silent", "coverage", "depth", "precision"]
    cells = [line.replace("deepest level", "deepest").replace("leaf, ", "leaf,").split() for line in lines]
    ways = ("deepest", "leaf,calibrated", "leaf,raw")
    assert [(c[0], c[1]) for c in cells] == [(target, way) for target in ("0.85", "0.9") for way in ways]
    assert all(float(c[2].rstrip("%")) <= 10 for c in cells)
    for deepest, leaf, raw in (cells[:3], cells[3:]):
        assert float(deepest[4].rstrip("%")) > float(leaf[4].rstrip("%")) > 0
        assert float(deepest[5]) < 3 and leaf[5:8] == ["3.00", "of", "3"]
        assert float(deepest[8].rstrip("%")) > 100 * float(deepest[0])
        assert (
            abs(float(raw[4].rstrip("%")) - float(leaf[4].rstrip("%"))) < 5
        )  # half of each probability: the same order


def test_a_model_that_is_always_wrong_is_silent(tmp_path, capsys):
    truth = np.arange(60) % 12
    file = write(tmp_path / "p.csv", truth, (truth + 6) % 12, np.full((60, 3), 0.999))
    assert vouched.main([str(file), "--splits", "3", "--targets", "0.8"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[3:] == ["0.0%", "100.0%", "0.0%", "-", "-"]


def test_what_cannot_be_used_is_one_line(tmp_path, capsys):
    file = write(tmp_path / "p.csv", *guesses(200))
    old = write(tmp_path / "old.csv", *guesses(40), header=[*HEADER[:-4], "a", "b", "c", "score"])
    other = tmp_path / "other.csv"
    other.write_text("path,price\n")
    unknown = write(tmp_path / "unknown.csv", [], [], np.zeros((0, 3)))
    text = tmp_path / "text.csv"
    text.write_text(",".join(HEADER) + "\n0.jpg,a,a,b,b,c,c,0.5,0.5,high,0.5\n")
    for arguments, said in (
        ([tmp_path / "none.csv"], "cannot be read (No such file or directory)"),
        ([old], "no column 'order_score'; run `fgvc test` again"),
        ([other], "no answers in it"),
        ([unknown], "no answers in it"),
        ([text], "a score is no number"),
        ([file, "--splits", "0"], "--splits: 0"),
        ([file, "--targets", "95"], "precision: 95.0; it must lie between 0 and 1"),
    ):
        assert vouched.main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert out == "" and said in err and err.count("\n") == 1
