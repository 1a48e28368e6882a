import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgvc.errors import UsageError
from fgvc.images.decoding import ImageError
from fgvc.images.pictures import expand, in_threads, pixels_of, square_of
from fgvc.images.resizing import EvalResize


def put(root: Path, *names: str):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


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

    assert list(in_threads(work, range(30), ahead=4, threads=2)) == [item * 10 for item in range(30)]


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


def test_threads_stop_after_the_item_at_hand_when_nobody_takes_more():
    done = []

    def slow(i):
        time.sleep(0.05)
        done.append(i)

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(0.3, interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        list(in_threads(slow, range(1000), ahead=100, threads=2))
    number = len(done)
    assert number < 100
    time.sleep(0.2)
    assert len(done) == number


def test_an_error_in_a_thread_reaches_the_reader():
    def work(item):
        raise UsageError(f"item {item}")

    with pytest.raises(UsageError, match="item 0"):
        list(in_threads(work, range(10), ahead=2))


def test_a_link_to_itself_is_a_picture_that_cannot_be_read(tmp_path):
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    put(tmp_path, "a.jpg")
    assert [path.name for path in expand(tmp_path)] == ["a.jpg", "loop.jpg"]
    with pytest.raises(ImageError, match=r"loop\.jpg: cannot be read"):
        pixels_of(tmp_path / "loop.jpg")


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
