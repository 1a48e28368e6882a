import numpy as np
import pytest
import torch
from PIL import Image

from fgvc.data.dataset import PhotoDataset, collate
from fgvc.data.transforms import Augmentation, EvalTransform, TrainTransform
from fgvc.datatypes import Records, Sample
from fgvc.images import EvalResize, ImageError


def write(path, seed=0, size=(20, 16)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


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

    def spy(image, seed):
        asked.append(tuple(seed))
        return image, np.zeros(4, dtype=np.float32)

    dataset = PhotoDataset(photos[1], spy, seed=11)
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
    [EvalTransform(EvalResize(8)), TrainTransform(8, Augmentation(scale=(0.5, 1.0)))],
    ids=["eval", "train"],
)
def test_a_batch_stacks_samples_and_lies_channels_last(photos, transform):
    dataset = PhotoDataset(photos[1], transform)
    samples = [dataset[(0, index)] for index in (2, 0, 1)]
    batch = collate(samples)
    assert isinstance(batch, Sample)
    assert (batch.image.dtype, batch.image.shape) == (torch.uint8, (3, 3, 8, 8))
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    assert (batch.label.dtype, batch.label.tolist()) == (torch.int64, [4, 7, -1])
    assert (batch.index.dtype, batch.index.tolist()) == (torch.int64, [2, 0, 1])
    assert (batch.view.dtype, batch.view.shape) == (torch.float32, (3, 4))
    for position, sample in enumerate(samples):
        assert torch.equal(batch.image[position], sample.image)
        assert torch.equal(batch.view[position], sample.view)


def test_a_batch_of_one_keeps_its_dimension(photos):
    batch = collate([PhotoDataset(photos[1], EvalTransform(EvalResize(8)))[(0, 1)]])
    assert [tuple(part.shape) for part in batch] == [(1, 3, 8, 8), (1,), (1,), (1, 4)]
    assert batch.image.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("content", [b"", b"no picture", None], ids=["empty", "text", "missing"])
def test_a_bad_file_is_named(photos, tmp_path, content):
    path = tmp_path / "1.png"
    path.unlink() if content is None else path.write_bytes(content)
    dataset = PhotoDataset(photos[1], EvalTransform(EvalResize(8)))
    dataset[(0, 0)]
    with pytest.raises(ImageError, match=r"1\.png: "):
        dataset[(0, 1)]
