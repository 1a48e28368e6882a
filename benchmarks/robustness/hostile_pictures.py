"""Pictures made to cost time or memory: what each takes under the default limits of `fgvc.images.decoding.decode`.

    python -m benchmarks.robustness.hostile_pictures
    python -m benchmarks.robustness.hostile_pictures --only "PPM, text, 20 MB" --any_format

Each is read by a process of its own. Processor time is that of this process and of those that it starts, without its
imports. Memory is the largest sum of the resident sizes of all of them at one moment, looked at every 5 ms, imports
included. Exit code 1 where one takes over 5 s or 1 GiB beyond the imports.
"""

import argparse
import io
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SECONDS, MEMORY = 5.0, 2**30
SIDE = 13_200  # 174 million pixels
Made = Callable[[], bytes]


def main(words: Sequence[str] | None = None) -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=list(PICTURES), metavar="NAME")
    parser.add_argument("--any_format", action="store_true", help="read every format")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if args.one:
        return measured_here(args.one, args.any_format)
    from benchmarks.machine import hardware  # torch, which the processes that are measured do without

    print(hardware())
    print("| picture | bytes | processor time, s | memory, MB | answer |\n|---|---|---|---|---|")
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only:
            path = Path(folder, "picture")
            path.write_bytes(PICTURES[name]())
            seconds, memory, answer = measured(path, args.any_format)
            bad += seconds > SECONDS or memory > MEMORY
            size = path.stat().st_size
            print(f"| {name} | {size:,} | {seconds:.1f} | {memory / 1e6:,.0f} | {answer} |", flush=True)
    return int(bad > 0)


def measured(path: Path, any_format: bool) -> tuple[float, int, str]:
    """Read one picture in a fresh process; return seconds, bytes above its imports, and the answer."""
    words = [sys.executable, "-m", "benchmarks.robustness.hostile_pictures", "--one", str(path)]
    with subprocess.Popen([*words, *(["--any_format"] if any_format else [])], stdout=subprocess.PIPE) as process:
        most, start = 0, 0
        while process.poll() is None:
            most = max(most, sum(resident(pid) for pid in family(process.pid)))
            time.sleep(0.005)
        assert process.stdout is not None
        told = json.loads(process.stdout.read())
    start = told["start"]
    return told["seconds"], most - start, told["answer"]


def measured_here(path: Path, any_format: bool) -> int:
    """Read one picture here and print what it took."""
    from fgvc.images.decoding import ImageError, Limits, decode

    answer = ""

    def read() -> None:
        nonlocal answer
        try:
            pixels = decode(path, "picture", limits=Limits(any_format=any_format))
            answer = f"read, {pixels.shape[1]} x {pixels.shape[0]}"
        except ImageError as error:
            answer = str(error).removeprefix("picture: ")

    start = resident(os.getpid())
    before = time.process_time()
    thread = threading.Thread(target=read)  # with it ends the process that it has started, so that its time counts
    thread.start()
    thread.join()
    theirs = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() - before + theirs.ru_utime + theirs.ru_stime
    print(json.dumps({"seconds": seconds, "start": start, "answer": answer}))
    return 0


def family(pid: int) -> list[int]:
    """Return a process and those that it has started."""
    try:
        children = Path(f"/proc/{pid}/task").glob("*/children")
        return [pid, *(int(child) for file in children for child in file.read_text().split())]
    except OSError:
        return [pid]


def resident(pid: int) -> int:
    """Return the resident bytes of a process."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    """Return the bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def one_colour(kind: str, side: int = SIDE, mode: str = "RGB", **options: object) -> Made:
    """Return what makes a picture of one colour and many pixels."""
    return lambda: saved(Image.new(mode, (side, side), 90), kind, **options)


