import csv
import os

import pytest

from fgvc.data.inspection.findings import EXAMPLES, Findings, write_csv
from fgvc.data.inspection.problems import Problem
from fgvc.errors import UsageError
from fgvc.files.whole_files import check_output

ODD = os.fsdecode(b"caf\xe9\n\r.jpg")


def some(kind, count):
    return [Problem(kind, "train", f"{i}.jpg", "Siskin", "empty") for i in range(count)]


def test_the_table_counts_all_and_shows_a_few():
    findings = Findings()
    everything = [*some("tiny", EXAMPLES + 2), Problem("no_class", "train", "", "Wren", "no images")]
    assert list(findings.watched(everything)) == everything
    assert list(findings.table()) == [
        "problem     count  examples",
        "tiny            5  0.jpg: empty",
        "                   1.jpg: empty",
        "                   2.jpg: empty",
        "no_class        1  Wren: no images",
    ]


def test_no_problems_are_said():
    assert list(Findings().table()) == ["no problems"]


def test_the_csv_holds_every_name_as_it_is(tmp_path):
    rows = [Problem("tiny", "train", ODD, 'a "b", c', "x"), Problem("two_labels", "val", "b.jpg", "", "y")]
    write_csv(rows, tmp_path / "out" / "problems.csv")
    with (tmp_path / "out" / "problems.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        assert list(csv.reader(file)) == [["problem", "split", "path", "label", "detail"], *map(list, rows)]


def test_a_stop_leaves_what_was_there(tmp_path):
    (tmp_path / "problems.csv").write_text("old")

    def stopped():
        yield from some("tiny", 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_csv(stopped(), tmp_path / "problems.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["problems.csv"]
    assert (tmp_path / "problems.csv").read_text() == "old"


def test_an_output_is_refused_before_any_work(tmp_path):
    taken = tmp_path / "taken.CSV"
    taken.write_text("old")
    check_output(tmp_path / "new.csv", [".csv"], False)
    check_output(taken, [".csv"], True)
    with pytest.raises(UsageError, match=r"taken\.CSV: exists already; choose another name, or give --overwrite$"):
        check_output(taken, [".csv"], False)
    with pytest.raises(UsageError, match=r"^--output a\.txt: it is written as \.json or \.csv, not '\.txt'$"):
        check_output(tmp_path.__class__("a.txt"), [".json", ".csv"], True)
