import csv
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmarks.accuracy import compare


def write(path, rows, columns=("path", "genus_true", "genus_pred", "species_true", "species_pred", "score")):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return str(path)


def table(path, species, truth="s", genus=None, start=0):
    """A file in which photograph i is of species `truth` and was called species[i]."""
    genus = genus or ["g"] * len(species)
    pairs = enumerate(zip(genus, species, strict=True), start=start)
    return write(path, [(f"p{i}.jpg", "g", guess, truth, name, "0.5") for i, (guess, name) in pairs])


def right_wrong(*counts):
    """Species named by a model: s (right) and x (wrong) in turns of the given lengths."""
    return [name for count, name in zip(counts, "sx" * len(counts), strict=False) for _ in range(count)]


def run(capsys, *arguments):
    code = compare.main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_a_hand_made_example(tmp_path, capsys):
    # 10 photographs: both right 5, only A 1, only B 3, none 1.
    a = table(tmp_path / "a.csv", right_wrong(6, 4))
    b = table(tmp_path / "b.csv", right_wrong(5, 1, 3, 1))
    code, out, err = run(capsys, a, b)
    assert (code, err) == (0, "")
    assert "level species, 10 photographs, 1 pair\n" in out
    assert "A 60.00%, B 80.00%, B - A +20.00" in out
    # Exact: 2 * (C(4,0) + C(4,1)) / 2^4 = 0.625.
    assert "only A right 1, only B right 3, McNemar's exact p = 0.625" in out
    assert out.endswith("verdict: the interval includes 0\n")


def test_a_clear_difference_excludes_0_in_either_direction(tmp_path, capsys):
    a = table(tmp_path / "a.csv", right_wrong(50, 150))
    b = table(tmp_path / "b.csv", right_wrong(90, 110))
    assert "verdict: the interval excludes 0" in run(capsys, a, b)[1]
    assert "verdict: the interval excludes 0" in run(capsys, b, a)[1]
    assert "B - A = -20.00 points, 95 % interval -2" in run(capsys, b, a)[1]


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 1), (3, 3), (1, 9), (60, 35), (700, 800), (4000, 4100)])
def test_mcnemar_is_scipys_binomial_test(only_a, only_b):
    expected = binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert compare.mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-6)


def test_the_interval_is_that_of_a_slow_bootstrap_and_of_the_normal_formula():
    rng = np.random.default_rng(5)
    difference = rng.choice([-1, -0.5, 0, 0.5, 1], size=600, p=[0.05, 0.1, 0.6, 0.1, 0.15])
    found = compare.bootstrap(difference)
    slow = [np.mean([difference[i] for i in rng.integers(600, size=600)]) for _ in range(1000)]
    error = difference.std() / 600**0.5
    assert found.mean == pytest.approx(difference.mean())
    assert [found.low, found.high] == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.25 * error)
    assert found.low == pytest.approx(difference.mean() - 1.96 * error, abs=0.08 * error)
    assert found.high == pytest.approx(difference.mean() + 1.96 * error, abs=0.08 * error)


def test_the_bootstrap_repeats_with_its_seed():
    difference = np.array([1.0, 0, 0, -1, 1, 0.5])
    assert compare.bootstrap(difference, seed=1) == compare.bootstrap(difference, seed=1)


def test_seeds_are_paired_in_order_and_averaged_per_photograph(tmp_path, capsys):
    a = [table(tmp_path / "a1.csv", right_wrong(2, 2)), table(tmp_path / "a2.csv", right_wrong(1, 3))]
    b = [table(tmp_path / "b1.csv", right_wrong(3, 1)), table(tmp_path / "b2.csv", right_wrong(0, 0, 3, 1))]
    code, out, _ = run(capsys, "--a", *a, "--b", *b)
    assert code == 0
    assert "pair 1: A 50.00%, B 75.00%, B - A +25.00" in out
    assert "pair 2: A 25.00%, B 75.00%, B - A +50.00" in out
    assert "mean:   A 37.50%, B 75.00%" in out
    assert "B - A = +37.50 points" in out


def test_rows_are_paired_by_path_and_not_by_place(tmp_path, capsys):
    rows = [(f"p{i}", "g", "g", "s", "s" if i < 3 else "x", "1") for i in range(8)]
    a, b = write(tmp_path / "a.csv", rows), write(tmp_path / "b.csv", rows[::-1])
    assert "only A right 0, only B right 0, McNemar's exact p = 1" in run(capsys, a, b)[1]


