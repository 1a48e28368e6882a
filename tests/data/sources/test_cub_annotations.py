import pickle
from pathlib import Path

import pytest
from fakes.cub import make_fake_cub
from PIL import Image

from fgvc.data.sources.cub import CUB
from fgvc.errors import UsageError
from fgvc.images.decoding import ImageError, decode

PHOTOS = Path(__file__).parents[4] / "shared" / "CUB_200_2011"
needs_photos = pytest.mark.skipif(not PHOTOS.is_dir(), reason="../shared/CUB_200_2011 is missing")


@pytest.fixture
def small(tmp_path) -> Path:
    """Five classes of 24 images, 12 of them for training."""
    return make_fake_cub(tmp_path / "CUB_200_2011", num_classes=5, images_per_class=24)


def image_ids(root: Path) -> dict[str, int]:
    lines = [line.split() for line in (root / "images.txt").read_text().splitlines()]
    return {path: int(image) for image, path in lines}


def test_boxes_and_parts_are_fractions_of_the_photograph(small):
    found = CUB(str(small)).annotations("test", 3)
    # x 4, y 8, width 20, height 16 and the beak at (10, 8), in 40 x 32 pixels
    assert found.boxes == {"object": pytest.approx((0.1, 0.25, 0.6, 0.75))}
    assert found.points == {"beak": pytest.approx((0.25, 0.25))}


def test_an_annotation_belongs_to_its_own_record_under_every_protocol(small):
    ids = image_ids(small)
    lines = [f"{image} {image % 17}.0 1.0 2.0 3.0" for image in ids.values()]
    (small / "bounding_boxes.txt").write_text("\n".join(lines))
    for protocol in ("standard", "dev", "few_shot_frn"):
        source = CUB(str(small), protocol=protocol)
        for split in source.splits:
            records = source.records(split)
            for i in range(len(records)):
                x = source.annotations(split, i).boxes["object"][0]
                assert x * 40 == pytest.approx(ids[records.relative_path(i)] % 17, abs=1e-5)


def test_a_box_that_leaves_the_photograph_is_cut_at_its_border(small):
    first = min(image_ids(small).values())
    (small / "bounding_boxes.txt").write_text(f"{first} 30.0 -2.0 20.0 50.0\n")
    source = CUB(str(small))
    assert source.annotations("train", 0).boxes == {"object": (0.75, 0.0, 1.0, 1.0)}
    assert source.annotations("train", 1).boxes == {}


def test_the_index_and_the_annotations_decode_no_pixels(small, monkeypatch):
    def refuse(*args):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(Image.Image, "load", refuse)
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.load", refuse)
    assert CUB(str(small)).annotations("train", 0).boxes


def test_a_source_travels_to_a_worker_and_answers_alike(small):
    source = CUB(str(small))
    twin = pickle.loads(pickle.dumps(source))  # noqa: S301 (our own bytes)
    assert twin.records("train")[7] == source.records("train")[7]
    assert twin.annotations("train", 7) == source.annotations("train", 7)


def test_missing_boxes_and_a_damaged_photograph_are_named_only_when_asked_for(small):
    (small / "bounding_boxes.txt").unlink()
    source = CUB(str(small))
    with pytest.raises(UsageError, match=r"bounding_boxes\.txt: cannot be read"):
        source.annotations("train", 0)
    Path(source.records("train")[1].path).write_bytes(b"no picture")
    with pytest.raises(ImageError, match="width and height cannot be read"):
        source.annotations("train", 1)


@pytest.mark.photos
@needs_photos
def test_every_real_box_and_part_lies_inside_its_photograph():
    source = CUB(str(PHOTOS))
    for split in source.splits:
        for i in range(len(source.records(split))):
            found = source.annotations(split, i)
            x1, y1, x2, y2 = found.boxes["object"]
            assert 0 <= x1 < x2 <= 1
            assert 0 <= y1 < y2 <= 1
            assert found.points
            assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y in found.points.values())


@pytest.mark.photos
@needs_photos
def test_real_boxes_hold_the_pixels_that_the_file_names():
    source = CUB(str(PHOTOS))
    x1, y1, x2, y2 = source.annotations("train", 0).boxes["object"]
    height, width = decode(source.records("train")[0].path).shape[:2]
    line = (PHOTOS / "bounding_boxes.txt").read_text().splitlines()[0]  # the first image of all, a training image
    assert line.split()[0] == "2"
    given = [x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height]
    assert given == pytest.approx([float(word) for word in line.split()[1:]], abs=1e-3)
