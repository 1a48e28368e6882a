import io
import os
import random
import struct
import subprocess
import sys
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from fgvc.errors import UsageError
from fgvc.images import decoding, unpacking
from fgvc.images.decoding import MENDED, ImageError, Limits, decode, decode_with_warning
from fgvc.images.resizing import EvalResize, resize, resize_for_eval

PHOTOS = Path(__file__).parents[2].parent / "shared" / "CUB_200_2011" / "images"
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)
SMOOTH = np.asarray(Image.fromarray(NOISE).resize((90, 60), Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray, mode: str | None = None, **options) -> bytes:
    picture = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(buffer, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def message_of(source: bytes | str | Path, name: str | None = "bird.jpg", limits: Limits = Limits()) -> str:  # noqa: B008
    with pytest.raises(ImageError) as caught:
        decode(source, name, limits=limits)
    assert str(caught.value).startswith(str(name or source))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- pictures of every kind ---


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"mode": "L"}, {"mode": "CMYK"}])
def test_a_jpeg_has_pillows_pixels(options):
    data = encoded(SMOOTH, format="JPEG", quality=90, **options)
    pixels = decode(data)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (60, 90, 3))
    np.testing.assert_array_equal(pixels, np.asarray(opened(data).convert("RGB")))


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_back_what_was_written(file_format):
    data = encoded(NOISE, format=file_format)
    np.testing.assert_array_equal(decode(data, limits=Limits(any_format=file_format == "PPM")), NOISE)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_pixels_can_be_written_to_as_torch_and_albumentations_expect(file_format):
    assert decode(encoded(NOISE, format=file_format)).flags["WRITEABLE"]


def test_webp_grey_bilevel_and_palette_become_rgb():
    np.testing.assert_array_equal(decode(encoded(NOISE, format="WEBP", lossless=True)), NOISE)
    grey = NOISE[..., 0]
    np.testing.assert_array_equal(decode(encoded(grey, format="PNG")), np.dstack([grey] * 3))
    bits = (grey > 127).astype(np.uint8) * 255
    np.testing.assert_array_equal(decode(encoded(bits, "1", format="PNG")), np.dstack([bits] * 3))
    palette = encoded(NOISE, "P", format="PNG")
    np.testing.assert_array_equal(decode(palette), np.asarray(opened(palette).convert("RGB")))


def test_transparent_parts_turn_white_in_proportion():
    alpha = np.tile(np.linspace(0, 255, 20).round().astype(np.uint8), (12, 1))
    pixels = decode(encoded(np.dstack([NOISE, alpha]), format="PNG"))
    share = alpha[..., None] / 255
    assert np.abs(pixels - (NOISE * share + 255 * (1 - share))).max() <= 1
    palette = Image.fromarray(np.zeros((4, 4), np.uint8), "P")
    palette.putpalette([0, 0, 0, 255, 0, 0])
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=0)
    assert (decode(buffer.getvalue()) == 255).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_a_channel_are_read_from_colour_pictures(channels):
    wide = RNG.integers(0, 65536, (5, 6, channels), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    header = struct.pack(">IIBBBBB", 6, 5, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    pieces = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    pixels = decode(b"\x89PNG\r\n\x1a\n" + pieces)
    colours = wide[..., : channels - 1] if channels in (2, 4) else wide
    share = wide[..., -1:] / 65535 if channels in (2, 4) else 1.0
    assert np.abs(pixels - (colours / 257 * share + 255 * (1 - share))).max() <= 2  # Pillow drops the lower byte


def test_sixteen_bits_a_channel_are_read_from_a_colour_tiff(tmp_path):
    wide = RNG.integers(0, 65536, (5, 6, 3), dtype=np.uint16)
    assert cv2.imwrite(str(tmp_path / "wide.tif"), wide[..., ::-1])
    assert np.abs(decode(tmp_path / "wide.tif") - wide / 257).max() <= 1


def test_cmyk_is_ink_on_white_paper_which_adobe_stores_inverted():
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 128]]], dtype=np.uint8)
    inks = np.kron(inks, np.ones((16, 16, 1), dtype=np.uint8))
    buffer = io.BytesIO()
    Image.fromarray(inks, "CMYK").save(buffer, "JPEG", quality=100, subsampling=0)
    data = buffer.getvalue()
    paper = (1 - inks[..., :3] / 255) * (1 - inks[..., 3:] / 255) * 255
    assert data.count(b"Adobe") == 1
    assert np.abs(decode(data) - paper).max() <= 3
    start = data.index(b"\xff\xee")  # without Adobe's marker its way is assumed all the same
    bare = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
    assert np.abs(decode(bare) - paper).max() <= 3


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_of_several_frames_the_first_one_is_taken(file_format):
    red, green, blue = (Image.new("RGB", (8, 6), colour) for colour in ("red", "green", "blue"))
    buffer = io.BytesIO()
    red.save(buffer, file_format, save_all=True, append_images=[green, blue])
    assert opened(buffer.getvalue()).n_frames == 3
    assert np.abs(decode(buffer.getvalue()).astype(int) - (255, 0, 0)).max() <= 2


