import os

import pytest
from fakes.fake_run import ANSWERS, rows_of, write

from fgvc.confidence.intervals import share
from fgvc.errors import FgvcError, UsageError
from fgvc.files import answer_table
from fgvc.files.answer_table import read_answers


def read(folder, rows):
    return read_answers(write(folder, rows) / "predictions_test.csv")


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


def test_a_table_of_before_has_the_score_of_the_network_under_another_name(tmp_path):
    new = [{**row, "score": row["species_score"], "score_uncalibrated": row["score"]} for row in rows_of()]
    for answers in (read(tmp_path / "old", rows_of()), read(tmp_path / "new", new)):
        assert answers.score.tolist() == [score for *_, score, _ in ANSWERS]
        assert answers.confidence.tolist() == [calibrated for *_, calibrated in ANSWERS]


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


def test_the_bytes_of_a_written_table(tmp_path):
    path = tmp_path / "predictions_test.csv"
    names = [[os.fsdecode(b"a\xe9.jpg"), 'b, "c".jpg'], ["Larus", ""], ["Larus", "Sterna"], ["x", "y"], ["x", "z"]]
    probabilities = [1, 0.1234567], [0.5, 0], [0.5, 0], [1e-9, 1]
    columns = [*names, ["x", "x"], *map(answer_table.scores, probabilities)]
    columns.append(answer_table.boxes([[[0.0, 0.25, 0.33333, 1.0]], []]))
    answer_table.write(path, ("genus", "species"), ["crop"], True, zip(*columns, strict=True))
    assert path.read_bytes().split(b"\r\n") == [
        b"path,genus_true,genus_pred,species_true,species_pred,species_of_crop,genus_score,species_score,score,"
        b"score_uncalibrated,boxes",
        b'a\xe9.jpg,Larus,Larus,x,x,x,1.000000,0.500000,0.500000,0.000000,"[[0.0, 0.25, 0.3333, 1.0]]"',
        b'"b, ""c"".jpg",,Sterna,y,z,x,0.123457,0.000000,0.000000,1.000000,[]',
        b"",
    ]
    answers = read_answers(path)
    assert answers.paths == tuple(names[0]) and answers.levels == ("genus", "species")
    assert answers.boxes_of(0) == [(0, 0.25, 0.3333, 1)] and list(answers.views) == ["crop"]
    assert answers.score.tolist() == [0, 1] and answers.confidence.tolist() == [0.5, 0]


def test_a_plain_method_has_neither_views_nor_boxes(tmp_path):
    answer_table.write(tmp_path / "a.csv", ("class",), [], False, [("p", "x", "x", "0.5", "0.5", "0.4")])
    columns = answer_table.read(tmp_path / "a.csv").columns
    assert list(columns) == ["path", "class_true", "class_pred", "class_score", "score", "score_uncalibrated"]


def test_a_table_that_cannot_be_written_leaves_the_former_one(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FgvcError, match="cannot be written"):
        answer_table.write(tmp_path / "file" / "a.csv", ("class",), [], False, [])


def test_a_mark_of_byte_order_and_empty_lines_are_passed_over(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffpath,class_true,class_pred\n\np,x,y\n", encoding="utf-8")
    table = answer_table.read(tmp_path / "a.csv")
    assert table.columns == {"path": ("p",), "class_true": ("x",), "class_pred": ("y",)}
    with pytest.raises(UsageError, match=r"no column 'clas_true'; it has .* did you mean 'class_true'"):
        table.column("clas_true")


@pytest.mark.parametrize(("name", "run"), [("predictions_test.csv", "{folder}"), ("copied.csv", "RUN")])
def test_what_to_do_names_the_run_where_it_is_known(tmp_path, name, run):
    (tmp_path / name).write_text("")
    with pytest.raises(UsageError) as error:
        answer_table.read(tmp_path / name)
    assert str(error.value).endswith(f"run `fgvc test {run.format(folder=tmp_path)}` again")
