"""Odd but whole pictures of every format, made by code, decoded and compared with an answer that does not come from us.

    python -m benchmarks.robustness.odd_pictures
    python -m benchmarks.robustness.odd_pictures --only PNG TIFF --show

Made by Pillow, OpenCV, pillow-heif or by hand from samples that are known; the answer is arithmetic on these samples
(transparency on white, EXIF turned by numpy, a range by its bits), within 1 of 255 for lossless formats and within what
the quantisation costs for others. Exit code 1 where one differs or is refused.
"""

import argparse
import io
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from fgvc.images.decoding import ImageError, Limits, decode

Samples = npt.NDArray[np.generic]
SIZES = ((1, 1), (1, 37), (41, 1), (17, 33), (64, 48))
"""Width and height."""


class Odd(NamedTuple):
    """A file. answer: (H, W, 3) in 0..255; tolerance: largest mean difference."""

    format: str
    name: str
    data: bytes
    answer: npt.NDArray[np.float64]
    tolerance: float = 1.0


def main(words: Sequence[str] | None = None) -> int:
    """Print a row per format and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="FORMAT")
    parser.add_argument("--show", action="store_true", help="print every file")
    args = parser.parse_args(words)
    made, right, wrong = Counter[str](), Counter[str](), 0
    for odd in odd_pictures():
        if args.only and odd.format not in args.only:
            continue
        made[odd.format] += 1
        told = compared(odd)
        right[odd.format] += not told
        wrong += bool(told)
        if told or args.show:
            print(f"{odd.format}, {odd.name}: {told or 'right'}")
    print("| format | files | as the independent answer |\n|---|---|---|")
    for name, count in made.items():
        print(f"| {name} | {count} | {right[name]} |")
    print(f"| all {len(made)} | {made.total()} | {right.total()} |")
    return int(wrong > 0)


def compared(odd: Odd) -> str:
    """Return what is wrong with the decoded picture, or ""."""
    try:
        pixels = decode(odd.data, "picture", limits=Limits(any_format=True))
    except ImageError as error:
        return str(error)
    if pixels.shape != odd.answer.shape:
        return f"shape {pixels.shape}, not {odd.answer.shape}"
    far = float(np.abs(pixels - odd.answer).mean())
    return f"differs by {far:.2f} of 255" if far > odd.tolerance else ""


def odd_pictures() -> Iterator[Odd]:
    """Yield all of them."""
    yield from jpegs()
    yield from pngs()
    yield from webps()
    yield from tiffs()
    yield from bmps()
    yield from gifs()
    yield from phones()
    yield from others()


def photograph(width: int, height: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return (H, W, 3): smooth colours, which no quantisation hurts much."""
    draw = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return cv2.resize(draw, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, 3)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    """Return the bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


TURNED: dict[int, Callable[[Samples], Samples]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


def exif_of(orientation: int) -> Image.Exif:
    """Return the EXIF of a camera that was held so."""
    exif = Image.Exif()
    exif[0x112] = orientation
    exif[0x10F] = "Camera"
    return exif


def grey_of(pixels: Samples) -> npt.NDArray[np.float64]:
    """Return (H, W, 3): luma by ITU-R BT.601."""
    luma = pixels.astype(np.float64) @ (0.299, 0.587, 0.114)
    return np.repeat(luma[..., None], 3, axis=2)


def on_white(pixels: Samples, alpha: Samples) -> npt.NDArray[np.float64]:
    """Return colours (H, W, 3) with (H, W) alpha of 0..255 in front of white."""
    share = alpha[..., None] / 255
    return pixels * share + 255.0 * (1 - share)


def turns(kind: str, mode: str, tolerance: float, **options: object) -> Iterator[Odd]:
    """Yield a picture for each orientation of EXIF."""
    pixels = photograph(52, 40)
    for orientation, turn in TURNED.items():
        data = saved(Image.fromarray(pixels).convert(mode), kind, exif=exif_of(orientation), **options)
        answer = turn(grey_of(pixels) if mode == "L" else pixels.astype(np.float64))
        yield Odd(kind, f"{mode}, orientation {orientation}", data, answer, tolerance)


def sizes(kind: str, tolerance: float, **options: object) -> Iterator[Odd]:
    """Yield a picture of each size."""
    for width, height in SIZES:
        pixels = photograph(width, height)
        data = saved(Image.fromarray(pixels), kind, **options)
        yield Odd(
            {"HEIF": "HEIC"}.get(kind, kind),
            f"{width} x {height} {options or ''}",
            data,
            pixels.astype(np.float64),
            tolerance,
        )


def jpegs() -> Iterator[Odd]:
    """Yield JPEG and MPO: progressive, subsampled, grey, inks, restarts, turned, with what phones put behind."""
    pixels = photograph(64, 48)
    picture, answer = Image.fromarray(pixels), pixels.astype(np.float64)
    for progressive, subsampling, quality in itertools.product((False, True), (0, 1, 2), (60, 95)):
        data = saved(picture, "JPEG", progressive=progressive, subsampling=subsampling, quality=quality)
        yield Odd("JPEG", f"progressive {progressive}, subsampling {subsampling}, {quality}", data, answer, 6)
    yield from sizes("JPEG", 6, quality=95, subsampling=0)
    yield from turns("JPEG", "RGB", 6, quality=95)
    yield from turns("JPEG", "L", 3, quality=95)
    inks = np.dstack([pixels, np.full((48, 64), 60, np.uint8)])
    paper = (1 - inks[..., :3] / 255) * (1 - inks[..., 3:] / 255) * 255
    buffer = saved(Image.fromarray(inks, "CMYK"), "JPEG", quality=100, subsampling=0)
    yield Odd("JPEG", "four inks", buffer, paper, 3)
    for blocks in (1, 3):
        yield Odd("JPEG", f"restarts {blocks}", saved(picture, "JPEG", restart_marker_blocks=blocks), answer, 6)
    whole = saved(picture, "JPEG", quality=95)
    for name, behind in (("zeros", bytes(999)), ("a film", b"\0\0\0\x18ftypmp42" + b"\xff\xda" * 900)):
        yield Odd("JPEG", f"{name} behind it", whole + behind, answer, 6)
    for name, segment in (("a text", b"\xff\xfe\0\x0chello all!"), ("fill bytes", b"\xff\xff\xff\xfe\0\x02")):
        yield Odd("JPEG", f"{name} before it", whole[:2] + segment + whole[2:], answer, 6)
    for count in (1, 2, 5):
        several = [Image.fromarray(photograph(64, 48, seed)) for seed in range(1, count + 1)]
        data = saved(picture, "MPO", save_all=True, append_images=several, quality=95)
        yield Odd("MPO", f"{count + 1} pictures", data, answer, 6)
    yield from turns("MPO", "RGB", 6, quality=95)


def pngs() -> Iterator[Odd]:
    """Yield PNG: all colours and depths, palettes, transparency, texts, several frames, turned."""
    pixels = photograph(64, 48)
    picture, answer = Image.fromarray(pixels), pixels.astype(np.float64)
    yield from sizes("PNG", 0)
    yield from turns("PNG", "RGB", 0)
    yield from turns("PNG", "L", 1)
    alpha = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    yield Odd(
        "PNG", "half transparent", saved(Image.fromarray(np.dstack([pixels, alpha])), "PNG"), on_white(pixels, alpha)
    )
    grey = pixels[..., 0]
    both = Image.fromarray(np.dstack([grey, alpha]), "LA")
    yield Odd("PNG", "grey, half transparent", saved(both, "PNG"), on_white(np.dstack([grey] * 3), alpha))
    for bits in (1, 2, 4, 8):
        colours = np.random.default_rng(bits).integers(0, 256, (2**bits, 3), dtype=np.uint8)
        places = np.random.default_rng(9).integers(0, 2**bits, (48, 64), dtype=np.uint8)
        palette = Image.fromarray(places, "P")
        palette.putpalette(colours.ravel().tolist())
        yield Odd("PNG", f"palette of {bits} bits", saved(palette, "PNG", bits=bits), colours[places].astype(float), 0)
        shown = on_white(colours[places], np.where(places == 1, 0, 255))
        yield Odd("PNG", f"palette of {bits} bits, one transparent", saved(palette, "PNG", transparency=1), shown, 0)
    black = np.where(grey > 127, 255.0, 0)
    yield Odd("PNG", "two colours", saved(Image.fromarray(grey > 127), "PNG"), np.dstack([black] * 3), 0)
    for bits in range(9, 17):
        deep = np.random.default_rng(bits).integers(0, 2**bits, (48, 64)).astype(np.uint16)
        deep[0, 0] = 2**bits - 1
        shown = np.repeat((deep / (2**bits - 1) * 255)[..., None], 3, axis=2)
        yield Odd("PNG", f"{bits} bits in 16", saved(Image.fromarray(deep), "PNG"), shown)
        colours16 = np.random.default_rng(bits).integers(0, 2**bits, (48, 64, 3)).astype(np.uint16)
        colours16[0, 0] = 2**bits - 1
        data = cv2.imencode(".png", colours16[..., ::-1])[1].tobytes()
        yield Odd("PNG", f"colours of {bits} bits in 16", data, colours16 / (2**bits - 1) * 255)
    several = [Image.fromarray(photograph(64, 48, 3))]
    yield Odd("PNG", "two frames", saved(picture, "PNG", save_all=True, append_images=several), answer, 0)
    for name, options in (("a profile of 3 MB", {"icc_profile": bytes(3_000_000)}), ("300 dpi", {"dpi": (300, 300)})):
        yield Odd("PNG", name, saved(picture, "PNG", **options), answer, 0)


def webps() -> Iterator[Odd]:
    """Yield WebP: lossy and not, transparent, several frames, turned."""
    pixels = photograph(64, 48)
    yield from sizes("WEBP", 0, lossless=True)
    yield from sizes("WEBP", 6, quality=95)
    yield from turns("WEBP", "RGB", 0, lossless=True)
    alpha = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    data = saved(Image.fromarray(np.dstack([pixels, alpha])), "WEBP", lossless=True, exact=True)
    yield Odd("WEBP", "half transparent", data, on_white(pixels, alpha))
    several = [Image.fromarray(photograph(64, 48, 3))]
    data = saved(Image.fromarray(pixels), "WEBP", save_all=True, append_images=several, lossless=True)
    yield Odd("WEBP", "two frames", data, pixels.astype(np.float64), 0)


def tiffs() -> Iterator[Odd]:
    """Yield TIFF: ways to pack, depths, floats, integers, inks, several pages, turned, big."""
    pixels = photograph(64, 48)
    picture, answer = Image.fromarray(pixels), pixels.astype(np.float64)
    for way in ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "zstd"):
        yield Odd("TIFF", way, saved(picture, "TIFF", compression=way), answer, 0)
    yield Odd("TIFF", "jpeg", saved(picture, "TIFF", compression="jpeg", quality=95), answer, 6)
    yield Odd("TIFF", "64-bit offsets", saved(picture, "TIFF", big_tiff=True), answer, 0)
    yield from sizes("TIFF", 0)
    yield from turns("TIFF", "RGB", 0)
    for bits in range(9, 17):
        deep = np.random.default_rng(bits).integers(0, 2**bits, (48, 64)).astype(np.uint16)
        deep[0, 0] = 2**bits - 1
        shown = np.repeat((deep / (2**bits - 1) * 255)[..., None], 3, axis=2)
        yield Odd("TIFF", f"{bits} bits in 16", saved(Image.fromarray(deep), "TIFF"), shown)
    for white in (1.0, 255.0, 65535.0):
        floats = (photograph(64, 48)[..., 0] / 255 * white).astype(np.float32)
        floats[0, 0] = white
        shown = np.repeat((floats / white * 255.0)[..., None], 3, axis=2)
        yield Odd("TIFF", f"floats up to {white:g}", saved(Image.fromarray(floats), "TIFF"), shown)
    whole = np.random.default_rng(0).integers(0, 2**20, (48, 64)).astype(np.int32)
    whole[0, 0] = 2**20 - 1
    shown = np.repeat((whole / (2**20 - 1) * 255)[..., None], 3, axis=2)
    yield Odd("TIFF", "integers of 32 bits", saved(Image.fromarray(whole), "TIFF"), shown)
    pages = [Image.fromarray(photograph(64, 48, 3))]
    yield Odd("TIFF", "two pages", saved(picture, "TIFF", save_all=True, append_images=pages), answer, 0)
    grey = pixels[..., 0]
    black = np.dstack([np.where(grey > 127, 255.0, 0)] * 3)
    for way in ("raw", "group3", "group4"):
        yield Odd("TIFF", f"two colours, {way}", saved(Image.fromarray(grey > 127), "TIFF", compression=way), black, 0)


def bmps() -> Iterator[Odd]:
    """Yield BMP: 1 to 32 bits, sizes that are no multiple of four."""
    yield from sizes("BMP", 0)
    for width in range(2, 23):
        pixels = photograph(width, 9)
        yield Odd("BMP", f"{width} wide", saved(Image.fromarray(pixels), "BMP"), pixels.astype(np.float64), 0)
        grey = Image.fromarray(pixels[..., 0])
        yield Odd("BMP", f"{width} wide, grey", saved(grey, "BMP"), np.dstack([pixels[..., 0]] * 3).astype(float), 0)


def gifs() -> Iterator[Odd]:
    """Yield GIF: palettes, transparency, several frames, interlaced."""
    for count in (2, 3, 4, 7, 16, 60, 128, 255, 256):
        colours = np.random.default_rng(count).integers(0, 256, (count, 3), dtype=np.uint8)
        places = np.random.default_rng(9).integers(0, count, (48, 64), dtype=np.uint8)
        palette = Image.fromarray(places, "P")
        palette.putpalette(colours.ravel().tolist())
        answer = colours[places].astype(np.float64)
        for interlace in (0, 1):
            yield Odd("GIF", f"{count} colours, {interlace}", saved(palette, "GIF", interlace=interlace), answer, 0)
        shown = on_white(colours[places], np.where(places == 1, 0, 255))
        yield Odd("GIF", f"{count} colours, one transparent", saved(palette, "GIF", transparency=1), shown, 0)
        data = saved(palette, "GIF", save_all=True, append_images=[palette.rotate(180)])
        yield Odd("GIF", f"{count} colours, two frames", data, answer, 0)


def phones() -> Iterator[Odd]:
    """Yield AVIF, and HEIC where pillow-heif is installed."""
    pixels = photograph(64, 48)
    alpha = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    clear = Image.fromarray(np.dstack([pixels, alpha]))
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        data = saved(Image.fromarray(pixels), "AVIF", quality=95, subsampling=subsampling, speed=10)
        yield Odd("AVIF", subsampling, data, pixels.astype(np.float64), 6)
    yield from sizes("AVIF", 6, quality=95, subsampling="4:4:4", speed=10)
    yield Odd("AVIF", "half transparent", saved(clear, "AVIF", quality=95, speed=10), on_white(pixels, alpha), 6)
    yield from turns("AVIF", "RGB", 6, quality=95, speed=10)
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()
    for quality, chroma in itertools.product((70, 95), (420, 444)):
        data = saved(Image.fromarray(pixels), "HEIF", quality=quality, chroma=chroma)
        yield Odd("HEIC", f"quality {quality}, chroma {chroma}", data, pixels.astype(np.float64), 8)
    yield from sizes("HEIF", 8, quality=95, chroma=444)
    yield Odd("HEIC", "half transparent", saved(clear, "HEIF", quality=95), on_white(pixels, alpha), 8)
    for orientation, turn in TURNED.items():
        data = saved(Image.fromarray(pixels), "HEIF", quality=95, exif=exif_of(orientation).tobytes())
        yield Odd("HEIC", f"orientation {orientation}", data, turn(pixels).astype(np.float64), 8)


def others() -> Iterator[Odd]:
    """Yield what is read by option only: PPM and its kin, JPEG 2000, QOI."""
    for kind, tolerance in (("PPM", 0), ("JPEG2000", 1), ("QOI", 0)):
        yield from sizes(kind, tolerance)

    for most in (1, 15, 255, 1023, 65535):
        samples = np.random.default_rng(most).integers(0, most + 1, (9, 7))
        shown = np.repeat((samples / most * 255)[..., None], 3, axis=2)
        text = f"P2\n# a comment\n7 9\n{most}\n" + "\n".join(" ".join(map(str, row)) for row in samples)
        yield Odd("PPM", f"text, up to {most}", text.encode(), shown)
        body = samples.astype(">u2" if most > 255 else np.uint8).tobytes()
        yield Odd("PPM", f"bytes, up to {most}", f"P5 7 9 {most}\n".encode() + body, shown)


if __name__ == "__main__":
    sys.exit(main())
