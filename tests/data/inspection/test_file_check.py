import hashlib
import os

import numpy as np
import pytest
from PIL import Image

from fgvc.data.inspection import file_check
from fgvc.data.inspection.file_check import look


def noise(height, width):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_a_good_file_is_known_by_its_bytes(tmp_path):
    for name in ("a.png", "b.jpg"):
        noise(40, 50).save(tmp_path / name)
        wanted = hashlib.blake2b((tmp_path / name).read_bytes(), digest_size=8).digest()
        assert look(str(tmp_path / name), 32) == (int.from_bytes(wanted, "little"), "", "")


@pytest.mark.parametrize(("height", "width", "tiny"), [(31, 90, True), (90, 31, True), (32, 32, False), (1, 1, True)])
def test_a_tiny_picture_is_told_by_its_shorter_side(tmp_path, height, width, tiny):
    noise(height, width).save(tmp_path / "a.png")
    digest, problem, detail = look(str(tmp_path / "a.png"), 32)
    assert digest and (problem, detail) == (
        ("tiny", f"{width} x {height} pixels; the shorter side has less than 32") if tiny else ("", "")
    )
    assert look(str(tmp_path / "a.png"), 0)[1] in ("", "blank")


@pytest.mark.parametrize(("contrast", "blank"), [(0, True), (7, True), (8, False)])
def test_a_picture_of_one_colour_is_blank(tmp_path, contrast, blank):
    pixels = np.full((40, 40, 3), 100, dtype=np.uint8)
    pixels[20:] += contrast
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = look(str(tmp_path / "a.png"), 32)[1:]
    assert found == (
        ("blank", f"one colour all over: its values run from 100 to {100 + contrast}") if blank else ("", "")
    )


def test_a_damaged_picture_is_told_and_known_by_its_bytes(tmp_path):
    noise(60, 60).save(tmp_path / "a.jpg", quality=95)
    whole = (tmp_path / "a.jpg").read_bytes()
    middle = len(whole) // 2
    altered = whole[:middle] + bytes(range(20)) + whole[middle + 20 :]
    for content in (altered, whole[:-2]):
        (tmp_path / "a.jpg").write_bytes(content)
        wanted = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
        digest, problem, detail = look(str(tmp_path / "a.jpg"), 99)
        assert (digest, problem) == (wanted, "damaged")
        assert detail.endswith("; copy or download it again")
    assert look(str(tmp_path / "a.jpg"), 99)[2].startswith("the end of the file is missing")


def broken(folder):
    noise(40, 40).save(folder / "whole.png")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_bytes(b"no picture at all")
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:300])
    (folder / "folder.jpg").mkdir()
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "two\nlines.jpg").write_bytes(b"")
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.jpg", "cannot be read (No such file or directory)"),
        ("empty.jpg", "the file is empty; copy or download it again"),
        ("text.jpg", "not a picture (it begins b'no pictu'); remove it or save it as JPEG"),
        ("cut.png", "damaged picture (image file is truncated); copy or download it again"),
        ("folder.jpg", "a folder, not a picture"),
        ("loop.jpg", "cannot be read (Too many levels of symbolic links)"),
        ("two\nlines.jpg", "the file is empty; copy or download it again"),
        (os.fsdecode(b"caf\xe9.jpg"), "the file is empty; copy or download it again"),
        ("x" * 300, "cannot be read (File name too long)"),
        ("null\0byte.jpg", "cannot be read (embedded null byte)"),
    ],
)
def test_an_unreadable_file_is_told_in_the_words_of_the_decoder(tmp_path, name, reason):
    broken(tmp_path)
    assert look(str(tmp_path / name), 32) == (0, "unreadable", reason)


def test_a_pipe_does_not_stall(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert look(str(tmp_path / "pipe.jpg"), 32) == (0, "unreadable", "a pipe, socket or device, not a file")


def test_a_file_that_may_not_be_read_is_unreadable(tmp_path, monkeypatch):
    noise(40, 40).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    if os.access(tmp_path / "a.png", os.R_OK):  # root may

        def refuse(self, *_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.open", refuse)
    assert look(str(tmp_path / "a.png"), 32) == (0, "unreadable", "cannot be read (Permission denied)")


def test_a_file_above_the_limit_is_not_read(tmp_path, monkeypatch):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(300 * 2**20)
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda path: pytest.fail("read"))
    found = look(str(tmp_path / "a.png"), 32)
    assert found == (0, "unreadable", f"300 MiB; the limit is {file_check.MAX_BYTES // 2**20} MiB: save it smaller")
