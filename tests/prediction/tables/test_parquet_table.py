import os

import pytest
from pyarrow import parquet

from fgvc.prediction.tables import parquet_table

KINDS = {"path": "text", "rank": "rank", "score": "score", "boxes": "boxes"}


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setattr(parquet_table, "ROWS", 10)


def write(rows, path):
    with path.open("wb") as file:
        parquet_table.write(rows, KINDS, file)
    return parquet.ParquetFile(path)


def test_columns_have_types_even_where_all_cells_are_empty(tmp_path):
    file = write([[None] * 4, [None] * 4], tmp_path / "out.parquet")
    assert [str(field.type) for field in file.schema_arrow] == [
        *("string", "int32", "double", "list<element: list<element: double>>")
    ]
    assert file.read().to_pylist() == [dict.fromkeys(KINDS)] * 2


def test_rows_are_written_in_groups_and_only_one_group_is_taken_ahead(tmp_path):
    begun = 0
    path = tmp_path / "out.parquet"

    def rows():
        nonlocal begun
        for i in range(25):
            begun += 1
            if i and i % 10 == 0:
                assert path.stat().st_size > size[-1]  # the group before is on disk
            if i % 10 == 0:
                size.append(path.stat().st_size)
            yield [f"{i}.jpg", i, i / 8, [[0.0, 0.0, 0.5, 1.0]]]

    size = []
    with path.open("wb", buffering=0) as raw:
        parquet_table.write(rows(), KINDS, raw)
    file = parquet.ParquetFile(path)
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [10, 10, 5]
    found = file.read().to_pylist()
    assert found == [
        {"path": f"{i}.jpg", "rank": i, "score": i / 8, "boxes": [[0.0, 0.0, 0.5, 1.0]]} for i in range(25)
    ]


def test_a_file_name_that_is_not_utf8_is_spelt_out(tmp_path):
    file = write([[os.fsdecode(b"caf\xe9.jpg"), 1, 0.5, None]], tmp_path / "out.parquet")
    assert file.read().to_pylist()[0]["path"] == "caf\\udce9.jpg"