def test_a_picture_of_one_pixel_is_read():
    for file_format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        assert (
            np.abs(decode(encoded(np.full((1, 1, 3), 200, np.uint8), format=file_format)).astype(int) - 200).max() <= 1
        )


UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    ("mode", "file_format"),
    [
        ("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "MPO"), ("RGB", "WEBP"),
        ("RGB", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG"), ("RGB", "TIFF"), ("I;16", "TIFF"),
    ],
)  # fmt: skip
def test_the_exif_orientation_is_applied_once(orientation, mode, file_format):
    picture = Image.fromarray(SMOOTH)
    if mode == "I;16":
        picture = Image.fromarray(SMOOTH[..., 0].astype(np.uint16) * 257)
    picture = picture if mode == "I;16" else picture.convert(mode)
    options = {"lossless": True} if file_format == "WEBP" else {}
    exif, plain, turned = Image.Exif(), io.BytesIO(), io.BytesIO()
    exif[0x0112] = orientation
    picture.save(plain, file_format, **options)
    picture.save(turned, file_format, exif=exif, **options)
    pixels, stored = decode(turned.getvalue()), decode(plain.getvalue())
    assert stored.shape == (60, 90, 3)
    np.testing.assert_array_equal(pixels, UPRIGHT[orientation](stored))
    by_pillow = ImageOps.exif_transpose(opened(turned.getvalue()))
    if mode != "RGBA":  # transparency is a rule of ours
        by_pillow = Image.fromarray((np.asarray(by_pillow) / 257).astype(np.uint8)) if "16" in mode else by_pillow
        np.testing.assert_array_equal(pixels, np.asarray(by_pillow.convert("RGB")))
    if mode in ("RGB", "L") and file_format == "JPEG":
        by_opencv = cv2.imdecode(np.frombuffer(turned.getvalue(), np.uint8), cv2.IMREAD_COLOR_RGB)
        np.testing.assert_array_equal(pixels, by_opencv)


def test_an_orientation_behind_the_pixels_of_a_png_counts():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(NOISE, format="PNG")
    late = data[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + data[-12:]
    np.testing.assert_array_equal(decode(late), np.rot90(NOISE, -1))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0no header", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\0" * 40])
