import io
import sys

import numpy as np
import pytest
from PIL import Image

from fgvc.images.decoding import ImageError, Limits, decode
from fgvc.images.formats import FORMATS, HEAD, format_of

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def saved(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 90, 30)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("one", [one for one in FORMATS if one.name != "HEIC"], ids=lambda one: one.name)
def test_each_format_is_known_by_its_first_bytes_and_read(one):
    data = saved(one.pillow[0])
    assert format_of(data[:HEAD]) == one
    pixels = decode(data, limits=Limits(any_format=True))
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels.astype(int) - (200, 90, 30)).max() <= 6
    if one.usual:
        np.testing.assert_array_equal(decode(data), pixels)
    else:
        with pytest.raises(ImageError) as caught:
            decode(data, "x")
        assert str(caught.value) == f"x: {one.name} is read by option only; give any_format, or save it as PNG"


@pytest.mark.parametrize("brands", [b"mif1\0\0\0\0mif1avif", b"msf1\0\0\0\0msf1miafavif", b"avis\0\0\0\0msf1"])
def test_avif_of_other_brands_is_no_heic(brands):
    head = b"\0\0\0\x20ftyp" + brands
    assert format_of(head).name == "AVIF"
    assert format_of(HEIC).name == "HEIC"


@pytest.mark.parametrize("head", [b"", b"BM", b"BMW is a maker of cars", b"P1x", b"\0\0\0\x20ftypisom\0\0\0\0mp41"])
def test_what_is_no_picture_has_no_format(head):
    assert format_of(head) is None


def test_heic_without_its_package_names_format_and_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    (tmp_path / "IMG_1.HEIC").write_bytes(HEIC)
    with pytest.raises(ImageError) as caught:
        decode(tmp_path / "IMG_1.HEIC")
    told = 'IMG_1.HEIC: HEIC is read with pillow-heif only; pip install "fgvc[heic]", or save it as JPEG'
    assert str(caught.value) == f"{tmp_path}/{told}"


def test_heic_is_read_upright():
    heif = pytest.importorskip("pillow_heif")
    top = Image.new("RGB", (96, 64), "red")
    top.paste("blue", (0, 32, 96, 64))
    exif = Image.Exif()
    exif[0x112] = 6
    for turn in (None, exif):
        buffer = io.BytesIO()
        heif.from_pillow(top).save(buffer, quality=90, **({} if turn is None else {"exif": turn.tobytes()}))
        pixels = decode(buffer.getvalue()).astype(int)
        upright = np.asarray(top) if turn is None else np.rot90(np.asarray(top), -1)
        assert pixels.shape == upright.shape and np.abs(pixels - upright).mean() <= 4


def test_avif_without_its_reader_says_so(monkeypatch):
    monkeypatch.setattr("fgvc.images.formats.features.check", lambda name: False)
    with pytest.raises(ImageError, match=r"x: AVIF is read by Pillow 11\.3 or later only; install it, or save it"):
        decode(saved("AVIF"), "x")


def test_avif_is_turned_by_its_exif():
    exif = Image.Exif()
    exif[0x112] = 6
    assert decode(saved("AVIF", exif=exif)).shape == (64, 48, 3)
