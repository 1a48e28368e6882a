import io
import random
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from fgvc import images
from fgvc.errors import UsageError
from fgvc.images import EvalResize, ImageError, decode, resize, resize_for_eval

PHOTOS = Path(__file__).parents[1].parent / "shared" / "CUB_200_2011" / "images"
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)
SMOOTH = np.asarray(Image.fromarray(NOISE).resize((90, 60), Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray, mode: str | None = None, **options) -> bytes:
    picture = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(buffer, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def message_of(source: bytes | str | Path, name: str | None = "bird.jpg") -> str:
    with pytest.raises(ImageError) as caught:
        decode(source, name)
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
    np.testing.assert_array_equal(decode(encoded(NOISE, format=file_format)), NOISE)


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


@pytest.mark.parametrize("top", [65535, 200])
def test_sixteen_bits_are_scaled_by_257_dark_pictures_too(top):
    wide = RNG.integers(0, top + 1, (6, 7), dtype=np.uint16)
    pixels = decode(encoded(wide, format="PNG"))
    assert np.abs(pixels.astype(float) - (wide / 257)[..., None]).max() <= 0.5


def test_floats_that_are_no_numbers_turn_black():
    floats = np.array([[np.nan, 0, 255], [12.4, -3, np.nan]], dtype=np.float32)
    assert decode(encoded(floats, format="TIFF"))[..., 1].tolist() == [[0, 0, 255], [12, 0, 0]]


def test_of_an_animation_the_first_frame_is_taken():
    red, blue = (Image.new("RGB", (8, 6), colour) for colour in ("red", "blue"))
    buffer = io.BytesIO()
    red.save(buffer, "GIF", save_all=True, append_images=[blue])
    assert (decode(buffer.getvalue()) == (255, 0, 0)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("mode", "file_format"), [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG")])
def test_the_exif_orientation_is_applied_once(orientation, mode, file_format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(SMOOTH, mode, format=file_format, exif=exif)
    np.testing.assert_array_equal(decode(data), np.asarray(ImageOps.exif_transpose(opened(data)).convert("RGB")))


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
    for length in (*range(30, len(data), len(data) // 8), len(data) - 20, len(data) - 1):
        assert "damaged" in message_of(data[:length])


def test_a_truncated_jpeg_is_refused_under_an_opencv_that_returns_it_half_grey(monkeypatch):
    data = encoded(SMOOTH, format="JPEG")
    half_grey = np.full((60, 90, 3), 128, np.uint8)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: half_grey)  # as OpenCV 4.10 and 4.11 do
    assert "truncated" in message_of(data[: len(data) // 2])
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    assert "no JPEG data that OpenCV can read" in message_of(data)


def test_a_truncated_or_altered_png_is_refused():
    data = encoded(NOISE, format="PNG")
    for length in (9, 40, len(data) // 2, len(data) - 60):
        message_of(data[:length])
    assert "broken" in message_of(data[:400] + bytes([data[400] ^ 255]) + data[401:])


def test_a_file_that_is_empty_missing_a_folder_or_text_is_named(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("This page is not available.")
    assert "the file is empty" in message_of(tmp_path / "empty.jpg", None)
    assert "not a picture (it begins b'This pag')" in message_of(tmp_path / "text.jpg", None)
    assert "No such file" in message_of(tmp_path / "none.jpg", None)
    assert "Is a directory" in message_of(tmp_path, None)
    assert "null byte" in message_of("a\0.jpg", None)
    with pytest.raises(ImageError, match=r"^<bytes>: the file is empty"):
        decode(b"")


def test_a_small_file_of_400_million_pixels_is_refused_before_it_is_unpacked():
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(20_000 * 2_501))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert len(bomb) < 100_000
    assert "the limit is 175 million" in message_of(bomb)


def test_the_limits_hold_for_bytes_and_files(tmp_path, monkeypatch):
    data = encoded(NOISE, format="PNG")
    (tmp_path / "big.png").write_bytes(data)
    monkeypatch.setattr(images, "MAX_PIXELS", 200)
    assert "20 x 12 pixels" in message_of(data)
    monkeypatch.setattr(images, "MAX_BYTES", len(data) - 1)
    assert "MiB; the limit is" in message_of(data)
    assert "MiB; the limit is" in message_of(tmp_path / "big.png", None)


@pytest.mark.filterwarnings("ignore")
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
    def stumble(_picture):
        raise struct.error("required argument is not an integer")

    monkeypatch.setattr(images, "from_pillow", stumble)
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