def test_damaged_exif_does_not_cost_the_picture(exif):
    data = encoded(SMOOTH, format="JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    np.testing.assert_array_equal(decode(data[:2] + segment + data[2:]), decode(data))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_means_nothing_is_passed_over(value):
    exif = Image.Exif()
    exif[0x0112] = value
    np.testing.assert_array_equal(decode(encoded(NOISE, format="PNG", exif=exif)), NOISE)


# --- scaled JPEG ---


@pytest.mark.parametrize(
    ("at_least", "factor"), [(None, 1), (601, 1), (301, 1), (300, 2), (151, 2), (150, 4), (76, 4), (75, 8), (1, 8)]
)
def test_a_jpeg_is_read_smaller_where_its_shorter_side_still_has_enough(at_least, factor):
    data = encoded(np.zeros((600, 808, 3), np.uint8), format="JPEG")
    pixels = decode(data, at_least=at_least)
    assert pixels.shape == (600 // factor, 808 // factor, 3)
    assert min(pixels.shape[:2]) >= min(at_least or 600, 600)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}, {"subsampling": 0}])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_pixel_of_a_smaller_jpeg_is_the_mean_of_those_that_it_stands_for(options, factor):
    photograph = cv2.resize(SMOOTH, (640, 480), interpolation=cv2.INTER_CUBIC)
    data = encoded(photograph, format="JPEG", quality=95, **options)
    blocks = decode(data).reshape(480 // factor, factor, 640 // factor, factor, 3).mean(axis=(1, 3))
    assert np.abs(decode(data, at_least=480 // factor) - blocks).mean() < 1


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_smaller_jpeg_is_upright_too(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph = cv2.resize(SMOOTH, (320, 240), interpolation=cv2.INTER_CUBIC)
    small = decode(encoded(photograph, format="JPEG"), at_least=60)
    assert small.shape == (60, 80, 3)
    turned = decode(encoded(photograph, format="JPEG", exif=exif), at_least=60)
    np.testing.assert_array_equal(turned, UPRIGHT[orientation](small))


def test_other_formats_are_read_whole():
    for file_format in ("PNG", "WEBP", "TIFF", "BMP", "GIF"):
        assert decode(encoded(SMOOTH, format=file_format), at_least=5).shape == (60, 90, 3)


def test_a_truncated_jpeg_is_refused_at_any_scale():
    data = encoded(SMOOTH, format="JPEG", quality=95)
    for at_least in (30, 15, 7):
        with pytest.raises(ImageError, match="truncated"):
            decode(data[: len(data) // 2], at_least=at_least)


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("crop_fraction", [1.0, 0.875, 0.5])
def test_the_evaluation_says_how_much_it_needs_and_shows_the_same(fit, crop_fraction):
    how = EvalResize(32, fit, crop_fraction)
    photograph = cv2.resize(NOISE[:3, :4], (1600, 1200), interpolation=cv2.INTER_CUBIC)
    data = encoded(photograph, format="JPEG", quality=95)
    small = decode(data, at_least=how.at_least)
    assert small.shape[0] in (150, 300)
    assert small.shape[0] * crop_fraction >= 2 * how.size
    (pixels, view), (whole, whole_view) = (resize_for_eval(image, how) for image in (small, decode(data)))
    np.testing.assert_allclose(view, whole_view, atol=1 / 150)
    assert np.abs(pixels.astype(int) - whole).mean() < 1.5


def test_padding_after_the_jpeg_end_marker_changes_nothing():
    data = encoded(SMOOTH, format="JPEG")
    np.testing.assert_array_equal(decode(data + bytes(64)), decode(data))


@pytest.mark.photos
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="../shared/CUB_200_2011 is missing")
def test_photographs_have_pillows_pixels():
    for path in random.Random(0).sample(sorted(PHOTOS.glob("*/*.jpg")), 20):
        with Image.open(path) as picture:
            np.testing.assert_array_equal(decode(path), np.asarray(ImageOps.exif_transpose(picture).convert("RGB")))


# --- files that are no pictures ---


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}])
def test_a_truncated_jpeg_is_refused_wherever_it_ends(options):
    data = encoded(SMOOTH, format="JPEG", quality=95, **options)
    for length in (*range(30, len(data), len(data) // 8), len(data) - 20, len(data) - 3):
        assert "damaged" in message_of(data[:length])


@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"mode": "L"}])
def test_a_jpeg_without_its_end_marker_is_whole_and_that_is_said(options, lost):
    data = encoded(SMOOTH, format="JPEG", quality=95, **options)
    for at_least in (None, 30):
        pixels, warning = decode_with_warning(data[:-lost], "bird.jpg", at_least)
        np.testing.assert_array_equal(pixels, decode(data, at_least=at_least))
        assert warning == MENDED


def test_a_progressive_jpeg_without_its_end_may_lack_scans_and_is_refused():
    data = encoded(SMOOTH, format="JPEG", quality=95, progressive=True)
    assert "truncated" in message_of(data[: data.rindex(b"\xff\xda")])  # all scans but the last one
    assert "truncated" in message_of(data[:-2])


DETAILED = cv2.resize(RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8), (300, 200), interpolation=cv2.INTER_CUBIC)


def damaged(data: bytes, at: int | None = None) -> bytes:
    """Overwrite twenty bytes in the middle."""
    at = len(data) // 2 if at is None else at
    return data[:at] + random.Random(6).randbytes(20) + data[at + 20 :]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}, {"exif": 6}])
