"""Every expected value is arithmetic on the samples that were written."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from fgvc.images.decoding import ImageError, Limits, decode, decode_with_warning
from fgvc.images.value_range import GUESSED, Extent, _own

RNG = np.random.default_rng(0)


def tiff(samples: np.ndarray, tags: dict[int, float] | None = None, bits: int | None = None, white_is_zero=False):
    """A TIFF of one strip, written by hand; tag -> value."""
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    height, width = samples.shape
    body = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    rows = {256: width, 257: height, 258: bits or samples.dtype.itemsize * 8, 259: 1, 262: 0 if white_is_zero else 1}
    rows |= {273: 8, 277: 1, 278: height, 279: len(body), 339: kind}
    entries = [(tag, struct.pack("<HII", 4, 1, value)) for tag, value in rows.items()]
    entries += [(tag, struct.pack("<HIf", 11, 1, value)) for tag, value in (tags or {}).items()]
    table = b"".join(struct.pack("<H", tag) + entry for tag, entry in sorted(entries))
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(entries)) + table + bytes(4)


def png(samples: np.ndarray, significant: int | None = None) -> bytes:
    """A PNG of 16 bits, (H, W) or (H, W, channels)."""
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], 16, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    if significant is not None:
        parts.insert(1, (b"sBIT", bytes([significant] * channels)))
    pack = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))  # noqa: E731
    return b"\x89PNG\r\n\x1a\n" + b"".join(pack(*part) for part in parts)


def assert_decoded(
    data: bytes, samples: np.ndarray, black: float, white: float, told: bool, tolerance: float = 0.51
) -> str:
    pixels, warning = decode_with_warning(data)
    expected = ((samples.astype(np.float64) - black) / (white - black) * 255).clip(0, 255)
    expected = expected[..., None] if expected.ndim == 2 else expected
    assert np.abs(pixels - expected).max() <= tolerance
    assert (warning is not None) == told
    return warning or ""


def samples_up_to(top: int, shape=(7, 9), dtype=np.uint16) -> np.ndarray:
    samples = RNG.integers(0, top + 1, shape).astype(dtype)
    samples.flat[0] = top
    return samples


@pytest.mark.parametrize("write", [png, tiff], ids=["png", "tiff"])
@pytest.mark.parametrize("bits", [16, 15, 14, 12, 10, 8, 3])
def test_values_of_fewer_bits_than_the_file_are_no_darker(write, bits):
    """A microscope's 12 bits in 16 came out 16 times too dark."""
    samples = samples_up_to(2**bits - 1)
    warning = assert_decoded(write(samples), samples, 0, 2**bits - 1, told=bits < 16)
    if bits < 16:
        top = 2**bits - 1
        assert warning == f"{GUESSED}: its largest value is {top}, so that {top} is white"


def test_a_picture_is_at_most_half_as_bright_as_it_may_be():
    samples = samples_up_to(2049)
    assert_decoded(png(samples), samples, 0, 4095, told=True)
    samples = samples_up_to(40_000)  # an ordinary photograph that reaches no white
    assert_decoded(png(samples), samples, 0, 65535, told=False)


def test_what_a_png_says_of_its_bits_holds():
    samples = samples_up_to(1000)
    assert_decoded(png(samples, 12), samples, 0, 4095, told=False)
    shifted = samples_up_to(4095) * 16  # as the standard wants it
    assert_decoded(png(shifted, 12), shifted, 0, 65535, told=False)


def test_what_a_tiff_says_of_its_range_holds():
    samples = samples_up_to(1000)
    assert_decoded(tiff(samples, {281: 4095}), samples, 0, 4095, told=False)
    assert_decoded(tiff(samples + 100, {280: 100, 281: 2100}), samples + 100, 100, 2100, told=False)
    floats = RNG.uniform(-20, 40, (5, 6)).astype(np.float32)
    assert_decoded(tiff(floats, {340: -50, 341: 50}), floats, -50, 50, told=False)
    beyond = samples_up_to(5000)  # a statement that its values refute
    assert_decoded(tiff(beyond, {281: 4095}), beyond, 0, 8191, told=True)


def test_twelve_bits_packed_are_twelve_bits():
    samples = samples_up_to(500, (4, 6))
    flat = samples.ravel()
    packed = b"".join(
        bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255])
        for a, b in zip(flat[::2].tolist(), flat[1::2].tolist(), strict=True)
    )
    data = bytearray(tiff(samples, bits=12))
    data[8 : 8 + len(packed)] = packed
    assert_decoded(bytes(data), samples, 0, 4095, told=False)


@pytest.mark.parametrize("write", [png], ids=["png"])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_dark_colours_of_sixteen_bits_are_no_darker(write, channels):
    samples = samples_up_to(4095, (14, 21, channels))
    colours = slice(0, 1 if channels == 2 else 3)
    if channels != 3:
        samples[..., -1] = 65535
    pixels, warning = decode_with_warning(write(samples))
    assert np.abs(pixels - samples[..., colours] / 4095 * 255).max() <= 1
    assert warning.startswith(GUESSED)
    assert decode_with_warning(write(samples, 12))[1] is None
    bright = samples_up_to(65535, (14, 21, channels))
    if channels != 3:
        bright[..., -1] = 65535
    pixels, warning = decode_with_warning(write(bright))
    assert np.abs(pixels - bright[..., colours] / 257).max() <= 1 and warning is None


