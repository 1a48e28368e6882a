import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from fgvc.data.loaders import TrainLoader
from fgvc.data.samplers import TrainSampler

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
