"""Mutated photographs of every format that fgvc reads, each tried with `fgvc.images.decoding.decode`. See fuzz.py."""

import io
import random
from functools import cache

import numpy as np
from PIL import Image, features

SPOTS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\1\0\0", b"\0\0\1\0")
HEAD = 400  # bytes in which most formats keep sizes, counts and offsets


def prepare() -> None:
    """Nothing is needed in the working folder."""


def make(draw: random.Random) -> dict[str, bytes]:
    """Return one picture: cut, with bytes put in, or with bytes changed, most of them in its head."""
    picture = bytearray(draw.choice(whole_pictures()))
    how = draw.random()
    if how < 0.15:
        picture = picture[: draw.randrange(len(picture))]
    elif how < 0.25:
        place = draw.randrange(len(picture))
        picture[place:place] = draw.randbytes(draw.randint(1, 20))
    else:
        for _ in range(draw.randint(1, 6)):
            place = draw.randrange(len(picture) if draw.random() < 0.4 else min(HEAD, len(picture)))
            spot = (
                draw.choice(SPOTS) if draw.random() < 0.3 else bytes([draw.choice((0, 127, 255, draw.randrange(256)))])
            )
            picture[place : place + len(spot)] = spot
    return {"picture": bytes(picture), "at_least": str(draw.choice((0, 10, 64))).encode()}


def run(files: dict[str, bytes]) -> None:
    """Decode it; what comes out is a picture."""
    from fgvc.images.decoding import Limits, decode

    limits = Limits(any_format=True)
    pixels = decode(files["picture"], "a picture", at_least=int(files["at_least"]) or None, limits=limits)
    assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8 and pixels.size > 0


@cache
def whole_pictures() -> list[bytes]:
    """Return the pictures that are mutated: every format, colour mode and way to compress, some with EXIF."""
    noise = np.random.default_rng(0)
    photo = Image.fromarray(noise.integers(0, 256, (12, 20, 3), dtype=np.uint8)).resize((90, 60))
    turned = photo.rotate(90)
    deep = Image.fromarray(noise.integers(0, 65536, (20, 30), dtype=np.uint16))
    camera, turn = Image.Exif(), Image.Exif()
    camera[0x112] = turn[0x112] = 6
    camera[0x10F] = "Camera"
    camera[0x8769] = {0x9003: "2020:01:01 00:00:00"}
    several = {"save_all": True, "append_images": [turned]}
    return [
        _saved(photo, "JPEG", exif=camera),
        _saved(photo, "JPEG", progressive=True),
        _saved(photo.convert("CMYK"), "JPEG"),
        _saved(photo.convert("L"), "JPEG"),
        _saved(photo, "MPO", **several),
        _saved(photo, "PNG", exif=camera),
        _saved(photo, "PNG", **several),
        *(_saved(photo.convert(mode), "PNG") for mode in ("P", "LA", "RGBA", "1")),
        _saved(deep, "PNG"),
        _saved(photo, "WEBP", exif=camera),
        _saved(photo, "WEBP", lossless=True),
        _saved(photo, "WEBP", **several),
        *(_saved(photo, "TIFF", compression=way, exif=turn) for way in _ways()),
        *(_saved(photo.convert("1"), "TIFF", compression=way) for way in ("group3", "group4")),
        _saved(Image.fromarray(noise.random((20, 30), dtype=np.float32)), "TIFF"),
        _saved(deep, "TIFF"),
        _saved(photo, "GIF", **several),
        *(_saved(photo.convert(mode), "BMP") for mode in ("RGB", "P", "1")),
        *(_saved(photo.convert(mode), "PPM") for mode in ("RGB", "L", "1")),
        *(_saved(photo.convert(mode), "AVIF", exif=camera) for mode in ("RGB", "RGBA", "L") if features.check("avif")),
        *(_saved(photo, kind) for kind in ("JPEG2000", "QOI", "SGI", "DDS")),
    ]


def _ways() -> list[str]:
    return ["raw", "packbits", *(["tiff_lzw", "tiff_adobe_deflate", "jpeg"] if features.check("libtiff") else [])]


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
