import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fgvc.data import dataset as module
from fgvc.data.dataset import PhotoDataset
from fgvc.data.loaders import EvalLoader, collate
from fgvc.data.records import Records
from fgvc.data.transforms import Augmentation, EvalTransform, TrainTransform
from fgvc.datatypes import Sample
from fgvc.images.decoding import ImageError
from fgvc.images.resizing import EvalResize


def write(path, seed=0, size=(20, 16)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


class Spy:
    """A transform that keeps the seeds it is handed."""

    at_least = 1

    def __init__(self, asked):
        self.asked = asked

    def __call__(self, image, seed):
        self.asked.append(tuple(seed))
        return image, np.zeros(4, dtype=np.float32)


def centre_cut(pixels, side):
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return pixels[top : top + side, left : left + side]


@pytest.fixture
def photos(tmp_path):
    """Three PNGs, so that their pixels are known, and their records."""
    pixels = [write(tmp_path / f"{i}.png", i) for i in range(3)]
    return pixels, Records([f"{i}.png" for i in range(3)], [7, -1, 4], tmp_path)


def test_a_sample_is_the_picture_its_label_its_position_and_its_view(photos):
    pixels, records = photos
    dataset = PhotoDataset(records, EvalTransform(EvalResize(16)))
    assert len(dataset) == 3
    for index, label in enumerate([7, -1, 4]):
        sample = dataset[(5, index)]
        assert isinstance(sample, Sample)
        assert (sample.image.dtype, sample.image.shape) == (torch.uint8, (3, 16, 16))
        assert np.array_equal(sample.image.numpy().transpose(1, 2, 0), centre_cut(pixels[index], 16))
        assert (sample.label.dtype, sample.label.shape, int(sample.label)) == (torch.int64, (), label)
        assert (sample.index.dtype, sample.index.shape, int(sample.index)) == (torch.int64, (), index)
        assert sample.view.dtype == torch.float32
        assert sample.view.tolist() == pytest.approx([2 / 20, 0, 18 / 20, 1])


def test_the_transform_is_handed_the_seed_the_epoch_and_the_index(photos):
    asked = []

    dataset = PhotoDataset(photos[1], Spy(asked), seed=11)
    dataset[(3, 2)], dataset[(4, 0)]
    assert asked == [(11, 3, 2), (11, 4, 0)]


def test_a_picture_of_the_right_size_can_be_written_to(photos):
    # Pillow hands out read-only pixels, which torch warns of; nothing is resized here that would copy them.
    _, records = photos
    image = PhotoDataset(records, EvalTransform(EvalResize(16)))[(0, 0)].image
    before = image.clone()
    image += 1
    assert torch.equal(image, before + 1)


@pytest.mark.parametrize(
    "transform",
    [EvalTransform(EvalResize(16, "crop", 0.8)), TrainTransform(16, Augmentation(color_jitter=0))],
    ids=["eval", "train"],
)
def test_a_large_jpeg_is_read_at_the_scale_that_the_transform_needs(tmp_path, transform):
    rng = np.random.default_rng(0)
    photograph = cv2.resize(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(photograph).save(tmp_path / "large.jpg", quality=95)
    asked = []
    spy = Spy(asked)
    spy.at_least = transform.at_least
    shown = PhotoDataset(Records(["large.jpg"], [0], tmp_path), spy)[(0, 0)].image
    assert shown.shape == (3, 60, 80)
    sample = PhotoDataset(Records(["large.jpg"], [0], tmp_path), transform)[(0, 0)]
    pixels, view = transform(photograph, (0, 0, 0))
    assert np.abs(sample.image.permute(1, 2, 0).numpy().astype(int) - pixels).mean() < 2
    assert sample.view.numpy() == pytest.approx(view, abs=1 / 60)


# --- files that cannot be read ---


@pytest.fixture
def broken(tmp_path):
    """Forty pictures, of which those at 3, 10 and 20 cannot be read."""
    pixels = [write(tmp_path / f"{i}.png", i) for i in range(40)]
    (tmp_path / "3.png").write_bytes(b"")
    (tmp_path / "10.png").write_text("This page is not available.")
    (tmp_path / "20.png").unlink()
    return pixels, Records([f"{i}.png" for i in range(40)], list(range(40)), tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty; copy or download it again"),
        (b"no picture", "not a picture (it begins b'no pictu'); remove it or save it as JPEG"),
        (None, "cannot be read (No such file or directory)"),
    ],
    ids=["empty", "text", "missing"],
)
def test_a_bad_file_is_named_with_its_place_and_a_way_out(photos, tmp_path, content, reason):
    path = tmp_path / "1.png"
    path.unlink() if content is None else path.write_bytes(content)
    dataset = PhotoDataset(photos[1], EvalTransform(EvalResize(8)), split="val")
    dataset[(0, 0)]
    with pytest.raises(ImageError) as caught:
        dataset[(0, 1)]
    advice = "or go on without it: --data.on_bad_image skip"
    assert str(caught.value) == f"{path}: {reason} (val image 2 of 3), {advice}"


def test_another_image_is_drawn_in_place_of_a_bad_one(broken):
    pixels, records = broken
    asked = []
    dataset = PhotoDataset(records, Spy(asked), 5, "train", "replace", torch.zeros(40, dtype=torch.bool))
    good = dataset[(1, 4)]
    assert (int(good.index), int(good.label)) == (4, 4)
    shown = {}
    for epoch in range(30):
        sample = dataset[(epoch, 3)]
        shown[epoch] = int(sample.index)
        assert int(sample.label) == shown[epoch]
        assert np.array_equal(sample.image.numpy().transpose(1, 2, 0), pixels[shown[epoch]])
    assert not {3, 10, 20} & set(shown.values())
    assert len(set(shown.values())) > 10  # not always the same one
    assert asked == [(5, 1, 4), *((5, epoch, 3) for epoch in range(30))]
    again = PhotoDataset(records, Spy([]), 5, "train", "replace")  # a resumed run: a function of the three numbers
    assert {epoch: int(again[(epoch, 3)].index) for epoch in range(30)} == shown
    other = PhotoDataset(records, Spy([]), 6, "train", "replace")
    assert {epoch: int(other[(epoch, 3)].index) for epoch in range(30)} != shown
    assert dataset.unreadable[3] and not dataset.unreadable[4]


def test_where_no_image_can_be_read_the_search_ends(tmp_path, monkeypatch):
    records = Records([f"{i}.png" for i in range(1000)], [0] * 1000, tmp_path)
    tried = []
    monkeypatch.setattr(module, "decode_with_warning", lambda path, **_: tried.append(path) or refuse(path))
    with pytest.raises(ImageError) as caught:
        PhotoDataset(records, Spy([]), 0, "train", "replace")[(0, 7)]
    assert len(tried) == 100 and tried[0].endswith("/7.png")
    assert str(caught.value) == (
        f"none of {len(set(tried))} train images that were tried can be read; is their folder there? "
        f"One of them: {tmp_path}/7.png: gone"
    )


def refuse(path):
    raise ImageError(f"{path}: gone")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_evaluation_leaves_bad_images_out(broken, workers):
    pixels, records = broken
    unreadable = torch.zeros(40, dtype=torch.bool).share_memory_()
    dataset = PhotoDataset(records, EvalTransform(EvalResize(16)), 0, "val", "leave_out", unreadable)
    sampler = [(0, index) for index in [0, 3, 1, 10, 20, 2]]
    loader = EvalLoader(dataset, sampler=sampler, batch_size=2, collate_fn=collate, num_workers=workers)
    batches = list(loader)
    assert [batch.index.tolist() for batch in batches] == [[0], [1], [2]]
    assert [batch.label.tolist() for batch in batches] == [[0], [1], [2]]
    for batch, index in zip(batches, range(3), strict=True):
        assert np.array_equal(batch.image[0].numpy().transpose(1, 2, 0), centre_cut(pixels[index], 16))
    assert unreadable.nonzero()[:, 0].tolist() == [3, 10, 20]  # told by the worker processes
    loader = EvalLoader(dataset, sampler=[(0, 3), (0, 10), (0, 0)], batch_size=2, collate_fn=collate)
    assert [batch.index.tolist() for batch in loader] == [[0]]  # a batch without any image is passed over
    assert [batch.index.tolist() for batch in loader] == [[0]]


def test_a_guessed_range_is_told_once_for_all_worker_processes(tmp_path, capfd):
    names = [f"{i}.png" for i in range(6)]
    for i, name in enumerate(names):
        values = np.random.default_rng(i).integers(0, 4096, (9, 8), dtype=np.uint16)
        Image.fromarray(values).save(tmp_path / name)
    dataset = PhotoDataset(Records(names, [0] * 6, str(tmp_path)), EvalTransform(EvalResize(8)))
    for _ in range(2):
        sampler = [(0, i) for i in range(6)]
        loader = EvalLoader(dataset, sampler=sampler, batch_size=6, num_workers=1, collate_fn=collate)
        (batch,) = loader
        assert batch.image.amax() > 200
    told = [line for line in capfd.readouterr().err.splitlines() if "range of values" in line]
    assert len(told) == 1 and told[0].startswith(f"{tmp_path}/0.png: the range of values is not stated: its largest")
    assert told[0].endswith("is white; more such files are not told")
