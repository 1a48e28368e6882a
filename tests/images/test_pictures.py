import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgvc.errors import UsageError
from fgvc.images.decoding import ImageError
from fgvc.images.pictures import expand, in_threads, pictures_below, pixels_of, square_of
from fgvc.images.resizing import EvalResize


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


def test_a_missing_file_is_a_single_picture_and_an_endless_name_too():
    assert list(expand(["gone.jpg", "x" * 5000])) == ["gone.jpg", "x" * 5000]
    for name in ("gone.jpg", "x" * 5000):
        with pytest.raises(ImageError):
            pixels_of(name)


def test_one_folder_among_others_is_unfolded_in_its_place(tmp_path):
    put(tmp_path, "a/2.jpg", "a/1.jpg", "b.jpg")
    (tmp_path / "empty").mkdir()
    found = list(expand([tmp_path / "b.jpg", str(tmp_path / "a"), tmp_path / "empty"]))
    assert [Path(path).relative_to(tmp_path).as_posix() for path in found] == ["b.jpg", "a/1.jpg", "a/2.jpg", "empty"]
    with pytest.raises(ImageError, match="without pictures"):
        pixels_of(found[-1])


def test_a_cut_off_pillow_picture_is_an_image_error(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    with Image.open(tmp_path / "a.png") as picture, pytest.raises(ImageError, match="damaged"):
        pixels_of(picture)


def test_threads_keep_the_order_and_work_at_the_same_time():
    together = threading.Barrier(2, timeout=20)

    def work(item):
        if item < 2:
            together.wait()  # passes only if both are being worked on at once
        time.sleep(0.02 if item % 3 == 0 else 0)
        return item * 10

    if in_threads.__globals__["THREADS"] < 2:
        pytest.skip("one core: one thread")
    assert list(in_threads(work, range(30), ahead=4)) == [item * 10 for item in range(30)]


def test_threads_never_hold_more_than_asked_for():
    begun, taken, most = 0, 0, 0

    def items():
        nonlocal begun, most
        for item in range(50):
            begun += 1
            most = max(most, begun - taken)
            yield item

    for _ in in_threads(lambda item: item, items(), ahead=3):
        taken += 1
    assert (taken, most) == (50, 3)


def test_an_error_in_a_thread_reaches_the_reader():
    def work(item):
        raise UsageError(f"item {item}")

    with pytest.raises(UsageError, match="item 0"):
        list(in_threads(work, range(10), ahead=2))


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


def test_a_link_to_itself_is_a_picture_that_cannot_be_read(tmp_path):
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    put(tmp_path, "a.jpg")
    assert below(tmp_path) == ["a.jpg", "loop.jpg"]
    with pytest.raises(ImageError, match=r"loop\.jpg: cannot be read"):
        pixels_of(tmp_path / "loop.jpg")


def test_a_folder_that_is_gone_is_named(tmp_path):
    with pytest.raises(UsageError) as caught:
        list(pictures_below(tmp_path / "gone"))
    assert str(caught.value) == f"{tmp_path / 'gone'}: the folder cannot be read (No such file or directory)"


def test_a_square_is_read_at_the_size_that_it_needs(tmp_path):
    ramp = np.linspace(0, 255, 640).astype(np.uint8)
    Image.fromarray(np.dstack([np.tile(ramp, (480, 1))] * 3)).save(tmp_path / "a.jpg", quality=95)
    how = EvalResize(32)
    assert pixels_of(tmp_path / "a.jpg").shape == (480, 640, 3)
    assert pixels_of(tmp_path / "a.jpg", how.at_least).shape[0] < 480
    square = square_of(tmp_path / "a.jpg", how)
    assert (square.path, square.pixels.shape) == (str(tmp_path / "a.jpg"), (32, 32, 3))
    assert square.view.tolist() == pytest.approx([0.125, 0, 0.875, 1])
    # 32 means of 15 columns each, of the centred 480.
    assert square.pixels[16, :, 0] == pytest.approx(ramp[80:560].reshape(32, 15).mean(axis=1), abs=2)
    assert square_of(ramp[:, None].repeat(640, axis=1), how).path is None
