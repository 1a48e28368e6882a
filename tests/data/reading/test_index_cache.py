import os
import time

import numpy as np
import pyarrow as pa
import pytest

from fgvc.data.reading import index_cache
from fgvc.data.reading.index_cache import indexed
from fgvc.data.record_table import PathPacker

KINDS = {"number": np.int64}


class Reader:
    """Reads a file of digits, and counts how often it has to."""

    def __init__(self, path):
        self.path, self.times = path, 0

    def __call__(self):
        self.times += 1
        text = self.path.read_text()
        packer = PathPacker()
        packer.extend(text)
        return packer.table(number=np.array([int(digit) for digit in text]))

    def get(self):
        return indexed(self.path, KINDS, self).numbers("number").tolist()


@pytest.fixture
def reader(tmp_path, monkeypatch):
    monkeypatch.setattr(index_cache, "KEPT_FROM", 4)
    monkeypatch.setenv("FGVC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "made up.txt").write_text("1234")
    return Reader(tmp_path / "made up.txt")


def kept(tmp_path):
    return sorted((tmp_path / "cache" / "indexes").iterdir())


def test_the_second_start_reads_the_index_and_not_the_file(reader, tmp_path, capsys):
    assert reader.get() == [1, 2, 3, 4]
    (folder,) = kept(tmp_path)
    assert capsys.readouterr().err == (f"reading {reader.path} (0 MB) once; later starts read its index in {folder}\n")
    assert [file.name for file in folder.iterdir()] == ["records.arrow"]
    assert reader.get() == [1, 2, 3, 4]
    assert reader.times == 1
    assert capsys.readouterr() == ("", "")
    assert indexed(reader.path, KINDS, reader).file == folder / "records.arrow"


def test_a_small_file_is_read_each_time_and_leaves_nothing(reader, tmp_path, capsys):
    reader.path.write_text("123")
    assert reader.get() == reader.get() == [1, 2, 3]
    assert reader.times == 2
    assert not (tmp_path / "cache").exists()
    assert capsys.readouterr() == ("", "")


def test_a_missing_file_is_left_to_its_reader(reader):
    reader.path.unlink()
    with pytest.raises(FileNotFoundError):
        reader.get()


@pytest.mark.parametrize("how", ["content", "touched", "moved", "format"])
def test_another_file_has_another_index(reader, tmp_path, monkeypatch, how):
    reader.get()
    if how == "content":
        reader.path.write_text("56789")
    elif how == "touched":  # the same length, another time
        reader.path.write_text("5678")
        os.utime(reader.path, ns=(0, reader.path.stat().st_mtime_ns + 1))
    elif how == "moved":
        reader.path = reader.path.rename(tmp_path / "other.txt")
    else:
        monkeypatch.setattr(index_cache, "FORMAT", index_cache.FORMAT + 1)
    assert reader.get() == [int(digit) for digit in reader.path.read_text()]
    assert reader.times == 2
    assert len(kept(tmp_path)) == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "text", "misfit"])
def test_a_damaged_index_is_made_anew_with_one_line(reader, tmp_path, capsys, damage):
    reader.get()
    (folder,) = kept(tmp_path)
    file = folder / "records.arrow"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-3])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "gone":
        file.unlink()
    elif damage == "text":
        file.write_bytes(b"a pickle or whatever else")
    else:
        table = pa.table({"other": [1, 2]})
        with file.open("wb") as opened, pa.ipc.new_file(opened, table.schema) as writer:
            writer.write_table(table)
    capsys.readouterr()
    assert reader.get() == [1, 2, 3, 4]
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"{folder}: the index of {reader.path} is damaged and is made anew"
    assert len(told) == 2
    assert reader.get() == [1, 2, 3, 4]
    assert reader.times == 2
    assert kept(tmp_path) == [folder]


def test_without_a_folder_that_can_be_written_it_goes_on_and_says_so(reader, tmp_path, monkeypatch, capsys):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("FGVC_CACHE", str(tmp_path / "a file"))
    assert reader.get() == reader.get() == [1, 2, 3, 4]
    assert reader.times == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 4
    assert told[1].endswith(
        ": the index is not kept (Not a directory), so the next start reads all again; "
        "set FGVC_CACHE to a folder that can be written and has room"
    )


def test_a_full_disk_leaves_nothing_behind(reader, tmp_path, monkeypatch, capsys):
    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index_cache, "flush", full)
    assert reader.get() == [1, 2, 3, 4]
    assert "not kept (No space left on device)" in capsys.readouterr().err
    assert kept(tmp_path) == []


def test_what_a_killed_process_left_is_cleared_away_later(reader, tmp_path):
    reader.get()
    (folder,) = kept(tmp_path)
    old, young = (folder.with_name(f".{folder.name}.{word}") for word in ("old", "young"))
    for draft in (old, young):
        draft.mkdir()
        (draft / "records.arrow").write_bytes(b"half")
    os.utime(old, (0, time.time() - 1200))
    assert reader.get() == [1, 2, 3, 4]
    assert kept(tmp_path) == [young, folder]
    assert reader.times == 1


def test_of_two_processes_that_read_at_once_the_first_ones_index_stays(reader, tmp_path):
    other, inodes = Reader(reader.path), []

    def slow():
        other.get()  # a second process starts later and is ready sooner
        inodes.append((kept(tmp_path)[0] / "records.arrow").stat().st_ino)
        return reader()

    assert indexed(reader.path, KINDS, slow).numbers("number").tolist() == [1, 2, 3, 4]
    (folder,) = kept(tmp_path)
    assert [(folder / "records.arrow").stat().st_ino] == inodes
    assert (reader.times, other.times) == (1, 1)
