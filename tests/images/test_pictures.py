import csv
import io
import os
import signal
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

from fgvc.errors import UsageError
from fgvc.images import pictures
from fgvc.images.decoding import ImageError
from fgvc.images.pictures import expand, in_threads, is_single, pixels_of, square_of
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
    together = threading.Barrier(2, timeout=600)

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


def test_threads_stop_after_the_item_at_hand_when_nobody_takes_more(monkeypatch):
    done, left = [], threading.Event()

    class Pool(ThreadPoolExecutor):
        """Lets the items at hand end only when all others are called off."""

        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            left.set()
            super().shutdown(wait=wait)

    def work(i):
        if i == 5:
            os.kill(os.getpid(), signal.SIGINT)
        if i > 5:
            left.wait()
        done.append(i)

    monkeypatch.setattr(pictures, "ThreadPoolExecutor", Pool)
    with pytest.raises(KeyboardInterrupt):
        list(in_threads(work, range(1000), ahead=100, threads=2))
    assert set(range(6)) <= set(done) <= set(range(8))  # no thread is left: what is done now is all


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


PIXELS = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Two pictures, a list of them as text, and as CSV."""
    for i in (0, 1):
        (tmp_path / f"{i}.png").write_bytes(png(PIXELS[i]))
    (tmp_path / "list.txt").write_text(f"{tmp_path / '0.png'}\n{tmp_path / '1.png'}\n")
    yield tmp_path
    while OPENED:
        OPENED.pop().close()


OPENED = []


def opened(*arguments, **options):
    OPENED.append(Path(arguments[0]).open(*arguments[1:], **options))  # noqa: SIM115 - the fixture closes it
    return OPENED[-1]


def written(folder: Path) -> io.BytesIO:
    """A buffer that a picture was just saved to: its position is the end."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(buffer, "PNG")
    return buffer


class OnlyRead:
    """A stream such as those of web servers: it can be read, not sought."""

    def __init__(self, content: bytes) -> None:
        self.read = io.BytesIO(content).read


def paths(folder: Path) -> list[str]:
    return [str(folder / "0.png"), str(folder / "1.png")]


ONE, TWO = PIXELS[:1], PIXELS
TAKEN_AS = {
    "str": (lambda f: paths(f)[0], ONE),
    "path": (lambda f: f / "0.png", ONE),
    "pure path": (lambda f: PurePath(f / "0.png"), ONE),
    "entry of a folder": (lambda f: sorted(os.scandir(f), key=lambda entry: entry.name)[0], ONE),
    "bytes": (lambda f: png(PIXELS[0]), ONE),
    "file opened as rb": (lambda f: opened(f / "0.png", "rb"), ONE),
    "unbuffered file": (lambda f: opened(f / "0.png", "rb", buffering=0), ONE),
    "BytesIO": (lambda f: io.BytesIO(png(PIXELS[0])), ONE),
    "BytesIO at its end": (written, ONE),
    "stream": (lambda f: OnlyRead(png(PIXELS[0])), ONE),
    "array": (lambda f: PIXELS[0], ONE),
    "Pillow": (lambda f: Image.fromarray(PIXELS[0]), ONE),
    "batch": (lambda f: PIXELS, TWO),
    "batch of none": (lambda f: PIXELS[:0], PIXELS[:0]),
    "folder": (lambda f: f, TWO),
    "folder as pure path": (lambda f: PurePath(f), TWO),
    "list of paths": (paths, TWO),
    "generator of paths": (lambda f: (path for path in paths(f)), TWO),
    "stripped lines": (lambda f: [line.strip() for line in opened(f / "list.txt")], TWO),
    "list of files": (lambda f: [opened(path, "rb") for path in paths(f)], TWO),
    "array of paths": (lambda f: np.array(paths(f)), TWO),
    "array of path objects": (lambda f: np.array([Path(path) for path in paths(f)], dtype=object), TWO),
    "values of a dict": (lambda f: dict(enumerate(paths(f))).values(), TWO),
    "mixed": (lambda f: (f / "0.png", [PIXELS[1]]), TWO),
    "column of pandas": (lambda f: pd.Series(paths(f)), TWO),
    "column of pyarrow": (lambda f: pa.chunked_array([paths(f)]), TWO),
    "table of pandas": (lambda f: pd.DataFrame({"label": ["a", "b"], "path": paths(f)}), TWO),
    "table of pyarrow": (lambda f: pa.table({"label": ["a", "b"], "path": paths(f)}), TWO),
    "empty list": (lambda f: [], PIXELS[:0]),
}


@pytest.mark.parametrize("kind", TAKEN_AS)
def test_what_is_taken_is_read_as_the_pictures_that_it_is(folder, kind):
    make, expected = TAKEN_AS[kind]
    pixels = [pixels_of(picture) for picture in expand(make(folder))]
    assert len(pixels) == len(expected)
    for one, wanted in zip(pixels, expected, strict=True):
        np.testing.assert_array_equal(one, wanted)
    alone = not isinstance(make(folder), list | tuple) and len(expected) == 1
    assert is_single(make(folder)) == alone


