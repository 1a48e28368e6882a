import csv
import io
import json
from dataclasses import replace

import pytest

from fgvc.errors import FgvcError, UsageError
from fgvc.results import Guess, Result, Results, open_whole, write_csv, write_json, write_jsonl

LINEAGE = {"family": "Owls, true", "species": 'the "Barn" Owl'}
GOOD = Result(
    "a b/1.jpg",
    LINEAGE["species"],
    0.75,
    LINEAGE,
    {"family": 0.8, "species": 0.75},
    [Guess(LINEAGE["species"], 0.75, LINEAGE), Guess("Kauz", 0.125, {"family": "Owls, true", "species": "Kauz"})],
    [(0.0, 0.25, 0.5, 1.0)],
)
BAD = Result("naïve.jpg", error="naïve.jpg: the file is empty")


def test_csv_has_one_row_per_picture_and_parses_back(tmp_path):
    Results([GOOD, BAD]).save(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            [
                *("path", "label", "score", "family", "family_score", "species", "species_score"),
                *("top2_label", "top2_score", "boxes", "error"),
            ],
            [
                *("a b/1.jpg", 'the "Barn" Owl', "0.750000", "Owls, true", "0.800000", 'the "Barn" Owl', "0.750000"),
                *("Kauz", "0.125000", "[[0.0, 0.25, 0.5, 1.0]]", ""),
            ],
            ["naïve.jpg", *[""] * 9, "naïve.jpg: the file is empty"],
        ]
    assert b"\r" not in (tmp_path / "out.csv").read_bytes()


def test_json_and_json_lines_parse_back(tmp_path):
    results = Results([GOOD, BAD])
    results.save(tmp_path / "out.json")
    results.save(tmp_path / "out.JSONL")
    lines = (tmp_path / "out.JSONL").read_text(encoding="utf-8").splitlines()
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == [json.loads(line) for line in lines]
    first, second = map(json.loads, lines)
    assert first["top"][1] == {"label": "Kauz", "score": 0.125, "lineage": {"family": "Owls, true", "species": "Kauz"}}
    assert first["boxes"] == [[0.0, 0.25, 0.5, 1.0]] and first["lineage_scores"] == {"family": 0.8, "species": 0.75}
    assert second["label"] is None and second["error"] == BAD.error and "naïve" in lines[1]


def test_boxes_have_a_column_only_where_the_model_answers_them(tmp_path):
    whole, crops = replace(GOOD, boxes=None), replace(GOOD, boxes=[(0.1, 0.2, 1 / 3, 1.0), (0.0, 0.0, 1.0, 1.0)])
    for name, results, column in (
        ("whole", [whole, whole], None),
        ("crops", [crops, BAD], ["[[0.1, 0.2, 0.333333, 1.0], [0.0, 0.0, 1.0, 1.0]]", ""]),
        ("late", [BAD, BAD, crops], ["", "", "[[0.1, 0.2, 0.333333, 1.0], [0.0, 0.0, 1.0, 1.0]]"]),
        ("none", [BAD], None),
    ):
        Results(results).save(tmp_path / f"{name}.csv")
        with (tmp_path / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["error"] for row in rows] == [result.error or "" for result in results]
        assert [row["path"] for row in rows] == [result.path for result in results]
        assert ("boxes" in rows[0]) == (column is not None)
        if column:
            assert [row["boxes"] for row in rows] == column


@pytest.mark.parametrize(("write", "lines_before"), [(write_csv, 1), (write_json, 0), (write_jsonl, 0)])
def test_each_row_is_written_before_the_next_result_is_asked_for(write, lines_before):
    file = io.StringIO()

    def stream():
        for i in range(50):
            # The first result tells the CSV whether it has a column of boxes.
            assert file.getvalue().count("\n") == i + lines_before * (i > 0)
            yield GOOD

    write(stream(), file, ["species"], 2)
    assert file.getvalue().count("Kauz") >= 50


def test_no_results_are_an_empty_table(tmp_path):
    for name in ("out.csv", "out.json", "out.jsonl"):
        Results().save(tmp_path / name)
    assert (tmp_path / "out.csv").read_text() == "path,label,score,error\n"
    assert json.loads((tmp_path / "out.json").read_text()) == []
    assert (tmp_path / "out.jsonl").read_text() == ""


def test_a_file_name_that_is_not_utf8_survives(tmp_path):
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    for suffix in ("csv", "json"):
        Result(name, error="empty").save(tmp_path / f"out.{suffix}")
    assert b"caf\xe9.jpg" in (tmp_path / "out.csv").read_bytes()
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))[0]["path"] == name


def test_a_level_named_like_a_column_gets_a_name_of_its_own(tmp_path):
    with open_whole(tmp_path / "out.csv") as file:
        write_csv([], file, ["path", "species", "boxes"], 1)
    header = (tmp_path / "out.csv").read_text().strip()
    levels = "level_path,level_path_score,species,species_score,level_boxes,level_boxes_score"
    assert header == f"path,label,score,{levels},error"


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"not '.cvs'; did you mean '.csv'"):
        Results([GOOD]).save(tmp_path / "out.cvs")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_completed_leaves_what_was_there(tmp_path):
    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(KeyboardInterrupt), open_whole(tmp_path / "out.csv") as file:
        file.write("half")
        raise KeyboardInterrupt
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.csv", "old")]


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FgvcError, match=r"file/out\.csv: cannot be written"):
        Results([GOOD]).save(tmp_path / "file" / "out.csv")