def test_twenty_bytes_overwritten_in_a_jpeg_are_told(options):
    options = dict(options)
    if "exif" in options:
        exif = Image.Exif()
        exif[0x0112] = options.pop("exif")
        options["exif"] = exif
    data = encoded(DETAILED, format="JPEG", quality=92, **options)
    assert decode_with_warning(data)[1] is None
    pixels, warning = decode_with_warning(damaged(data))
    assert warning.startswith("damaged picture (Corrupt JPEG data: ") and warning.isprintable()
    assert warning.endswith("), parts of it may be wrong; copy or download it again")
    with opened(damaged(data)) as picture:  # the pixels are those that Pillow saves, as before
        np.testing.assert_array_equal(pixels, np.asarray(ImageOps.exif_transpose(picture).convert("RGB")))
    np.testing.assert_array_equal(decode(damaged(data)), pixels)
    assert (pixels != decode(data)).any()


def test_most_damages_are_told_and_no_whole_file():
    data = encoded(DETAILED, format="JPEG", quality=92)
    told = 0
    for at in np.linspace(700, len(data) - 25, 100).astype(int).tolist():
        try:
            told += decode_with_warning(damaged(data, at))[1] is not None
        except ImageError:
            told += 1
    assert told >= 50
    for quality in (1, 30, 75, 100):
        for size in ((1, 1), (7, 9), (64, 64)):
            for options in ({}, {"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}):
                whole = encoded(cv2.resize(NOISE, size), format="JPEG", quality=quality, **options)
                assert decode_with_warning(whole)[1] is None


def test_the_first_frame_of_a_camera_file_is_looked_at():
    buffer = io.BytesIO()
    Image.fromarray(DETAILED).save(
        buffer, "MPO", save_all=True, append_images=[Image.fromarray(DETAILED[::-1].copy())], quality=92
    )
    data = buffer.getvalue()
    pixels, warning = decode_with_warning(data)
    assert warning is None
    np.testing.assert_array_equal(pixels, np.asarray(opened(data)))
    assert "Corrupt JPEG data" in decode_with_warning(damaged(data, len(data) // 4))[1]


def test_the_checksums_and_the_end_of_a_png_are_looked_at():
    data = encoded(NOISE, format="PNG")
    assert decode_with_warning(data)[1] is None and decode_with_warning(data + b"more")[1] is None
    for lost in (1, 4, 12):
        pixels, warning = decode_with_warning(data[:-lost])
        np.testing.assert_array_equal(pixels, NOISE)
        assert warning == MENDED
    wrong = data[:-16] + bytes(4) + data[-12:]  # the checksum of the pixels, whose own are right
    pixels, warning = decode_with_warning(wrong)
    np.testing.assert_array_equal(pixels, NOISE)
    assert warning.startswith("damaged picture (the checksum of a chunk IDAT is wrong)")


def test_warnings_of_many_threads_stay_with_their_files():
    data = encoded(DETAILED, format="JPEG", quality=92)
    files = [data, damaged(data), data[:-2], damaged(data, len(data) // 3)] * 25
    alone = [decode_with_warning(file)[1] for file in files[:4]] * 25
    with ThreadPoolExecutor(8) as pool:
        assert [warning for _, warning in pool.map(decode_with_warning, files)] == alone
    assert len(set(alone)) == 4


def test_a_truncated_or_altered_png_is_refused():
    data = encoded(NOISE, format="PNG")
    for length in (9, 40, len(data) // 2, len(data) - 60):
        message_of(data[:length])
    assert "broken" in message_of(data[:400] + bytes([data[400] ^ 255]) + data[401:])


LIMITS = "the limit is 120 million: save it smaller or raise max_pixels"
JPEG = encoded(SMOOTH, format="JPEG", quality=95)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty; copy or download it again"),
        (b"This page is not available.", "not a picture (it begins b'This pag'); remove it or save it as JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture (it begins b'%!PS-Ado')"),
        (JPEG[: len(JPEG) // 2], "damaged picture (image file is truncated ("),
        (JPEG[:-3], "damaged picture (image file is truncated ("),
        (JPEG[:20], "not a picture (it begins b'\\xff\\xd8\\xff\\xe0\\x00\\x10JF')"),
    ],
    ids=["zero bytes", "text", "PostScript", "half", "no end", "a header"],
)
def test_a_file_that_is_no_picture_is_named(tmp_path, content, message):
    path = tmp_path / "a bird, näher.jpg"
    path.write_bytes(content)
    assert message_of(path, None).startswith(f"{path}: {message}")
    assert message_of(content, "x").startswith(f"x: {message}") or not content


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert message_of(tmp_path, None) == f"{tmp_path}: a folder, not a picture"
    for device in (tmp_path / "pipe.jpg", Path("/dev/zero"), Path("/dev/null")):
        assert message_of(device, None) == f"{device}: a pipe, socket or device, not a file"
    assert message_of(tmp_path / "loop.jpg", None) == (
        f"{tmp_path}/loop.jpg: cannot be read (Too many levels of symbolic links)"
    )
    assert message_of(tmp_path / "none.jpg", None) == f"{tmp_path}/none.jpg: cannot be read (No such file or directory)"
    assert "cannot be read (File name too long)" in message_of(tmp_path / ("x" * 300), None)
    with pytest.raises(ImageError, match=r"^'a\\x00\.jpg': cannot be read \(.*null byte"):
        decode("a\0.jpg")
    with pytest.raises(ImageError, match=r"^<bytes>: the file is empty"):
        decode(b"")


def test_a_file_that_vanishes_or_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = tmp_path / "bird.jpg"
    path.write_bytes(JPEG)

    def vanish(self, *arguments, **options):
        path.unlink(missing_ok=True)
        return original(self, *arguments, **options)

    def forbid(*_, **__):
        raise PermissionError(13, "Permission denied")

    original = Path.open
    monkeypatch.setattr(Path, "open", vanish)
    assert message_of(path, None) == f"{path}: cannot be read (No such file or directory)"
    monkeypatch.setattr(Path, "open", original)
    path.write_bytes(JPEG)
    monkeypatch.setattr(Path, "open", forbid)
    assert message_of(path, None) == f"{path}: cannot be read (Permission denied)"


@pytest.mark.parametrize("name", ["two  words.jpg", "Grünspecht ♂.jpg", "b\udce9.jpg", "line\nbreak.jpg"])
def test_any_name_is_read_and_told_in_one_printable_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(JPEG)
    np.testing.assert_array_equal(decode(path), decode(JPEG))
    path.write_bytes(b"")
    with pytest.raises(ImageError) as caught:
        decode(path)
    assert str(caught.value).isprintable()
    assert (str(path) if name.isprintable() else repr(str(path))) in str(caught.value)


def test_a_small_file_of_400_million_pixels_is_refused_before_it_is_unpacked(monkeypatch):
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(20_000 * 2_501))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert len(bomb) < 100_000
    loaded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", loaded.append)
    assert message_of(bomb) == f"bird.jpg: 400 million pixels; {LIMITS}"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # whatever a user's own code has told Pillow
    assert message_of(bomb) == f"bird.jpg: 400 million pixels; {LIMITS}"
    assert loaded == []


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP", "PPM"])
def test_sizes_that_a_header_claims_are_refused(file_format):
    data = bytearray(encoded(NOISE, format=file_format))
    wide = 16_383 if file_format == "WEBP" else 50_000
    claims = {
        "JPEG": lambda: (data.index(b"\xff\xc0") + 5, struct.pack(">HH", wide, wide)),
        "PNG": lambda: (16, struct.pack(">II", wide, wide)),
        "BMP": lambda: (18, struct.pack("<ii", wide, wide)),
        "GIF": lambda: (6, struct.pack("<HH", wide, wide)),
        "WEBP": lambda: (data.index(b"\x9d\x01\x2a") + 3, struct.pack("<HH", wide, wide)),
        "PPM": lambda: (3, b"50000 50000\n255\n"),
        "TIFF": lambda: None,
    }
    if file_format == "TIFF":
        for tag in (256, 257):
            at = data.index(struct.pack("<HH", tag, 4)) if struct.pack("<HH", tag, 4) in data else None
            at = at if at is not None else data.index(struct.pack("<HH", tag, 3))
            data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, wide)
    else:
        at, claim = claims[file_format]()
        data[at : at + len(claim)] = claim
        if file_format == "PNG":
            data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    told = message_of(bytes(data), limits=Limits(any_format=True))
    assert told == f"bird.jpg: {wide * wide / 1e6:.0f} million pixels; {LIMITS}"


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000), 9)),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(80_000_000), 9)),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(80_000_000), 9)),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(80_000_000), 9)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(80_000_000), 9)),
        chunk(b"tEXt", b"Comment\0" + b"x" * 2_000_000),
    ],
    ids=["zTXt", "iTXt", "iCCP", "EXIF as text", "XMP", "tEXt"],
)
def test_texts_and_profiles_that_swell_change_nothing_and_cost_little_memory(extra):
    data = encoded(NOISE, format="PNG")
    tracemalloc.start()
    pixels, warning = decode_with_warning(data[:33] + extra + data[33:])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    np.testing.assert_array_equal(pixels, NOISE)
    assert warning is None