def test_dark_colours_of_a_tiff_are_no_darker(tmp_path):
    samples = samples_up_to(4095, (14, 21, 3))
    assert cv2.imwrite(str(tmp_path / "wide.tif"), samples[..., ::-1])
    pixels, warning = decode_with_warning(tmp_path / "wide.tif")
    assert np.abs(pixels - samples / 4095 * 255).max() <= 1
    assert warning.startswith(GUESSED)


@pytest.mark.parametrize("top", [1.0, 0.8, 0.01, 1.7, 255.0, 60_000.0])
def test_floats_are_never_black(top):
    """Floats in 0..1 came out black."""
    floats = RNG.uniform(0, top, (8, 9)).astype(np.float32)
    floats.flat[0] = top
    white = {1.0: 1, 0.8: 1, 0.01: 1 / 64, 1.7: 3, 255.0: 255, 60_000.0: 65535}[top]
    assert_decoded(tiff(floats), floats, 0, white, told=top not in (1.0, 0.8, 255.0))
    assert decode(tiff(floats)).max() >= 127


def test_values_below_zero_stretch_to_the_whole_range():
    floats = np.array([[-3, 0, 5], [1, 2, 7]], np.float32)
    told = assert_decoded(tiff(floats), floats, -3, 7, told=True)
    assert told == f"{GUESSED}: its least value, -3, is black and its largest, 7, white"
    signed = RNG.integers(-1000, 1000, (6, 7)).astype(np.int16)
    assert_decoded(tiff(signed), signed, signed.min(), signed.max(), told=True)


def test_what_is_no_number_is_told_and_all_of_it_is_refused():
    floats = np.array([[np.nan, 0, 1], [0.5, np.inf, -np.inf]], np.float32)
    pixels, warning = decode_with_warning(tiff(floats))
    assert pixels[..., 1].tolist() == [[0, 0, 255], [128, 255, 0]]
    assert warning == "3 of its samples are not numbers and shown black"
    with pytest.raises(ImageError, match=r"x\.tif: damaged picture \(no sample is a number \(NaN\)\)"):
        decode(tiff(np.full((3, 4), np.nan, np.float32)), "x.tif")


@pytest.mark.parametrize("top", [2**32 - 1, 2**31 + 5, 2**24, 70_000, 255])
def test_integers_of_32_bits_are_not_white(top):
    samples = samples_up_to(top, dtype=np.uint32)
    bits = int(top).bit_length()
    assert_decoded(tiff(samples), samples, 0, 2**bits - 1, told=bits not in (8, 32))
    pixels = decode(tiff(samples))
    assert pixels.min() < 100 < pixels.max()


def test_where_white_is_zero_it_is():
    samples = samples_up_to(65535)
    pixels = decode(tiff(samples, white_is_zero=True))
    assert np.abs(pixels - (255 - samples / 257)[..., None]).max() <= 0.51


def test_a_black_picture_stays_black_and_a_picture_in_memory_follows_the_rule():
    assert decode(png(np.zeros((3, 4), np.uint16))).max() == 0
    from fgvc.images.pictures import pixels_with_warning

    pixels, warning = pixels_with_warning(Image.fromarray(samples_up_to(4095)))
    assert pixels.max() == 255 and warning.startswith(GUESSED)


def test_a_pgm_states_its_maximum():
    samples = samples_up_to(900)
    data = b"P5\n9 7\n1023\n" + samples.astype(">u2").tobytes()
    pixels, warning = decode_with_warning(data, limits=Limits(any_format=True))
    assert np.abs(pixels - (samples / 1023 * 255)[..., None]).max() <= 0.51 and warning is None


def test_large_pictures_are_worked_on_in_parts(monkeypatch):
    from fgvc.images import value_range

    samples = samples_up_to(4095, (50, 30))
    whole = decode(png(samples))
    monkeypatch.setattr(value_range, "ROWS", 90)
    np.testing.assert_array_equal(decode(png(samples)), whole)
    for mode in ("RGB", "RGBA", "P", "1", "CMYK"):
        buffer = io.BytesIO()
        picture = Image.fromarray(RNG.integers(0, 256, (50, 30, 3), dtype=np.uint8)).convert(mode)
        picture.save(buffer, "TIFF")
        np.testing.assert_array_equal(decode(buffer.getvalue()), np.asarray(picture.convert("RGB")))


def test_no_extent_gives_a_white_below_its_largest_value():
    for kind in ("I;16", "I", "F"):
        for top in [*range(1, 300), *(2**k + d for k in range(8, 32) for d in (-1, 0, 1))]:
            white = _own(Extent(0, top, 0), kind)[1]
            assert top <= white <= max(2 * top, 1)


def test_pillow_knows_the_tags_that_we_read():
    assert [TiffImagePlugin.TiffTags.lookup(n).name for n in (262, 258, 339)] == [
        "PhotometricInterpretation", "BitsPerSample", "SampleFormat",
    ]  # fmt: skip
