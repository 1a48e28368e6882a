"""Batches: for training, where a resumed run continues where it stopped, and for evaluation."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from fgvc.data.samplers import EpochSampler
from fgvc.datatypes import Places, Sample

Order = dict[str, int | str]


class TrainLoader(DataLoader[Sample]):
    """A DataLoader that knows how many images of its epoch were handed out.

    Lightning puts `state_dict` into every checkpoint and gives it back before the first batch. (On its own it would
    start the epoch over and train twice on the first images.)

    Args:
        dataset: the training images.
        sampler: whose order is a function of the epoch.
        order: names and values that the order of the batches depends on; `images of an epoch` where these are not the
            training images.
        order_at: epoch -> more of the same, where they differ between epochs.
        options: of DataLoader.
    """

    sampler: EpochSampler

    def __init__(
        self,
        dataset: Dataset[Sample],
        sampler: EpochSampler,
        order: Order,
        order_at: Callable[[int], Order] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(dataset, sampler=sampler, **options)
        self._always, self._order_at = order, order_at
        self._given = self._start = 0

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        self._given, self._start = self._start, 0
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, the images of it that this process was given, and what their order depends on."""
        epoch = self.sampler.epoch
        order = self._always | self._order_at(epoch) if self._order_at else self._always
        return {"epoch": epoch, "images": self._given * (self.batch_size or 1), "order": order}

    def changed(self, state: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Return name -> (before, now) of what the order depends on, where it is not what it was."""
        before: Order = state["order"]
        more = self._order_at(int(state["epoch"])) if self._order_at else {}
        now = self._always | more
        names = [*before, *(name for name in more if name not in before)]  # another key is newer than the checkpoint
        return {name: (before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the next pass the rest of an epoch; of a finished epoch, the next one.

        Raises:
            ValueError: inside an epoch, and the order has changed since: there is no rest of that epoch.
        """
        epoch, size = int(state["epoch"]), self.batch_size or 1
        # of states that counted batches: format of the checkpoints up to 0.1.0
        images = (
            int(state["images"]) if "images" in state else int(state["batches"]) * state["order"]["data.batch_size"]
        )
        of_epoch = state["order"].get("images of an epoch", state["order"]["training images"])
        of_process = of_epoch // state["order"]["processes"]
        if of_process - images < state["order"]["data.batch_size"]:
            epoch, images = epoch + 1, 0
        if images and self.changed(state):
            raise ValueError(f"the order of the images has changed: {self.changed(state)}")
        self.sampler.set_epoch(epoch)
        self.sampler.skip = images
        self._start = images // size


class EvalLoader(DataLoader[Sample]):
    """A DataLoader that skips batches in which no image could be read."""

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        return (batch for batch in super().__iter__() if batch is not None)


def collate(samples: Sequence[Sample | None]) -> Sample | None:
    """Stack the Samples of a batch into one; those that are None are left out.

    Returns:
        image (N, 3, S, S) uint8 channels_last, label (N,), index (N,), view (N, 4), and the places where the Samples
        have them; None where there is no Sample.
    """
    read = [sample for sample in samples if sample is not None]
    if not read:
        return None
    image = torch.stack([sample.image.permute(1, 2, 0) for sample in read]).permute(0, 3, 1, 2)
    label, index, view = (torch.stack(part) for part in list(zip(*read, strict=True))[1:4])
    places = [sample.places for sample in read if sample.places is not None]
    together = Places(*(torch.stack(part) for part in zip(*places, strict=True))) if places else None
    return Sample(image, label, index, view, together)


def collate_vectors(samples: Sequence[Sample]) -> Sample:
    """Stack Samples that have vectors (D,) in place of images: image (N, D), the rest as `collate`."""
    image, label, index, view = (torch.stack(part) for part in list(zip(*samples, strict=True))[:4])
    return Sample(image, label, index, view)
