import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fgvc.data.record_table import PathPacker, open_table, table_of

PATHS = ["a/1.jpg", "b/Möwe 鳥 🦉.jpg", os.fsdecode(b"c/\xff\xfe.jpg"), "", "/elsewhere/4.jpg"]
NUMBER = {"number": np.int64}
EXTRA = {"note": "Möwe", "list": [1, None]}


def packed(paths):
    packer = PathPacker()
    packer.extend(paths)
    return packer.table(EXTRA, number=np.arange(len(packer)))


@pytest.fixture
def kept(tmp_path):
    """The file of a table of PATHS."""
    with (tmp_path / "t.arrow").open("wb") as file:
        packed(PATHS).save(file)
    return tmp_path / "t.arrow"


def paths_of(table):
    return [table.path(row) for row in range(len(table))]


def test_paths_numbers_and_extra_come_back(kept):
    mapped = open_table(kept, NUMBER)
    for table in (packed(iter(PATHS)), mapped):
        assert paths_of(table) == PATHS
        assert [table.path(row) for row in range(-5, 0)] == PATHS
        assert table.numbers("number").tolist() == [0, 1, 2, 3, 4]
        assert table.extra == EXTRA
        for row in (5, -6):
            with pytest.raises(IndexError):
                table.path(row)
        assert paths_of(table.take(np.array([4, 0, 0]))) == [PATHS[4], PATHS[0], PATHS[0]]
    assert (mapped.file, table_of(PATHS).file, mapped.take(np.array([1])).file) == (kept, None, None)


def test_a_table_may_be_empty(tmp_path):
    with (tmp_path / "t.arrow").open("wb") as file:
        packed([]).save(file)
    for table in (packed([]), open_table(tmp_path / "t.arrow", NUMBER)):
        assert len(table) == len(table.numbers("number")) == 0
        assert paths_of(table.take(np.array([], dtype=np.int64))) == []


def test_a_packer_takes_paths_as_they_come():
    packer = PathPacker()
    packer.extend(PATHS[:2])
    packer.extend([])
    packer.extend(iter(PATHS[2:]))
    assert len(packer) == 5
    assert paths_of(packer.table()) == PATHS


def test_the_file_is_an_arrow_file_that_others_read(kept):
    table = pa.ipc.open_file(str(kept)).read_all()
    assert [os.fsdecode(name) for name in table["path"].to_pylist()] == PATHS
    assert table["number"].to_pylist() == [0, 1, 2, 3, 4]


def test_a_mapped_table_takes_no_memory_and_is_sent_as_the_name_of_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    memory = packed(f"{i:090d}.jpg" for i in range(10_000))
    with Path("t.arrow").open("wb") as file:
        memory.save(file)
    before = pa.total_allocated_bytes()
    mapped = open_table(tmp_path / "t.arrow", NUMBER)
    assert pa.total_allocated_bytes() - before < 1000
    assert len(pickle.dumps(memory)) > 940_000
    sent = pickle.dumps(mapped)
    assert len(sent) < 1000
    monkeypatch.chdir("/")  # another process may stand elsewhere
    received = pickle.loads(sent)  # noqa: S301
    assert received.file == mapped.file
    assert paths_of(received) == paths_of(memory) == paths_of(pickle.loads(pickle.dumps(memory)))  # noqa: S301


def save_columns(file, metadata, **columns):
    table = pa.table(columns).replace_schema_metadata(metadata)
    with file.open("wb") as opened, pa.ipc.new_file(opened, table.schema) as writer:
        writer.write_table(table)


def large(*names):
    return pa.array(names, pa.large_binary())


@pytest.mark.parametrize(
    "damage",
    ["empty", "cut", "short", "text", "columns", "kind", "no extra", "extra", "order"],
)
def test_only_whole_tables_with_the_right_columns_are_opened(kept, damage):
    whole, good = kept.read_bytes(), {b"extra": b"{}"}
    if damage == "empty":
        kept.write_bytes(b"")
    elif damage == "cut":
        kept.write_bytes(whole[:-1])
    elif damage == "short":
        kept.write_bytes(whole[: len(whole) // 2])
    elif damage == "text":
        kept.write_bytes(b"a pickle or whatever else" * 10)
    elif damage == "columns":
        save_columns(kept, good, path=large(b"a"))
    elif damage == "kind":
        save_columns(kept, good, path=large(b"a"), number=pa.array([1.5]))
    elif damage == "no extra":
        save_columns(kept, None, path=large(b"a"), number=pa.array([1]))
    elif damage == "extra":
        save_columns(kept, {b"extra": b"[{"}, path=large(b"a"), number=pa.array([1]))
    else:  # the place where a path ends lies before the place where it starts
        ends = np.array([len(path.encode("utf-8", "surrogateescape")) for path in PATHS]).cumsum().astype("<i8")
        assert whole.count(ends.tobytes()) == 1
        kept.write_bytes(whole.replace(ends.tobytes(), ends[::-1].tobytes()))
    with pytest.raises(ValueError):
        open_table(kept, NUMBER)


def test_a_table_that_is_gone_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_table(tmp_path / "gone.arrow", NUMBER)
