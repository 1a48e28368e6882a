import os

import pytest

from fgvc.errors import FgvcError, UsageError
from fgvc.files.whole_files import flush, open_whole, whole_file, whole_folder, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writing_leaves_no_half_file(tmp_path):
    write_text(tmp_path / "test.json", "ä")
    assert (tmp_path / "test.json").read_bytes() == "ä".encode()
    assert names(tmp_path) == ["test.json"]


@pytest.mark.parametrize(
    "error", [ValueError("no number"), KeyboardInterrupt(), OSError(28, "No space left on device")]
)
def test_a_stop_inside_leaves_the_former_file(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("former")
    kind = FgvcError if isinstance(error, OSError) else type(error)
    with pytest.raises(kind) as caught, open_whole(path) as file:
        file.write("half")
        raise error
    assert path.read_text() == "former" and names(tmp_path) == ["table.csv"]
    if kind is FgvcError:
        assert str(caught.value) == f"{path}: cannot be written (No space left on device)"


def test_the_former_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"former")
    with whole_file(path) as draft, draft.open("wb") as file:
        file.write(b"new")
        flush(file)
        assert path.read_bytes() == b"former" and draft.read_bytes() == b"new"
    assert path.read_bytes() == b"new" and names(tmp_path) == ["weights.bin"]


def test_folders_above_are_made_and_a_file_in_their_place_is_one_line(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "x")
    assert (tmp_path / "a" / "b.txt").read_text() == "x"
    with pytest.raises(FgvcError, match=r"c\.txt: cannot be written"):
        write_text(tmp_path / "a" / "b.txt" / "c.txt", "x")


def test_names_that_are_no_utf8_are_kept_in_tables_and_escaped_elsewhere(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    for suffix, content in ((".csv", b"caf\xe9"), (".json", b"caf\\udce9")):
        write_text(tmp_path / f"x{suffix}", name)
        assert (tmp_path / f"x{suffix}").read_bytes() == content


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "index") as draft:
        (draft / "half").touch()
        raise ZeroDivisionError
    assert names(tmp_path) == []
    with whole_folder(tmp_path / "index") as draft:
        (draft / "all").touch()
        assert not (tmp_path / "index").exists()
    assert names(tmp_path) == ["index"] and names(tmp_path / "index") == ["all"]


def test_of_two_processes_the_faster_ones_folder_stays(tmp_path):
    with whole_folder(tmp_path / "index") as slow:
        (slow / "slow").touch()
        with whole_folder(tmp_path / "index") as fast:
            (fast / "fast").touch()
    assert names(tmp_path) == ["index"] and names(tmp_path / "index") == ["fast"]


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a pipe"])
def test_what_is_no_file_is_not_replaced_by_one(tmp_path, kind):
    path, pipe = tmp_path / "out.csv", tmp_path / "pipe"
    os.mkfifo(pipe)
    {"pipe": os.mkfifo, "folder": os.mkdir, "link to a pipe": lambda new: new.symlink_to(pipe)}[kind](path)
    before = os.lstat(path)
    with pytest.raises(UsageError, match=r"out\.csv: a (device or a pipe|folder)"), whole_file(path):
        pytest.fail("it is written")
    assert os.lstat(path)[:4] == before[:4]
    assert names(tmp_path) == ["out.csv", "pipe"]