LIST_OF = "give paths, folders, the bytes of files, files opened as 'rb', (H, W, 3) uint8 arrays or Pillow pictures, "
STRIPPED = "[line.strip() for line in it]"
NO_PATH = "is a table without a column 'path'; "
REFUSED = {
    "None": (lambda f: None, f"NoneType is no picture; {LIST_OF}"),
    "int": (lambda f: 3, f"int is no picture; {LIST_OF}"),
    "float": (lambda f: 0.5, f"float is no picture; {LIST_OF}"),
    "dict": (lambda f: {"a.jpg": 1}, f"dict is no picture; {LIST_OF}"),
    "class": (lambda f: Path, f"type is no picture; {LIST_OF}"),
    "bytearray": (lambda f: bytearray(8), f"bytearray is no picture; {LIST_OF}"),
    "memoryview": (lambda f: memoryview(b"12"), f"memoryview is no picture; {LIST_OF}"),
    "tensor of floats": (lambda f: torch.rand(3, 8, 8), f"Tensor is no picture; {LIST_OF}"),
    "batch of tensors": (lambda f: torch.zeros(2, 8, 8, 3, dtype=torch.uint8), f"Tensor is no picture; {LIST_OF}"),
    "text file": (
        lambda f: opened(f / "list.txt"),
        f"TextIOWrapper is open as text; open a picture as 'rb', or give {STRIPPED}",
    ),
    "StringIO": (lambda f: io.StringIO("a.jpg\n"), "StringIO is open as text"),
    "closed file": (
        lambda f: closed(f / "0.png"),
        "BufferedReader cannot be read as a picture (read of closed file); ",
    ),
    "file opened as wb": (lambda f: opened(f / "new", "wb"), "BufferedWriter cannot be read as a picture (read); "),
    "archive": (lambda f: zipfile.ZipFile(f / "a.zip", "w"), "ZipFile cannot be read as a picture ("),
    "lines of a file": (
        lambda f: (line for line in ["a.jpg\n"]),
        f"'a.jpg\\n' ends in a line break, as the lines of a text file do; give {STRIPPED}",
    ),
    "list of lines": (lambda f: ["a.jpg", "b.jpg\n"], "item 1: 'b.jpg\\n' ends in a line break"),
    "empty path": (lambda f: "", "an empty path is no picture; for the folder you are in, give '.'"),
    "list with None": (lambda f: [f / "0.png", [None]], f"item 1: item 0: NoneType is no picture; {LIST_OF}"),
    "floats": (lambda f: PIXELS[0] / 255, "an array of shape (6, 8, 3), float64; a picture is (H, W, 3) RGB or"),
    "batch of floats": (lambda f: PIXELS / 255, "an array of shape (2, 6, 8, 3), float64; "),
    "channels first": (lambda f: PIXELS[0].transpose(2, 0, 1), "an array of shape (3, 6, 8), uint8; "),
    "batch of channels first": (lambda f: PIXELS.transpose(0, 3, 1, 2), "an array of shape (2, 3, 6, 8), uint8; "),
    "five axes": (lambda f: PIXELS[None], "an array of shape (1, 2, 6, 8, 3), uint8; "),
    "numbers": (lambda f: np.arange(5), "an array of shape (5,), int64; "),
    "empty array": (lambda f: PIXELS[0][:0], "an array of shape (0, 8, 3), uint8; "),
    "list with an array": (lambda f: [PIXELS[0], PIXELS[0] / 255], "item 1: an array of shape (6, 8, 3), float64; "),
    "table of pandas": (
        lambda f: pd.DataFrame({"label": ["a", "b"], "file": paths(f)}),
        f"DataFrame {NO_PATH}give its column of paths: table['file']",
    ),
    "table of pyarrow": (
        lambda f: pa.table({"label": ["a", "b"], "file": paths(f)}),
        f"Table {NO_PATH}give its column of paths: table['file']",
    ),
    "table without paths": (lambda f: pd.DataFrame({"x": [1], "y": [2.5]}), f"DataFrame {NO_PATH}its columns are x, y"),
    "table with two": (
        lambda f: pd.DataFrame([["a", "b"]], columns=["path", "path"]),
        f"DataFrame {NO_PATH}its columns are path, path",
    ),
    "rows of a CSV": (lambda f: csv.DictReader(["path", "a.jpg"]), f"dict is no picture; {LIST_OF}"),
}


def closed(path: Path):
    file = path.open("rb")
    file.close()
    return file


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_picture_is_refused_in_one_line(folder, kind):
    make, message = REFUSED[kind]
    given = make(folder)
    with pytest.raises(UsageError) as caught:
        pictures = expand(given)
        next(pictures)
        assert kind in ("lines of a file", "rows of a CSV")  # an iterator shows its items as they come
        list(pictures)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    if kind not in ("lines of a file", "rows of a CSV"):
        with pytest.raises(UsageError):
            expand(make(folder))  # before any picture is asked for


@pytest.mark.parametrize("given", [None, ["a.jpg"], PIXELS, {"a": 1}])
def test_a_list_is_not_one_picture(given):
    with pytest.raises(UsageError, match="not one picture"):
        pixels_of(given)
