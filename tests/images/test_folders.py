import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from fgvc.errors import UsageError
from fgvc.images.decoding import Limits, decode
from fgvc.images.folders import PassedOver, names_below, pictures_below


def put(root: Path, *names: str):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def below(root: Path):
    return [str(path.relative_to(root)) for path in pictures_below(root)]


def test_pictures_are_found_at_any_depth_and_sorted(tmp_path):
    put(tmp_path, "b.jpg", "a/z.JPEG", "a/b/c.webp", "a-b/d.png", "a/notes.txt", ".hidden/e.jpg", "a/.f.jpg", "noend")
    put(tmp_path, "__MACOSX/g.jpg")
    assert below(tmp_path) == ["a/b/c.webp", "a/z.JPEG", "a-b/d.png", "b.jpg"]


def test_links_are_followed_and_a_loop_ends(tmp_path):
    put(tmp_path, "album/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "album" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "album" / "loop").symlink_to(tmp_path / "album")
    assert below(tmp_path / "album") == ["a.jpg", "more/b.jpg"]


def test_folders_may_be_nested_deeper_than_python_calls(tmp_path):
    chain = [tmp_path]
    for _ in range(400):
        chain.append(chain[-1] / "d")
        chain[-1].mkdir()
    put(chain[-1], "a.jpg")
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(300)  # the tests themselves are some 60 calls deep
    try:
        assert [path.name for path in pictures_below(tmp_path)] == ["a.jpg"]
    finally:
        sys.setrecursionlimit(usual)
    (chain[-1] / "a.jpg").unlink()
    for folder in chain[:0:-1]:  # pytest's own clearing up is recursive
        folder.rmdir()


def test_folders_are_opened_one_after_the_other(tmp_path):
    put(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    found = pictures_below(tmp_path)
    assert next(found).name == "1.jpg"
    put(tmp_path, "b/0.jpg")
    assert [path.name for path in found] == ["0.jpg", "2.jpg", "3.jpg"]


def test_a_folder_that_is_gone_is_named(tmp_path):
    with pytest.raises(UsageError) as caught:
        list(pictures_below(tmp_path / "gone"))
    assert str(caught.value) == f"{tmp_path / 'gone'}: the folder cannot be read (No such file or directory)"


def test_a_folder_that_is_linked_twice_is_read_once_or_twice_and_a_loop_ends(tmp_path):
    put(tmp_path, "all/a/1.jpg", "all/a/deep/2.jpg")
    (tmp_path / "all/a/deep/up").symlink_to(tmp_path / "all")
    (tmp_path / "all/b").symlink_to(tmp_path / "all/a")
    assert list(names_below(str(tmp_path / "all"), once=True)) == ["a/1.jpg", "a/deep/2.jpg"]
    twice = ["a/1.jpg", "a/deep/2.jpg", "b/1.jpg", "b/deep/2.jpg"]
    assert list(names_below(str(tmp_path / "all"), once=False)) == twice


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("JPEG", ".jfif"), ("JPEG", ".jpe"),
     ("MPO", ".mpo"), ("PNG", ""), ("WEBP", ".x"), ("TIFF", ".dat"), ("BMP", ".dib"),
     ("GIF", ".1"), ("PPM", ".pnm"), ("AVIF", ".a"), ("QOI", ".q")],
)  # fmt: skip
def test_a_file_without_a_known_suffix_counts_by_its_content(tmp_path, kind, suffix):
    Image.new("RGB", (9, 7), "red").save(tmp_path / f"a{suffix}", kind)
    passed = PassedOver()
    assert [path.name for path in pictures_below(tmp_path, passed)] == [f"a{suffix}"]
    assert decode(tmp_path / f"a{suffix}", limits=Limits(any_format=True)).shape == (7, 9, 3)
    assert passed.line() == ""


def test_what_is_passed_over_is_counted_and_named(tmp_path):
    put(tmp_path, "a.txt", "b.txt", ".DS_Store")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/BMW").write_bytes(b"BMW is a maker of cars")
    os.mkfifo(tmp_path / "pipe")
    passed = PassedOver()
    assert list(pictures_below(tmp_path, passed)) == []
    assert passed.counts == {".txt": 2, "without a suffix": 2}
    assert passed.line() == (
        f"passed over 4 files that are no pictures fgvc reads: 2 .txt, 2 without a suffix; first {tmp_path / 'a.txt'}"
    )


def test_photographs_of_phones_are_pictures_whether_or_not_they_can_be_read_here(tmp_path):
    (tmp_path / "c.HEIC").write_bytes(b"")
    (tmp_path / "d.heics").write_bytes(b"\0\0\0\x18ftyphevc\0\0\0\0mif1heic")
    (tmp_path / "e.avif").write_bytes(b"")
    passed = PassedOver()
    assert below(tmp_path) == ["c.HEIC", "d.heics", "e.avif"]
    assert passed.line() == ""
