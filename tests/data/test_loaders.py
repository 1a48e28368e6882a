import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from fgvc.data.loaders import EvalLoader, TrainLoader, collate
from fgvc.data.samplers import TrainSampler
from fgvc.datatypes import Places, Sample

ORDER = {"data.batch_size": 3, "data.seed": 5, "training images": 14, "processes": 1}


class Keys(Dataset):
    """Hands back what it is asked for."""

    def __len__(self):
        return 14

    def __getitem__(self, key):
        return torch.tensor(key)


def loader(workers=0, balance="uniform", **order):
    sampler = TrainSampler(np.arange(14, dtype=np.int32) % 4, balance, seed=5)
    more = {"num_workers": workers, "persistent_workers": workers > 0}
    return TrainLoader(Keys(), sampler=sampler, order={**ORDER, **order}, batch_size=3, drop_last=True, **more)


def epochs(found, first, last):
    """Return the keys of each batch of these epochs, as Lightning asks for them."""
    batches = []
    for epoch in range(first, last):
        found.sampler.set_epoch(epoch)
        batches += [batch.tolist() for batch in found]
    return batches


@pytest.mark.parametrize("balance", ["uniform", "class_balanced"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_pass_is_the_rest_of_its_epoch_and_the_next_one_is_whole(workers, balance):
    straight = epochs(loader(balance=balance), 0, 4)
    assert len(straight) == 16
    stopped = loader(workers, balance)
    epochs(stopped, 0, 2)
    stopped.sampler.set_epoch(2)
    some = iter(stopped)
    seen = [next(some).tolist() for _ in range(3)]
    resumed = loader(workers, balance)
    resumed.load_state_dict(stopped.state_dict())
    assert seen == straight[8:11]
    rest = [batch.tolist() for batch in resumed]  # the epoch came with the state: workers are sent off before set_epoch
    assert rest == straight[11:12]
    assert epochs(resumed, 3, 4) == straight[12:]
    assert len(resumed) == 4  # of the whole epoch: Lightning counts on


def test_after_a_whole_epoch_comes_the_next_one():
    done = loader()
    epochs(done, 0, 1)
    resumed = loader()
    resumed.load_state_dict(done.state_dict())
    assert [batch.tolist() for batch in resumed] == epochs(loader(), 1, 2)


def test_the_state_counts_on_after_a_resume():
    found = loader()
    found.load_state_dict({"epoch": 7, "batches": 2, "order": ORDER})
    next(iter(found))
    assert found.state_dict() == {"epoch": 7, "images": 9, "order": ORDER}


@pytest.mark.parametrize("name", list(ORDER))
def test_inside_an_epoch_the_order_must_be_the_same(name):
    changed = loader(**{name: 2})
    for whole in ({"images": 0}, {"images": 12}, {"batches": 4}):
        changed.load_state_dict({"epoch": 7, **whole, "order": ORDER})
    assert changed.changed({"order": ORDER}) == {name: (ORDER[name], 2)}
    assert loader().changed({"order": ORDER}) == {}
    with pytest.raises(ValueError, match="the order of the images has changed"):
        changed.load_state_dict({"epoch": 7, "images": 3, "order": ORDER})


def sample(index, label):
    """A Sample of random pixels whose colours lie last in memory, as those that a transform makes."""
    draw = torch.Generator().manual_seed(index)
    pixels = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8, generator=draw)
    return Sample(pixels.permute(2, 0, 1), torch.tensor(label), torch.tensor(index), torch.rand(4, generator=draw))


def test_a_batch_stacks_samples_and_lies_channels_last():
    samples = [sample(2, 4), sample(0, 7), sample(1, -1)]
    batch = collate([samples[0], None, *samples[1:]])
    assert isinstance(batch, Sample)
    assert (batch.image.dtype, batch.image.shape) == (torch.uint8, (3, 3, 8, 8))
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    assert (batch.label.dtype, batch.label.tolist()) == (torch.int64, [4, 7, -1])
    assert (batch.index.dtype, batch.index.tolist()) == (torch.int64, [2, 0, 1])
    assert (batch.view.dtype, batch.view.shape) == (torch.float32, (3, 4))
    for position, one in enumerate(samples):
        assert torch.equal(batch.image[position], one.image)
        assert torch.equal(batch.view[position], one.view)


def test_a_batch_of_one_keeps_its_dimension():
    batch = collate([sample(1, 5)])
    assert [tuple(part.shape) for part in batch[:4]] == [(1, 3, 8, 8), (1,), (1,), (1, 4)]
    assert batch.places is None
    assert batch.image.is_contiguous(memory_format=torch.channels_last)


def test_places_are_stacked_where_the_samples_have_them():
    boxes, points = torch.rand(3, 4), torch.rand(3, 2, 2)
    samples = [sample(i, i)._replace(places=Places(boxes[i], points[i])) for i in range(3)]
    places = collate([samples[2], None, samples[0]]).places
    assert torch.equal(places.box, boxes[[2, 0]]) and torch.equal(places.points, points[[2, 0]])


def test_nothing_is_stacked_where_nothing_came():
    assert collate([None, None]) is None


def test_an_evaluation_passes_over_a_batch_without_any_image():
    samples = [None, None, sample(2, 0), None, sample(4, 1), sample(5, 1)]
    found = EvalLoader(samples, batch_size=2, collate_fn=collate)
    for _ in range(2):
        assert [batch.index.tolist() for batch in found] == [[2], [4, 5]]