def test_the_finest_level_is_the_default_and_another_can_be_named(tmp_path, capsys):
    a = table(tmp_path / "a.csv", ["s", "s"], genus=["g", "x"])
    b = table(tmp_path / "b.csv", ["s", "x"], genus=["g", "g"])
    assert "level species, 2 photographs, 1 pair\npair 1: A 100.00%, B 50.00%" in run(capsys, a, b)[1]
    assert "level genus, 2 photographs, 1 pair\npair 1: A 50.00%, B 100.00%" in run(capsys, a, b, "--level", "genus")[1]


def test_a_view_of_a_method_can_be_compared(tmp_path, capsys):
    columns = ("path", "s_true", "s_pred", "s_of_scale2", "score")
    rows = [(f"{i}.jpg", "s", "x", "s" if i < 3 else "x", "0.5") for i in range(4)]
    first, other = (write(tmp_path / name, rows, columns) for name in ("A.csv", "B.csv"))
    code, out, _ = run(capsys, first, f"{other}:scale2")
    assert code == 0 and "75.0" in out
    code, _, err = run(capsys, first, f"{other}:scale3")
    assert code == 2 and "no column 's_of_scale3'" in err and "did you mean 's_of_scale2'" in err


def test_photographs_whose_class_is_unknown_are_left_out(tmp_path, capsys):
    rows = [("p1", "g", "g", "s", "s", "1"), ("p2", "g", "g", "", "s", "1")]
    a = write(tmp_path / "a.csv", rows)
    assert "level species, 1 photographs" in run(capsys, a, a)[1]


def error_of(capsys, *arguments):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    return err


def test_different_photographs_are_an_error_that_counts_them(tmp_path, capsys):
    a, b = table(tmp_path / "a.csv", ["s"] * 4), table(tmp_path / "b.csv", ["s"] * 4, start=1)
    error = error_of(capsys, a, b)
    assert "differ in 2 photographs, first p0.jpg (only in" in error
    assert "a.csv)" in error


def test_different_truths_are_an_error(tmp_path, capsys):
    a, b = table(tmp_path / "a.csv", ["s"]), table(tmp_path / "b.csv", ["s"], truth="t")
    assert "p0.jpg is 's' in" in error_of(capsys, a, b)


def test_a_level_that_does_not_exist_is_an_error_with_the_nearest(tmp_path, capsys):
    a = table(tmp_path / "a.csv", ["s"])
    assert "did you mean 'species_true'" in error_of(capsys, a, a, "--level", "specis")


def test_files_that_are_no_predictions_are_errors(tmp_path, capsys):
    a = table(tmp_path / "a.csv", ["s"])
    twice = write(tmp_path / "twice.csv", [("p0.jpg", "g", "g", "s", "s", "1")] * 2)
    other = write(tmp_path / "other.csv", [("p0.jpg", "3")], columns=("path", "price"))
    (tmp_path / "empty.csv").write_text("")
    assert "cannot be read (No such file or directory)" in error_of(capsys, a, str(tmp_path / "none.csv"))
    assert "p0.jpg stands in more than one row" in error_of(capsys, a, twice)
    assert "no column ends in '_pred'" in error_of(capsys, other, a)
    assert "no column ends in '_pred'" in error_of(capsys, str(tmp_path / "empty.csv"), a)
    assert "no row has a value in species_true" in error_of(capsys, table(tmp_path / "u.csv", ["s"], truth=""), a)


def test_a_lonely_file_or_unequal_numbers_of_seeds_are_errors(tmp_path, capsys):
    a = table(tmp_path / "a.csv", ["s"])
    assert "found 1 files" in error_of(capsys, a)
    assert "2 after --a and 1 after --b" in error_of(capsys, "--a", a, a, "--b", a)


def test_the_script_runs_by_its_path_and_tells_its_exit_code(tmp_path):
    a, b = table(tmp_path / "a.csv", ["s"] * 4), table(tmp_path / "b.csv", ["s"] * 5)
    script = [sys.executable, "-m", "benchmarks.accuracy.compare"]
    good = subprocess.run([*script, a, a], capture_output=True, text=True, check=False)
    bad = subprocess.run([*script, a, b], capture_output=True, text=True, check=False)
    assert (good.returncode, bad.returncode) == (0, 2)
    assert bad.stderr.startswith("error: ")