def scans(count: int, side: int = 1000) -> bytes:
    """Return a progressive JPEG whose last scan is repeated."""
    data = saved(Image.new("RGB", (side, side), 90), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (count - data.count(b"\xff\xda")) + data[-2:]


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(chunks: bytes) -> bytes:
    """Return a PNG with chunks before its pixels."""
    data = saved(Image.new("RGB", (64, 48), 90), "PNG")
    return data[:33] + chunks + data[33:]


def tiff(tags: dict[int, tuple[int, int, bytes]], pixels: bytes) -> bytes:
    """Return a TIFF: tag -> (type, count, value), little-endian; values of over 4 bytes lie behind the pixels."""
    start = 8 + len(pixels)
    table = start + 2 + 12 * len(tags) + 4
    head, behind = struct.pack("<H", len(tags)), b""
    for number, (kind, count, value) in sorted(tags.items()):
        if len(value) > 4:
            head += struct.pack("<HHII", number, kind, count, table + len(behind))
            behind += value
        else:
            head += struct.pack("<HHI4s", number, kind, count, value)
    return struct.pack("<2sHI", b"II", 42, start) + pixels + head + bytes(4) + behind


def strips(count: int, width: int = 16, compression: int = 1, strip: bytes = bytes(16)) -> bytes:
    """Return a grey TIFF of one strip a row, all at one place."""
    longs = lambda value: (4, count, struct.pack("<I", value) * count)  # noqa: E731 - a table's column
    short = lambda value: (3, 1, struct.pack("<HH", value, 0))  # noqa: E731
    tags = {256: (4, 1, struct.pack("<I", width)), 257: (4, 1, struct.pack("<I", count)), 258: short(8)}
    tags |= {259: short(compression), 262: short(1), 277: short(1), 278: short(1)}
    return tiff(tags | {273: longs(8), 279: longs(len(strip))}, strip)


def tiff_of_a_jpeg(count: int) -> bytes:
    """Return a TIFF whose only strip is a progressive JPEG of many scans."""
    data = saved(Image.new("L", (2000, 2000), 90), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    data = data[:-2] + last * count + data[-2:]
    short = lambda value: (3, 1, struct.pack("<HH", value, 0))  # noqa: E731
    tags = {256: short(2000), 257: short(2000), 258: short(8), 259: short(7), 262: short(1), 277: short(1)}
    tags |= {278: short(2000), 273: (4, 1, struct.pack("<I", 8)), 279: (4, 1, struct.pack("<I", len(data)))}
    return tiff(tags, data)


def run_lengths(pairs: int, side: int = 10_000) -> bytes:
    """Return a BMP of run lengths, each of one pixel."""
    body = (b"\1\5" * side + b"\0\0") * (pairs // side) + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(body), 0, 0, 256, 0)
    palette = bytes(range(256)) * 4
    start = 14 + len(head) + len(palette)
    return struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start) + head + palette + body


def riff(chunks: bytes) -> bytes:
    """Return a WebP with chunks behind its picture."""
    data = saved(Image.new("RGB", (64, 48), 90), "WEBP", exif=b"Exif\0\0II*\0" + bytes(8))
    return data[:4] + struct.pack("<I", len(data) - 8 + len(chunks)) + data[8:] + chunks


def gif_of_extensions(count: int) -> bytes:
    """Return a GIF with comments before its frame."""
    data = saved(Image.new("P", (64, 48), 90), "GIF")
    start = 13 + 3 * 2 ** ((data[10] & 7) + 1) if data[10] & 0x80 else 13
    return data[:start] + b"\x21\xfe\1a\0" * count + data[start:]


def huge_frame() -> bytes:
    """Return a GIF of 1 x 1 pixels whose frame has 60,000 x 60,000."""
    data = bytearray(saved(Image.new("P", (1, 1), 0), "GIF"))
    at = data.index(b"\x2c")
    data[at + 5 : at + 9] = struct.pack("<HH", 60_000, 60_000)
    return bytes(data)


def exif_of(count: int) -> bytes:
    """Return an EXIF whose orientation has many values."""
    return b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x112, 3, count, 26) + bytes(4) + b"\6\0" * count


NOISE = np.random.default_rng(0)
PICTURES: dict[str, Made] = {
    "JPEG, 1,000 scans, 16 megapixels": lambda: scans(1000, 4000),
    "JPEG, 100,000 scans, 1 megapixel": lambda: scans(100_000),
    "JPEG, 100 scans, 100 megapixels": lambda: scans(100, 10_000),
    "JPEG, 20 scans, 50 megapixels": lambda: scans(20, 7_000),
    "JPEG, 3 million empty segments": lambda: b"\xff\xd8" + b"\xff\xfe\0\2" * 3_000_000 + scans(12)[2:],
    "JPEG, 30 MB between its segments": lambda: b"\xff\xd8\xff\xfe\0\2" + bytes(30_000_000) + scans(12)[2:],
    "JPEG, 900 segments of EXIF": lambda: (
        b"\xff\xd8" + (b"\xff\xe1\xff\xffExif\0\0" + bytes(65527)) * 900 + scans(12)[2:]
    ),
    "JPEG, 174 megapixels": one_colour("JPEG"),
    "JPEG, 118 megapixels": one_colour("JPEG", 10_900),
    "JPEG, progressive, 102 megapixels": one_colour("JPEG", 10_100, progressive=True, subsampling=0),
    "JPEG, CMYK, progressive, 80 megapixels": one_colour("JPEG", 8_950, "CMYK", progressive=True),
    "PNG, 174 megapixels": one_colour("PNG"),
    "PNG, transparent, 118 megapixels": one_colour("PNG", 10_900, "RGBA"),
    "PNG, palette, 118 megapixels": one_colour("PNG", 10_900, "P"),
    "PNG, 16 bits, 118 megapixels": lambda: saved(Image.fromarray(np.zeros((10_900, 10_900), np.uint16)), "PNG"),
    "PNG, 5 million chunks": lambda: png_with(chunk(b"teSt", b"") * 5_000_000),
    "PNG, 200,000 chunks": lambda: png_with(chunk(b"IDAT", b"") * 200_000),
    "PNG, 10,000 profiles of 1 MB": lambda: png_with(
        chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1_000_000), 9)) * 10_000
    ),
    "PNG, EXIF of 100 MB": lambda: png_with(chunk(b"eXIf", exif_of(50_000_000))),
    "WebP, 174 megapixels": one_colour("WEBP", lossless=True),
    "WebP, 62 megapixels": one_colour("WEBP", 7_900, lossless=True),
    "WebP, EXIF of 100 MB": lambda: riff(b"EXIF" + struct.pack("<I", 100_000_026) + exif_of(50_000_000)),
    "WebP, 5 million chunks": lambda: riff(b"teSt\0\0\0\0" * 5_000_000),
    "TIFF, a million strips": lambda: strips(1_000_000),
    "TIFF, 50,000 strips packed": lambda: strips(50_000, 2000, 8, zlib.compress(bytes(2000))),
    "TIFF, 174 megapixels": one_colour("TIFF", compression="tiff_lzw"),
    "TIFF, 118 megapixels": one_colour("TIFF", 10_900, compression="tiff_adobe_deflate"),
    "TIFF, floats, 118 megapixels": one_colour("TIFF", 10_900, "F", compression="tiff_adobe_deflate"),
    "TIFF, a JPEG of 3,000 scans in it": lambda: tiff_of_a_jpeg(3000),
    "TIFF, a tag of 50 million values": lambda: tiff(
        {
            256: (4, 1, struct.pack("<I", 8)),
            257: (4, 1, struct.pack("<I", 8)),
            262: (3, 1, b"\1\0\0\0"),
            338: (3, 50_000_000, bytes(100_000_000)),
        },
        bytes(64),
    ),
    "BMP, run lengths, 4 MB": lambda: run_lengths(2_000_000),
    "BMP, run lengths, 100 MB": lambda: run_lengths(50_000_000),
    "BMP, one bit, 118 megapixels": one_colour("BMP", 10_900, "1"),
    "GIF, 174 megapixels": one_colour("GIF", mode="P"),
    "GIF, 118 megapixels": one_colour("GIF", 10_900, "P"),
    "GIF, a frame of 3,600 megapixels": huge_frame,
    "GIF, 10 million comments": lambda: gif_of_extensions(10_000_000),
    "AVIF, 174 megapixels": one_colour("AVIF", speed=10),
    "AVIF, 88 megapixels": one_colour("AVIF", 9_400, speed=10),
    "AVIF, 64 megapixels of noise": lambda: saved(
        Image.fromarray(NOISE.integers(0, 256, (8000, 8000, 3), dtype=np.uint8)), "AVIF", speed=10, quality=95
    ),
    "PBM, 4 MB of comments": lambda: b"P1\n" + b"#\n" * 2_000_000 + b"8 8\n" + b"0 " * 64,
    "PBM, 4 MB of comments in its pixels": lambda: b"P1\n8 8\n" + b"#\n" * 2_000_000 + b"0 " * 64,
    "PPM, text, 20 MB": lambda: b"P3\n2000 1200\n255\n" + b"0 0 0 " * 3_333_333,
    "PPM, 174 megapixels claimed": lambda: b"P6 13200 13200 255\n",
    "JPEG 2000, 100 megapixels": one_colour("JPEG2000", 10_000),
    "100 MB of zeros": lambda: bytes(100_000_000),
}


if __name__ == "__main__":
    Image.MAX_IMAGE_PIXELS = None
    sys.exit(main())
