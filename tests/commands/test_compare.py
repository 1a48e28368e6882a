import csv
import subprocess
import sys

from fgvc.__main__ import main


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
    code = main(["compare", *arguments])
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
    assert err.startswith("fgvc: ") and err.count("\n") == 1
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
    assert "no columns path, <level>_true and <level>_pred in it" in error_of(capsys, other, a)
    assert "no answers in it; run `fgvc test RUN` again" in error_of(capsys, str(tmp_path / "empty.csv"), a)
    assert "no row has a value in species_true" in error_of(capsys, table(tmp_path / "u.csv", ["s"], truth=""), a)


def test_a_lonely_file_or_unequal_numbers_of_seeds_are_errors(tmp_path, capsys):
    a = table(tmp_path / "a.csv", ["s"])
    assert "found 1 files" in error_of(capsys, a)
    assert "2 after --a and 1 after --b" in error_of(capsys, "--a", a, a, "--b", a)


def test_a_row_cut_short_is_an_error(tmp_path, capsys):
    a = table(tmp_path / "a.csv", ["s", "s"])
    with (tmp_path / "a.csv").open("a") as file:
        file.write("p2.jpg,g")
    assert "row 4 has 2 cells and not 6" in error_of(capsys, a, a)


def test_names_that_are_no_utf8_are_paired_and_told(tmp_path):
    a, b = (tmp_path / name for name in ("a.csv", "b.csv"))
    a.write_bytes(b"\xef\xbb\xbfpath,\xe9_true,\xe9_pred\nM\xf6we.jpg,s,s\n")
    b.write_bytes(b"path,\xe9_true,\xe9_pred\nM\xf6we.jpg,t,t\n")
    words = [sys.executable, "-m", "fgvc", "compare"]
    good, bad = (subprocess.run([*words, a, other], capture_output=True, text=True, check=False) for other in (a, b))
    assert (good.returncode, good.stdout.splitlines()[0]) == (0, "level \\udce9, 1 photographs, 1 pair")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("fgvc: M\\udcf6we.jpg is 's' in ") and bad.stderr.count("\n") == 1


def test_torch_is_not_loaded(tmp_path):
    a = table(tmp_path / "a.csv", ["s"] * 4)
    code = "import sys; from fgvc.__main__ import main; main(sys.argv[1:]); print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code, "compare", a, a], capture_output=True, text=True, check=True)
    assert not {"torch", "timm", "scipy", "PIL"} & set(done.stdout.split())