def scans(count: int, side: int = 1000) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = encoded(np.full((side, side, 3), 90, np.uint8), format="JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (count - data.count(b"\xff\xda")) + data[-2:]


def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded(monkeypatch):
    loaded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", loaded.append)
    monkeypatch.setattr(unpacking.simplejpeg, "decode_jpeg", lambda *_, **__: loaded.append(1))
    for count in (101, 1000):
        assert message_of(scans(count)) == "bird.jpg: a JPEG of over 100 scans, each over all pixels; save it again"
    assert loaded == []


def test_scans_are_counted_where_they_are(monkeypatch):
    """What looks like one in a thumbnail, in a text or behind the picture is none."""
    data = scans(100)
    expected = np.asarray(opened(data))
    np.testing.assert_array_equal(decode(data), expected)
    text = b"\xff\xda" * 5000
    segment = b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text
    np.testing.assert_array_equal(decode(data[:2] + segment + data[2:] + text), expected)


def test_the_limits_hold_for_bytes_and_files(tmp_path, monkeypatch):
    data = encoded(NOISE, format="PNG")
    (tmp_path / "big.png").write_bytes(data)
    assert message_of(data, limits=Limits(239)) == (
        "bird.jpg: 0 million pixels; the limit is 0.000239 million: save it smaller or raise max_pixels"
    )
    assert decode(data, limits=Limits(240)).shape == (12, 20, 3)
    monkeypatch.setattr(decoding, "MAX_BYTES", len(data) - 1)
    for source, name in ((data, "big.png"), (tmp_path / "big.png", None)):
        assert message_of(source, name) == f"{name or source}: 0 MiB; the limit is 0 MiB: save it smaller"


LOUD = r"""
import io, struct, sys
import cv2, numpy as np
from PIL import Image
from fgvc.images.decoding import ImageError, decode

Image.MAX_IMAGE_PIXELS = 4000  # 90 x 60 pixels are more, but not twice as many: Pillow warns
pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)

def encoded(file_format, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return bytearray(buffer.getvalue())

data = encoded("JPEG", quality=90)
middle = len(data) // 2
data[middle:middle + 40] = bytes(40)  # libjpeg: Corrupt JPEG data
if sys.argv[1:] == ["loud"]:
    cv2.imdecode(np.frombuffer(bytes(data), np.uint8), cv2.IMREAD_COLOR)
    Image.open(io.BytesIO(bytes(data)))
    sys.exit()
exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x02\0\0\xff\xff\0\0\xff\xff"
segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
kinds = {"corrupt": bytes(data), "exif": bytes(data[:2] + segment + data[2:])}
for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
    tiff = encoded("TIFF", compression=compression)
    tiff[300:340] = bytes(40)
    kinds[compression] = bytes(tiff)
png = encoded("PNG", icc_profile=b"no profile at all")
png[200] ^= 255
kinds["png"] = bytes(png)
read = 0
for kind, content in kinds.items():
    try:
        read += decode(content).shape == (60, 90, 3)
    except ImageError as error:
        print(error)
print(read, len(kinds))
"""


def test_no_library_talks_past_us(tmp_path):
    def run(*words):
        return subprocess.run([sys.executable, "-c", LOUD, *words], capture_output=True, text=True, check=True)

    loud = run("loud").stderr
    assert "Corrupt JPEG data" in loud  # what OpenCV lets through, and so why Pillow reads JPEG here
    done = run()
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1].split()[1] == "7"
    assert int(done.stdout.splitlines()[-1].split()[0]) >= 2


