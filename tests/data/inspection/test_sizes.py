import os

import numpy as np
import pytest
from PIL import Image

from fgvc.data.inspection.sizes import sample, sizes, table
from fgvc.data.records import Records
from fgvc.images.decoding import decode
from fgvc.images.headers import Header, header


def photo(path, width, height, orientation=1):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
def test_the_size_is_that_of_the_upright_photograph(tmp_path, suffix, orientation):
    path = tmp_path / f"a.{suffix}"
    photo(path, 30, 20, orientation)
    found = header(str(path))
    assert found.size == path.stat().st_size and not found.error
    if suffix in ("png", "tif"):  # of a PNG that would cost a decoding; a TIFF is turned by new Pillows only
        assert {found.width, found.height} == {30, 20}
    else:
        assert (found.height, found.width) == decode(path).shape[:2]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("gone.jpg", "No such file or directory"),
        ("text.jpg", "not a picture (it begins b'hello'); remove it or save it as JPEG"),
        ("folder.jpg", "not a file"),
        ("pipe.jpg", "not a file"),
        ("loop.jpg", "Too many levels of symbolic links"),
        ("null\0.jpg", "ValueError: embedded null byte"),
    ],
)
def test_what_has_no_header_is_told(tmp_path, name, error):
    (tmp_path / "text.jpg").write_bytes(b"hello")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert header(str(tmp_path / name)) == Header(0, 0, 0, error)


def test_a_picture_that_claims_too_many_pixels_is_told(tmp_path):
    (tmp_path / "bomb.pgm").write_bytes(b"P5 20000 20000 255\n")
    assert header(str(tmp_path / "bomb.pgm")).error.startswith("DecompressionBombError: Image size (400000000 pixels)")


def test_a_sample_is_the_same_each_time_and_has_no_position_twice():
    first = sample(5000, 300)
    assert first.tolist() == sample(5000, 300).tolist() == sorted(set(first.tolist()))
    assert len(first) == 300 and first[0] >= 0 and first[-1] < 5000
    assert 2000 < first.mean() < 3000  # of all splits
    assert sample(7, 300).tolist() == sample(7, None).tolist() == list(range(7))
    assert len(sample(0, None)) == 0


def test_quantiles_are_those_of_the_readable_files(tmp_path):
    for i in range(21):
        photo(tmp_path / f"{i}.png", 20 + i, 100 - i)
    (tmp_path / "21.png").write_bytes(b"hello")
    names = [f"{i}.png" for i in range(22)]
    splits = {
        "train": Records(names[:5], np.zeros(5, dtype=np.int32), tmp_path),
        "test": Records(names[5:], np.zeros(17, dtype=np.int32), tmp_path),
    }
    found = sizes(splits, None)
    heavy = [(tmp_path / name).stat().st_size / 1e6 for name in names[:21]]
    assert (found["images"], found["of"], found["unreadable"]) == (22, 22, 1)
    assert found["width"] == [20, 21, 30, 39, 40] and found["height"] == [80, 81, 90, 99, 100]
    assert found["megabytes"] == pytest.approx(np.quantile(heavy, [0, 0.05, 0.5, 0.95, 1]), abs=1e-6)
    assert found["mean_megabytes"] == pytest.approx(np.mean(heavy), abs=1e-6)
    assert found["first_unreadable"] == (
        f"{tmp_path / '21.png'}: not a picture (it begins b'hello'); remove it or save it as JPEG"
    )
    assert sizes(splits, 3)["images"] == 3


def test_the_table_says_what_was_measured():
    plain = {
        "images": 3, "of": 1000, "width": [1, 2, 3, 4, 5000], "height": [1, 2, 3, 4, 5],
        "megabytes": [0.1, 0.2, 0.3, 0.4, 12.5], "mean_megabytes": 2.5,
        "unreadable": 1, "first_unreadable": "a.jpg: gone",
    }  # fmt: skip
    assert list(table(plain)) == [
        "size           least       5 %      50 %      95 %      most",
        "width              1         2         3         4     5,000",
        "height             1         2         3         4         5",
        "megabytes      0.100     0.200     0.300     0.400    12.500",
        "from the headers of 3 of 1,000 images; about 2,500.0 MB in all",
        "1 could not be read (first: a.jpg: gone); see fgvc data verify",
    ]


def test_nothing_readable_is_no_error(tmp_path):
    found = sizes({"train": Records(["gone.jpg"], [0], tmp_path)}, 10)
    assert found["width"] is None and found["unreadable"] == 1
    assert list(table(found))[1:5] == [
        *("width", "height", "megabytes"),
        "from the headers of 1 images",
    ]
