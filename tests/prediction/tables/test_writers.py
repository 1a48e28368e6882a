import csv
import io
import json
from pathlib import Path

import pytest
from pyarrow import parquet

from fgvc.errors import UsageError
from fgvc.files.whole_files import open_whole
from fgvc.prediction.results import Guess, Result
from fgvc.prediction.tables.columns import Columns
from fgvc.prediction.tables.writers import WRITERS, kind_of, write_csv, write_json, write_jsonl

LINEAGE = {"family": "Owls, true", "species": 'the "Barn" Owl'}
OTHER = {"family": "Owls, true", "species": "Kauz"}
RESULTS = [
    Result(
        "a b/\r1\n.jpg",
        LINEAGE["species"],
        0.75,
        LINEAGE,
        {"family": 0.8, "species": 0.75},
        [Guess(LINEAGE["species"], 0.75, LINEAGE), Guess("Kauz", 0.125, OTHER)],
        [(0.0, 0.25, 1 / 3, 1.0)],
    ),
    Result("naïve.jpg", error="naïve.jpg: the file is empty"),
]
PLAIN = [result.to_dict() for result in RESULTS]
WIDE = Columns(("family", "species"), 2, boxed=True, vouched=False)
LONG = WIDE._replace(layout="long")


def written(kind, columns, folder, plain=PLAIN):
    with open_whole(folder / f"out.{kind}") as file:
        WRITERS[kind](iter(plain), file, columns)
    return folder / f"out.{kind}"


@pytest.mark.parametrize("columns", [WIDE, LONG], ids=["wide", "long"])
def test_csv_and_parquet_hold_the_same_table(columns, tmp_path):
    with written("csv", columns, tmp_path).open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    found = parquet.read_table(written("parquet", columns, tmp_path)).to_pylist()
    assert header == list(columns.kinds()) == list(found[0])
    assert len(rows) == len(found) == {"wide": 2, "long": 3}[columns.layout]
    for row, cells in zip(rows, found, strict=True):
        for text, (name, cell) in zip(row, cells.items(), strict=True):
            if cell is None:
                assert text == ""
            elif name == "boxes":
                assert cell == [[0.0, 0.25, 1 / 3, 1.0]] and text == "[[0.0, 0.25, 0.333333, 1.0]]"
            elif isinstance(cell, float):
                assert text == f"{cell:.6f}"
            else:
                assert text == str(cell)
    assert [cells["path"] for cells in found] == ["a b/\r1\n.jpg"] * (len(found) - 1) + ["naïve.jpg"]


def test_wide_json_is_the_result_and_long_json_the_table(tmp_path):
    assert json.loads(written("json", WIDE, tmp_path).read_text(encoding="utf-8")) == PLAIN
    lines = written("jsonl", WIDE, tmp_path).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == PLAIN and "naïve" in lines[1]
    rows = [dict(zip(LONG.kinds(), row, strict=True)) for plain in PLAIN for row in LONG.rows(plain)]
    assert json.loads(written("json", LONG, tmp_path).read_text(encoding="utf-8")) == rows
    lines = written("jsonl", LONG, tmp_path).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows and [row["rank"] for row in rows] == [1, 2, None]


def test_csv_rows_end_with_a_newline_alone(tmp_path):
    assert b"\r\n" not in written("csv", WIDE, tmp_path).read_bytes()


@pytest.mark.parametrize(("write", "lines_before"), [(write_csv, 1), (write_json, 0), (write_jsonl, 0)])
def test_each_row_is_written_before_the_next_result_is_asked_for(write, lines_before):
    file = io.StringIO()

    def stream():
        for i in range(50):
            assert file.getvalue().count("\n") == i + lines_before
            yield PLAIN[1]

    write(stream(), file, WIDE)
    assert file.getvalue().count("empty") == 50


def test_no_results_are_an_empty_table(tmp_path):
    texts = {kind: written(kind, WIDE, tmp_path, []).read_bytes() for kind in ("csv", "json", "jsonl")}
    assert texts == {"csv": (",".join(WIDE.kinds()) + "\n").encode(), "json": b"[]\n", "jsonl": b""}
    assert parquet.read_table(written("parquet", WIDE, tmp_path, [])).column_names == list(WIDE.kinds())


def test_the_suffix_says_what_is_written():
    assert [kind_of(Path(name)) for name in ("a.csv", "b.JSONL", "c.json", "d.parquet")] == [
        *("csv", "jsonl", "json", "parquet")
    ]
    with pytest.raises(UsageError) as caught:
        kind_of(Path("out.cvs"))
    known = ".csv, .json, .jsonl, .parquet"
    assert str(caught.value) == f"out.cvs: results are written as {known}, not '.cvs'; did you mean '.csv'?"