@pytest.mark.filterwarnings("ignore")  # pytest undoes the filter of fgvc.images.decoding
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_altered_bytes_end_in_pixels_or_an_image_error_and_nothing_else(file_format):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(NOISE, format=file_format, exif=exif)
    rng = random.Random(file_format)
    for _ in range(150):
        altered = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            altered[rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(300, len(data)))] = (
                rng.randrange(256)
            )
        try:
            assert decode(bytes(altered)).ndim == 3
        except ImageError:
            continue


def test_whatever_pillow_stumbles_over_is_an_image_error(monkeypatch):
    def stumble(*_):
        raise struct.error("required argument is not an integer")

    monkeypatch.setattr(unpacking, "from_pillow", stumble)
    assert "damaged picture (required argument" in message_of(encoded(NOISE, format="PNG"))


# --- the evaluation resize ---


def area_mean(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the mean over each target pixel's area, by a slow loop in float64."""
    out = np.zeros((height, width, 3))
    for i in range(height):
        for j in range(width):
            total = 0.0
            y0, y1 = (k * image.shape[0] / height for k in (i, i + 1))
            x0, x1 = (k * image.shape[1] / width for k in (j, j + 1))
            for y in range(int(y0), int(np.ceil(y1))):
                for x in range(int(x0), int(np.ceil(x1))):
                    weight = (min(y1, y + 1) - max(y0, y)) * (min(x1, x + 1) - max(x0, x))
                    out[i, j] += weight * image[y, x]
                    total += weight
            out[i, j] /= total
    return out


def test_shrinking_averages_over_areas():
    assert np.abs(resize(SMOOTH, 13, 17) - area_mean(SMOOTH, 13, 17)).max() <= 1
    by_pillow = np.asarray(Image.fromarray(SMOOTH).resize((30, 20), Image.Resampling.BOX), dtype=int)
    assert np.abs(resize(SMOOTH, 20, 30) - by_pillow).max() <= 1


def test_growing_is_smooth_and_the_same_size_is_left_alone():
    grown = resize(SMOOTH, 120, 180)
    by_pillow = np.asarray(Image.fromarray(SMOOTH).resize((180, 120), Image.Resampling.BICUBIC), dtype=int)
    assert np.abs(grown - by_pillow).mean() < 2
    same = resize(np.asfortranarray(NOISE), 12, 20)
    np.testing.assert_array_equal(same, NOISE)
    assert same.flags["C_CONTIGUOUS"]


def test_a_fine_checkerboard_turns_grey_where_a_naive_resize_aliases():
    board = np.tile((np.indices((128, 128)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None], (1, 1, 3))
    naive = cv2.resize(board, (43, 43), interpolation=cv2.INTER_LINEAR).astype(int)
    assert np.abs(naive - 127.5).max() > 50
    assert np.abs(resize(board, 43, 43) - 127.5).max() < 20


@pytest.mark.parametrize(
    ("how", "box"),
    [
        (EvalResize(10), (15, 0, 75, 60)),
        (EvalResize(10, "crop", 0.5), (30, 15, 60, 45)),
        (EvalResize(10, "squash"), (0, 0, 90, 60)),
        (EvalResize(10, "squash", 0.8), (9, 6, 81, 54)),
    ],
)
def test_crop_and_squash_show_the_part_that_their_view_states(how, box):
    pixels, view = resize_for_eval(SMOOTH, how.check())
    left, top, right, bottom = box
    np.testing.assert_allclose(view, [left / 90, top / 60, right / 90, bottom / 60], atol=1e-6)
    assert (pixels.shape, view.dtype) == ((10, 10, 3), np.float32)
    assert np.abs(pixels - area_mean(SMOOTH[top:bottom, left:right], 10, 10)).max() <= 1


def test_a_photograph_of_one_pixel_and_a_strip_can_be_resized():
    assert (resize_for_eval(NOISE[:1, :1], EvalResize(4, "crop", 0.1))[0] == NOISE[0, 0]).all()
    assert resize_for_eval(NOISE[:1], EvalResize(4, "squash", 0.1))[0].shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (EvalResize(10, "stretch"), "'crop' or 'squash'"),
        (EvalResize(0), "size 0"),
        (EvalResize(10, "crop", 0.0), r"crop_fraction 0\.0"),
        (EvalResize(10, "crop", 1.1), r"crop_fraction 1\.1"),
    ],
)
def test_values_outside_their_range_are_refused(how, message):
    with pytest.raises(UsageError, match=message):
        how.check()
