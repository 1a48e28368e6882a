import io
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgvc.errors import UsageError
from fgvc.images import apart
from fgvc.images.apart import Reader
from fgvc.images.decoding import ImageError, Limits, decode
from fgvc.images.unpacking import TooMuchHere, unpack

RNG = np.random.default_rng(0)
USUAL, ANY = Limits(), Limits(any_format=True)


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


NOISE = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)
TIFF = saved(Image.fromarray(NOISE), "TIFF")


def tiff_of_strips(count: int) -> bytes:
    """Grey, 16 pixels a row, a strip a row, all at one place."""
    table = 8 + 16 + 2 + 12 * 9 + 4
    tags = {256: (4, 1, 16), 257: (4, 1, count), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    tags |= {273: (4, count, table), 278: (3, 1, 1), 279: (4, count, table + 4 * count)}
    entries = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    values = struct.pack("<I", 8) * count + struct.pack("<I", 16) * count
    return struct.pack("<2sHI", b"II", 42, 24) + bytes(16) + struct.pack("<H", 9) + entries + bytes(4) + values


def slow() -> bytes:
    """A TIFF of very many strips, which Pillow sets up in Python."""
    return tiff_of_strips(2_000_000)


@pytest.fixture
def reader():
    one = Reader("x")
    yield one
    one.end()


def test_it_answers_what_this_process_would(reader):
    exif = Image.Exif()
    exif[0x112] = 6
    jpeg = saved(Image.fromarray(NOISE).resize((320, 240)), "JPEG", exif=exif)
    deep = saved(Image.fromarray(RNG.integers(0, 4096, (9, 8), dtype=np.uint16)), "TIFF")
    for data, at_least in ((TIFF, None), (jpeg, None), (jpeg, 60), (jpeg[:-2], None), (deep, None)):
        pixels, warning = reader.read(data, "x", at_least, USUAL)
        here, told = unpack(data, "x", at_least, USUAL)
        np.testing.assert_array_equal(pixels, here)
        assert pixels.flags["WRITEABLE"] and warning == told
    for data in (TIFF[:-300], b"no picture", jpeg[: len(jpeg) // 2]):
        with pytest.raises(ImageError) as here:
            unpack(data, "ü\udce9", None, USUAL)
        with pytest.raises(ImageError) as there:
            reader.read(data, "ü\udce9", None, USUAL)
        assert str(there.value) == str(here.value)


def test_what_takes_too_long_is_ended_and_the_next_picture_read(monkeypatch):
    monkeypatch.setattr(apart, "_MAIN", "from fgvc.images import apart; apart.HANDING_OVER = 4; apart.serve()")
    one = Reader("x")  # it has a second of processor time left
    with pytest.raises(
        ImageError, match=r"^x: not read within 5 s of processor time; save it again, or raise max_pixels$"
    ):
        one.read(slow(), "x", None, ANY)
    one.end()
    monkeypatch.undo()
    np.testing.assert_array_equal(decode(TIFF), NOISE)


def test_what_takes_too_much_memory_is_refused_and_the_next_picture_read():
    tags = {256: (4, 1, 8), 257: (4, 1, 8), 262: (3, 1, 1), 338: (3, 60_000_000, 200)}
    table = b"".join(struct.pack("<HHII", tag, *value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + table + bytes(200 + 120_000_000)
    with pytest.raises(ImageError, match=r"^x: not read within 1 GiB of memory; save it again, or raise max_"):
        decode(data, "x")
    np.testing.assert_array_equal(decode(TIFF), NOISE)


def test_a_decoder_that_crashes_costs_its_picture_only(monkeypatch):
    monkeypatch.setattr(apart, "_MAIN", "import os, sys; sys.stdin.buffer.readline(); os.kill(os.getpid(), 11)")
    pool = ThreadPoolExecutor(1)  # a thread of its own has a process of its own
    told = str(pool.submit(decode, TIFF, "x").exception())
    assert told == f"x: its decoder broke off (exit code {-signal.SIGSEGV}); save it again"
    monkeypatch.undo()
    np.testing.assert_array_equal(pool.submit(decode, TIFF).result(), NOISE)
    pool.shutdown()


def test_a_process_that_cannot_start_is_told(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with ThreadPoolExecutor(1) as pool:
        told = str(pool.submit(decode, TIFF, "x").exception())
    assert told.startswith("x: is read in a process of its own, which cannot start (")


def test_it_imports_nothing_from_the_folder_that_the_user_is_in(tmp_path, monkeypatch):
    for name in ("json", "numpy", "resource", "simplejpeg"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        np.testing.assert_array_equal(pool.submit(decode, TIFF).result(), NOISE)
    assert not (tmp_path / "ran").exists()


def test_each_thread_has_its_own_and_it_ends_with_the_thread():
    processes = []

    def read():
        decode(TIFF)
        processes.append(apart._OWN.reader._process)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({process.pid for process in processes}) == 3
    assert all(process.wait() is not None for process in processes)


def in_a_fork(connection):
    decode(TIFF)
    connection.send((os.getpid(), apart._OWN.reader._owner))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a fork beside threads
def test_a_forked_process_starts_its_own():
    decode(TIFF)
    mine = apart._OWN.reader._process.pid
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(False)
    worker = context.Process(target=in_a_fork, args=(sender,))
    worker.start()
    pid, owner = receiver.recv()
    worker.join()
    assert pid == owner
    decode(TIFF)
    assert apart._OWN.reader._process.pid == mine


def test_it_ends_when_its_parent_is_killed():
    script = "import sys; from fgvc.images import apart; from fgvc.images.decoding import decode\n"
    script += "decode(sys.stdin.buffer.read()); print(apart._OWN.reader._process.pid, flush=True)\n"
    script += "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", script], input=TIFF, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    while True:  # until it is gone; the time limit of pytest ends a wait in vain
        try:
            os.kill(pid, 0)
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                break
        except (ProcessLookupError, FileNotFoundError):
            break


def test_photographs_as_cameras_write_them_are_read_here(monkeypatch):
    def refuse(*_):
        raise AssertionError("not here")

    monkeypatch.setattr("fgvc.images.decoding.unpack_apart", refuse)
    photograph = Image.fromarray(NOISE).resize((640, 480))
    for kind, options in (
        ("JPEG", {"quality": 90}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("BMP", {}), ("GIF", {}),
        ("MPO", {"save_all": True, "append_images": [photograph]}),
    ):  # fmt: skip
        assert decode(saved(photograph, kind, **options)).shape == (480, 640, 3)
    fifty = saved(Image.new("L", (8160, 6144)), "JPEG")  # the largest that phones write by default
    assert decode(fifty, at_least=500).shape == (768, 1020, 3)


def test_what_is_unlike_a_photograph_is_not_read_here():
    arithmetic = bytearray(saved(Image.fromarray(NOISE), "JPEG"))
    arithmetic[arithmetic.index(b"\xff\xc0") + 1] = 0xC9
    jpeg = saved(Image.fromarray(NOISE), "JPEG")
    chunk = b"\0\0\0\0teSt" + struct.pack(">I", __import__("zlib").crc32(b"teSt"))
    png = saved(Image.fromarray(NOISE), "PNG")
    gif = saved(Image.new("P", (9, 9)), "GIF")
    for data in (
        TIFF,
        bytes(arithmetic),
        jpeg[:2] + b"\xff\xfe\0\2" * 2001 + jpeg[2:],
        jpeg[:2] + b"\xff\xfe\0\2" + bytes(5) + jpeg[2:],
        saved(Image.new("L", (8000, 7000)), "JPEG"),
        png[:33] + chunk * 20_001 + png[33:],
        gif[:-1] + bytes(2**18),
        saved(Image.fromarray(NOISE), "AVIF"),
    ):
        with pytest.raises(TooMuchHere):
            unpack(data, "x", None, USUAL, plain=True)


def run_lengths(side: int) -> bytes:
    body = (b"\1\5" * side + b"\0\0") * side + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(body), 0, 0, 256, 0)
    start = 14 + len(head) + 1024
    return struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start) + head + bytes(range(256)) * 4 + body


def test_a_bmp_of_run_lengths_is_read_apart():
    data = run_lengths(8)
    with pytest.raises(TooMuchHere):
        unpack(data, "x", None, USUAL, plain=True)
    assert decode(data).tolist() == np.full((8, 8, 3), (22, 21, 20)).tolist()  # blue, green, red of entry 5


def test_the_limits_grow_with_the_pixels_and_are_checked():
    assert (USUAL.seconds, USUAL.memory) == (5, 2**30)
    assert (Limits(1).seconds, Limits(240_000_001).seconds, Limits(240_000_000).memory) == (5, 15, 2**31)
    with pytest.raises(UsageError, match=r"^data\.limits\.max_pixels: 0; it must be from 1 to 2000000000$"):
        Limits(0).check("data.limits.")


def test_a_raised_limit_lets_a_larger_picture_in():
    data = saved(Image.new("L", (13_500, 13_500)), "JPEG")  # 182 million: more than Pillow itself allows
    with pytest.raises(ImageError, match="182 million pixels; the limit is 120 million"):
        decode(data, "x")
    assert decode(data, "x", at_least=1000, limits=Limits(190_000_000)).shape == (1688, 1688, 3)
