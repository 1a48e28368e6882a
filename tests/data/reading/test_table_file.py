import pandas as pd
import pytest

from fgvc.data.reading.table_file import read_rows
from fgvc.errors import UsageError


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_spreadsheets_save_is_read(tmp_path, delimiter, encoding, newline):
    lines = [["path", "note, long; one", "label"], ["a b.jpg", '"x"', " Möwe "], ["c.jpg", "", "Ente"]]
    quoted = [[f'"{c}"' if "," in c else c for c in line] for line in lines]
    text = newline.join(delimiter.join(line) for line in quoted) + newline
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    rows = read_rows(tmp_path / "t.csv", ["path", "label"], ["split"])
    assert rows.cells == {"path": ["a b.jpg", "c.jpg"], "label": ["Möwe", "Ente"]}
    assert rows.numbers == [2, 3]


def test_row_numbers_count_blank_rows_and_quoted_line_breaks_as_a_spreadsheet_does(tmp_path):
    (tmp_path / "t.csv").write_text('path,label\na.jpg,"two\nlines"\n\n,\nb.jpg,x\n')
    rows = read_rows(tmp_path / "t.csv", ["path", "label"])
    assert rows.numbers == [2, 5]
    assert rows.at(1) == f"{tmp_path / 't.csv'} row 5"


def test_a_pandas_parquet_gives_the_same_as_its_csv(tmp_path):
    frame = pd.DataFrame(
        {
            "path": ["a.jpg", "b.jpg", "c.jpg"],
            "label": pd.Categorical(["x", "y", "x"]),
            "site": pd.array([3, None, 12], dtype="Int64"),
            "rank": [1.5, float("nan"), 2.0],
            "other": ["q"] * 3,
        },
        index=[7, 8, 9],
    )
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    wanted = (["path", "label"], ["site", "rank", "split"])
    from_parquet, from_csv = (read_rows(tmp_path / f"t.{suffix}", *wanted) for suffix in ("parquet", "csv"))
    assert from_parquet.cells == from_csv.cells
    assert from_parquet.cells["site"] == ["3", "", "12"]
    assert from_parquet.numbers == [2, 3, 4]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", b"path,label\na.jpg,x,y\n", "row 2: 3 cells, but the header has 2"),
        ("t.csv", b"path,label\na.jpg,x\n\nb.jpg\n", "row 4: 1 cells"),
        ("t.csv", b"path,lable\na.jpg,x\n", "no column 'label'; it has ['path', 'lable']; did you mean 'lable'?"),
        ("t.csv", b"path,label\n", "a header but no rows"),
        ("t.csv", b"", "no column 'path'"),
        ("t.csv", b"path,label\na.jpg,M\xf6we\n", "not UTF-8 (byte 0xf6)"),
        ("t.csv", b'path,label\na.jpg,"open\n', "line 2: broken CSV"),
        ("t.parquet", b"no parquet", "not a readable Parquet file"),
    ],
)
def test_a_broken_table_is_one_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_rows(tmp_path / name, ["path", "label"])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"gone\.csv: no such table"):
        read_rows(tmp_path / "gone.csv", ["path"])


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text("path,label,label\na.jpg,x,y\n")
    with pytest.raises(UsageError, match="2 columns are called 'label'"):
        read_rows(tmp_path / "t.csv", ["path", "label"])
