import hashlib
import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from fgvc.errors import FgvcError, UsageError
from fgvc.model_file import folder as model_folder
from fgvc.model_file.folder import ModelFileError, Tensor, read, sha256, tensors, write
from fgvc.model_file.migrations import FORMAT

STORED = Path(__file__).parents[1] / "stored" / "format_6"
DESCRIBED = json.loads((STORED / "fgvc.json").read_text(encoding="utf-8"))
DESCRIBED = {key: value for key, value in DESCRIBED.items() if key not in ("format", "weights_sha256")}


def put(folder: Path, number: float, size: int = 10) -> None:
    """Write a model whose temperature and whose weights are the same number."""
    described = {**DESCRIBED, "temperatures": {"species": number}}
    write(folder, described, lambda path: save_file({"a": np.full(size, number)}, path))


def number_in(folder: Path) -> float:
    """Return the number of a model that is whole: its files fit and say the same."""
    stored = read(folder)
    tensors(stored)
    with safe_open(stored.weights, framework="np") as file:
        values = set(file.get_tensor("a").tolist())
    assert values == {stored.described["temperatures"]["species"]}
    return values.pop()


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "run" / "model"
    put(path, 1.0)
    return path


def refusal(folder: Path, error: type[FgvcError] = ModelFileError) -> str:
    with pytest.raises(FgvcError) as caught:
        tensors(read(folder))
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_was_written_is_read_from_the_folder_or_the_run_around_it(folder, monkeypatch):
    weights = folder / "model.safetensors"
    for path in (folder, folder.parent, str(folder)):
        stored = read(path)
        assert (stored.home, stored.format, stored.weights) == (folder, FORMAT, weights)
        assert stored.described == {
            **DESCRIBED,
            "temperatures": {"species": 1.0},
            "format": FORMAT,
            "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        }
        assert tensors(stored) == {"a": Tensor("F64", (10,))}
        assert sha256(stored) == stored.described["weights_sha256"]


def test_the_newest_run_is_found_by_the_file_latest(folder):
    (folder.parent.parent / "latest").write_text("run\n")
    assert number_in(folder.parent.parent / "latest") == 1


def test_the_hash_of_weights_whose_description_has_none_is_computed(tmp_path):
    shutil.copytree(STORED.parent / "format_1", tmp_path / "old")
    stored = read(tmp_path / "old")
    assert (stored.format, stored.described["weights_sha256"]) == (1, None)
    assert sha256(stored) == hashlib.sha256((tmp_path / "old/model.safetensors").read_bytes()).hexdigest()


def test_a_second_write_replaces_both_files_and_keeps_what_else_is_there(folder):
    (folder / "notes.txt").write_text("mine")
    put(folder, 2.0)
    assert number_in(folder) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["fgvc.json", "model.safetensors", "notes.txt"]


def test_whoever_may_read_one_file_may_read_the_other(folder):
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    umask = os.umask(0)
    os.umask(umask)
    assert modes == {"fgvc.json": 0o666 & ~umask, "model.safetensors": 0o666 & ~umask}


class Killed(BaseException):
    """What no `except` of the code under test catches."""


@pytest.mark.parametrize("old_format", [3, 1])
@pytest.mark.parametrize(("renames", "left"), [(0, 1), (1, 2), (2, 2)])
def test_a_kill_between_the_renames_leaves_a_whole_model(folder, monkeypatch, renames, left, old_format):
    if old_format == 1:  # which has no hash by which it could be told that its weights are others now
        described = json.loads((folder / "fgvc.json").read_text())
        described = {k: v for k, v in described.items() if k not in ("vouching", "weights_sha256")} | {"format": 1}
        (folder / "fgvc.json").write_text(json.dumps(described))
    replace, seen = Path.replace, []

    def dying(self, target):
        if len(seen) == renames:
            raise Killed
        seen.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", dying)
    if renames == 2:
        monkeypatch.setattr(Path, "rmdir", lambda self: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        put(folder, 2.0)
    monkeypatch.undo()
    assert (folder / ".unfinished").is_dir()
    assert number_in(folder) == left
    put(folder, 3.0)
    assert number_in(folder) == 3
    assert sorted(path.name for path in folder.iterdir()) == ["fgvc.json", "model.safetensors"]


def test_a_rename_that_fails_is_one_line_and_the_model_whole(folder, monkeypatch):
    replace = Path.replace

    def refused(self, target):
        if target.name == "fgvc.json":
            raise PermissionError(13, "Permission denied")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(FgvcError, match=r"model: the model cannot be written \(\[Errno 13\] Permission denied\)"):
        put(folder, 2.0)
    assert number_in(folder) == 2


def test_a_second_kill_before_the_first_is_mended_leaves_a_whole_model(folder, monkeypatch):
    replace = Path.replace
    for number in (2.0, 3.0):
        with monkeypatch.context() as patch:
            names = []

            def dying(self, target, names=names):
                names.append(target.name)
                if names[-2:] == ["model.safetensors", "fgvc.json"]:
                    raise Killed
                return replace(self, target)

            patch.setattr(Path, "replace", dying)
            with pytest.raises(Killed):
                put(folder, number)
        assert number_in(folder) == number
    with pytest.raises(FgvcError):
        write(folder, DESCRIBED, lambda path: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert number_in(folder) == 3


def test_what_a_killed_write_left_is_only_read_where_it_fits(folder):
    other = (folder / "fgvc.json").read_text().replace('"species": 1.0', '"species": 7.0')
    digest = read(folder).described["weights_sha256"]
    (folder / ".unfinished").mkdir()
    for text in ("", "half", other.replace(digest, "0" * 64), other.replace(f'"{digest}"', "null")):
        (folder / ".unfinished/fgvc.json").write_text(text)
        assert number_in(folder) == 1
    (folder / ".unfinished/fgvc.json").write_text(other)
    assert read(folder).described["temperatures"] == {"species": 7}


KILLS = 8
KILLER = f"""
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_folder import number_in, put
draw, folder = random.Random(0), Path(sys.argv[1])
for _ in range({KILLS}):
    number = number_in(folder)
    child = os.fork()
    while not child:
        number += 1
        put(folder, number, 300_000)
    time.sleep(draw.uniform(0.01, 0.2))
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    print(int(number_in(folder)), int((folder / ".unfinished/fgvc.json").is_file()))
"""


def test_kills_at_random_moments_leave_a_whole_model(tmp_path):
    folder = tmp_path / "model"
    put(folder, 1.0)
    words = [sys.executable, "-c", KILLER, str(folder), str(Path(__file__).parent)]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    numbers = [int(line.split()[0]) for line in found.stdout.splitlines()]
    assert len(numbers) == KILLS and numbers == sorted(numbers) and numbers[-1] > KILLS
    put(folder, 1.0)
    assert sorted(path.name for path in folder.iterdir()) == ["fgvc.json", "model.safetensors"]


def test_a_full_disk_leaves_the_model_before_it_whole(folder, monkeypatch):
    def full(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FgvcError) as caught:
        write(folder, DESCRIBED, full)
    assert str(caught.value) == f"{folder}: the model cannot be written ([Errno 28] No space left on device)"
    monkeypatch.setattr(Path, "write_text", lambda self, *_, **__: full(self))
    with pytest.raises(FgvcError, match="No space left on device"):
        put(folder, 2.0)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_file_that_may_not_grow_leaves_the_model_before_it_whole(folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(FgvcError, match=r"model: the model cannot be written \(.*File too large"):
            put(folder, 2.0, size=100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert number_in(folder) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["fgvc.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_size": 10**6}, "image_size: 1000000; an integer of 1 to 8192"),
        ({"temperatures": {"species": float("nan")}}, "temperatures.species: NaN; a number above 0"),
        ({"provenance": {"at": Path("x")}}, "Object of type PosixPath is not JSON serializable"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(folder, change, said):
    with pytest.raises(FgvcError) as caught:
        write(folder, {**DESCRIBED, **change}, lambda path: save_file({"a": np.zeros(1)}, path))
    assert str(caught.value) == f"{folder}: the model cannot be written ({said})"
    assert number_in(folder) == 1


def test_a_folder_that_cannot_be_made_is_one_line(folder):
    with pytest.raises(FgvcError, match=r"fgvc\.json: the model cannot be written \(.*File exists"):
        put(folder / "fgvc.json", 2.0)


def test_a_path_without_a_model_is_a_usage_error(tmp_path):
    found = refusal(tmp_path / "gone", model_folder.NoModelError)
    give = "give a run folder or the model folder inside it"
    assert found == f"{tmp_path / 'gone'}: no model here (no such folder); {give}"
    assert issubclass(model_folder.NoModelError, UsageError) and model_folder.NoModelError.exit_code == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty; copy it again"),
        (
            b'{"format": 1, "arch',
            "damaged (Unterminated string starting at: line 1 column 15 (char 14)); copy it again",
        ),
        (b"\xff\xfe\x00", "damaged (Expecting value: line 1 column 1 (char 0)); copy it again"),
        (b"[" * 100_000, "damaged (nested too deep); copy it again"),
        (b"[]", "a list of 0; not an fgvc model description"),
        (b"null", "null; not an fgvc model description"),
        (b'{"a": 1, "a": 2}', "damaged (the key 'a' is given twice); copy it again"),
        (b"{}", "format: missing; an integer of 1 to 6: is it an fgvc model description?"),
        (b'{"format": 7}', "format 7 is newer than this fgvc reads (1 to 6); update fgvc"),
        (b"<html>", "a web page; the download went wrong: fetch the file itself"),
        (b"version https://git-lfs.github.com/spec/v1", "a git-lfs pointer in place of the file; run git lfs pull"),
    ],
)
def test_a_description_that_is_none_is_one_line(folder, content, said):
    (folder / "fgvc.json").write_bytes(content)
    assert refusal(folder) == f"{folder / 'fgvc.json'}: {said}"


def test_a_nest_in_an_old_description_is_one_line(folder):
    text = '{"format": 1, "provenance": ' + "[" * 900 + "]" * 900 + "}"
    (folder / "fgvc.json").write_text(text)
    assert refusal(folder).startswith(f"{folder / 'fgvc.json'}: ")


def whole() -> bytes:
    return (STORED / "model.safetensors").read_bytes()


PICKLED = "a pickle; fgvc reads safetensors only, for a pickle can run anything"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty; copy it again"),
        (pickle.dumps([1]), PICKLED),
        (b"PK\3\4 and so on", PICKLED),
        (b"<!DOCTYPE html>", "a web page; the download went wrong: fetch the file itself"),
        (b"version https://git-lfs.github.com/spec/v1", "a git-lfs pointer in place of the file; run git lfs pull"),
        (b"short", "not a safetensors file (it begins b'short'); copy it again"),
        (b"\x89PNG and so on, and so on", "not a safetensors file (it begins b'\\x89PNG and so '); copy it again"),
    ],
)
def test_weights_that_are_none_are_one_line(folder, content, said):
    (folder / "model.safetensors").write_bytes(content)
    assert refusal(folder) == f"{folder / 'model.safetensors'}: {said}"


@pytest.mark.parametrize("length", [9, 100, 12_000, -1])
def test_weights_that_are_cut_short_are_one_line(folder, length):
    (folder / "model.safetensors").write_bytes(whole()[:length])
    said = refusal(folder)
    assert said.startswith(f"{folder / 'model.safetensors'}: cut short or damaged (")
    assert said.endswith("); copy it again")


def test_missing_weights_are_told_and_only_where_they_are_needed(folder):
    (folder / "model.safetensors").unlink()
    assert refusal(folder) == f"{folder / 'model.safetensors'}: missing; copy it again"
    assert read(folder).described["temperatures"] == {"species": 1}


def test_two_files_that_do_not_belong_together_are_told(folder, tmp_path):
    put(tmp_path / "other", 2.0)
    old, new = ((path / "model.safetensors").read_bytes() for path in (folder, tmp_path / "other"))
    (folder / "model.safetensors").write_bytes(new)
    digests = [hashlib.sha256(content).hexdigest()[:8] for content in (new, old)]
    assert refusal(folder) == (
        f"{folder / 'model.safetensors'}: damaged, or not the weights of fgvc.json beside it (sha256 {digests[0]}..., "
        f"not {digests[1]}...); copy both files again"
    )
    flipped = bytearray(old)
    flipped[-1] ^= 1
    (folder / "model.safetensors").write_bytes(flipped)
    assert "damaged, or not the weights of fgvc.json beside it" in refusal(folder)


@pytest.mark.parametrize("name", ["fgvc.json", "model.safetensors"])
def test_a_link_may_not_point_outside_and_may_point_inside(folder, tmp_path, name):
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(Path("../..") / name)
    said = f"{folder / name}: points outside its folder, to {tmp_path / name}; copy the file itself"
    assert refusal(folder) == said
    (tmp_path / name).rename(folder / "own")
    assert f"points outside its folder, to {tmp_path / name}" in refusal(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("own")
    assert number_in(folder) == 1
    (tmp_path / "link").symlink_to(folder)
    assert number_in(tmp_path / "link") == 1


@pytest.mark.parametrize("name", ["fgvc.json", "model.safetensors"])
def test_what_is_no_file_is_refused_and_does_not_hang(folder, name):
    said = f"{folder / name}: not a file; a model folder holds the two files model.safetensors and fgvc.json"
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert refusal(folder) == said
    (folder / name).unlink()
    (folder / name).mkdir()
    assert refusal(folder) == said
    (folder / name).rmdir()
    (folder / name).symlink_to(name)
    assert refusal(folder).startswith(f"{folder / name}: cannot be read (Too many levels of symbolic links)")


def test_a_description_of_300_megabytes_is_refused_unread(folder):
    os.truncate(folder / "fgvc.json", 300 * 2**20)
    assert refusal(folder) == f"{folder / 'fgvc.json'}: 300 MiB; at most 64 MiB"


def test_sparse_weights_of_20_gigabytes_are_refused_unread(folder, monkeypatch):
    monkeypatch.setattr(model_folder, "safe_open", lambda *_, **__: pytest.fail("they are read"))
    with (folder / "model.safetensors").open("rb+") as file:
        file.truncate(20 * 2**30)
    assert refusal(folder).endswith("model.safetensors: 20480 MiB; at most 16384 MiB")


def test_weights_for_which_there_is_no_memory_are_one_line(folder, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(model_folder, "safe_open", full)
    assert refusal(folder).endswith("model.safetensors: 0 MiB; this machine has no memory for it")


def test_a_million_tensors_are_refused_unread(folder, monkeypatch):
    monkeypatch.setattr(model_folder, "safe_open", lambda *_, **__: pytest.fail("they are read"))
    names = {f"t{i}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i in range(10**6)}
    text = json.dumps(names).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4 * 10**6))
    assert "names and shapes of a network's tensors take at most 8 MiB" in refusal(folder)


def test_a_tree_of_64_levels_and_20000_classes_is_refused(folder):
    described = json.loads((folder / "fgvc.json").read_text(encoding="utf-8"))
    levels = [f"l{i}" for i in range(64)]
    described["taxonomy"] = {"levels": levels, "leaves": [[*levels[1:], str(leaf)] for leaf in range(20_000)]}
    (folder / "fgvc.json").write_text(json.dumps(described), encoding="utf-8")
    assert refusal(folder).endswith("taxonomy: 64 levels over 20000 classes; with 64 levels at most 7812 classes")


def test_neither_torch_nor_timm_is_loaded():
    code = "import sys, fgvc.commands.info; print([name for name in ('torch', 'timm', 'PIL') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
