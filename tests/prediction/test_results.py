import csv
import io
import json
from dataclasses import replace

import pytest
from pyarrow import parquet

from fgvc.errors import FgvcError, UsageError
from fgvc.files.whole_files import open_whole
from fgvc.prediction.results import Guess, Result, Results, vouched, write_json

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
                *("top2_label", "top2_score", "boxes", "warning", "error"),
            ],
            [
                *("a b/1.jpg", 'the "Barn" Owl', "0.750000", "Owls, true", "0.800000", 'the "Barn" Owl', "0.750000"),
                *("Kauz", "0.125000", "[[0.0, 0.25, 0.5, 1.0]]", "", ""),
            ],
            ["naïve.jpg", *[""] * 10, "naïve.jpg: the file is empty"],
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


def test_each_result_is_written_before_the_next_is_asked_for():
    file = io.StringIO()

    def stream():
        for i in range(50):
            assert file.getvalue().count("\n") == i
            yield GOOD

    write_json(stream(), file, ["species"], 2)
    assert json.loads(file.getvalue()) == [GOOD.to_dict()] * 50


def test_plain_data_becomes_the_result_again():
    for result in (GOOD, BAD, vouched(replace(GOOD), 0.5)):
        assert Result.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_the_layout_and_parquet_can_be_asked_for(tmp_path):
    Results([GOOD, BAD]).save(tmp_path / "out.parquet", layout="long")
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["path"], row["rank"], row["label"]) for row in rows] == [
        *((GOOD.path, 1, GOOD.label), (GOOD.path, 2, "Kauz"), (BAD.path, None, None))
    ]
    assert rows[0]["boxes"] == [[0.0, 0.25, 0.5, 1.0]] and rows[2]["error"] == BAD.error
    with pytest.raises(UsageError, match="layout: 'tall'"):
        Results([GOOD]).save(tmp_path / "out.csv", layout="tall")
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_no_results_are_an_empty_table(tmp_path):
    for name in ("out.csv", "out.json", "out.jsonl"):
        Results().save(tmp_path / name)
    assert (tmp_path / "out.csv").read_text() == "path,label,score,warning,error\n"
    assert json.loads((tmp_path / "out.json").read_text()) == []
    assert (tmp_path / "out.jsonl").read_text() == ""


def test_a_file_name_that_is_not_utf8_survives(tmp_path):
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    for suffix in ("csv", "json"):
        Result(name, error="empty").save(tmp_path / f"out.{suffix}")
    assert b"caf\xe9.jpg" in (tmp_path / "out.csv").read_bytes()
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))[0]["path"] == name


def test_a_level_called_answer_does_not_hide_the_answer(tmp_path):
    levels = ("answer", "answer_level", "species")
    lineage, scores = dict(zip(levels, "abc", strict=True)), dict(zip(levels, (0.9, 0.8, 0.7), strict=True))
    result = Result("1.jpg", "c", 0.7, lineage, scores, [Guess("c", 0.7, lineage)])
    vouched(result, 0.75).save(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        header, row = csv.reader(file)
    assert len(set(header)) == len(header)
    found = dict(zip(header, row, strict=True))
    assert [found[key] for key in ("answer", "answer_level", "answer_score")] == ["b", "answer_level", "0.800000"]
    assert [found[key] for key in ("level_answer", "level_answer_level", "species")] == ["a", "b", "c"]
    assert [found[f"level_{key}_score"] for key in ("answer", "answer_level")] == ["0.900000", "0.800000"]


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


@pytest.mark.parametrize(
    ("least", "answer"),
    [
        (0.0, ('the "Barn" Owl', "species", 0.75)),
        (0.75, ('the "Barn" Owl', "species", 0.75)),
        (0.7501, ("Owls, true", "family", 0.8)),
        (0.8, ("Owls, true", "family", 0.8)),
        (0.8001, ("unknown", None, None)),
    ],
)
def test_the_answer_is_the_deepest_name_that_reaches_the_threshold(least, answer):
    result = vouched(replace(GOOD), least)
    assert (result.answer, result.answer_level, result.answer_score) == answer
    assert replace(result, answer=None, answer_level=None, answer_score=None) == GOOD
    # A coarser level with a head of its own may be less sure than a finer one.
    crossed = vouched(replace(GOOD, lineage_scores={"family": 0.1, "species": 0.75}), 0.75)
    assert crossed.answer_level == "species"


def test_an_error_has_no_answer():
    assert vouched(replace(BAD), 0.5) == BAD


def test_plain_data_has_an_answer_only_where_one_was_asked_for(tmp_path):
    keys = {"answer", "answer_level", "answer_score"}
    assert not keys & set(GOOD.to_dict())
    sure, unsure = vouched(replace(GOOD), 0.5), vouched(replace(GOOD), 0.9)
    assert set(sure.to_dict()) == set(GOOD.to_dict()) | keys
    Results([sure, unsure]).save(tmp_path / "out.json")
    Results([GOOD]).save(tmp_path / "bare.jsonl")
    first, second = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [first[key] for key in sorted(keys)] == ['the "Barn" Owl', "species", 0.75]
    assert [second[key] for key in sorted(keys)] == ["unknown", None, None]
    assert not keys & set(json.loads((tmp_path / "bare.jsonl").read_text(encoding="utf-8")))


def test_csv_columns_of_the_answer_stand_after_the_path(tmp_path):
    # The first picture is damaged: what the columns are is known from the second.
    Results([replace(BAD), vouched(replace(GOOD), 0.78), vouched(replace(GOOD), 0.9)]).save(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header[:6] == ["path", "answer", "answer_level", "answer_score", "label", "score"]
    assert rows[0] == ["naïve.jpg", *[""] * (len(header) - 2), BAD.error]
    assert rows[1][:6] == ["a b/1.jpg", "Owls, true", "family", "0.800000", 'the "Barn" Owl', "0.750000"]
    assert rows[2][:6] == ["a b/1.jpg", "unknown", "", "", 'the "Barn" Owl', "0.750000"]
    assert {len(row) for row in rows} == {len(header)}
