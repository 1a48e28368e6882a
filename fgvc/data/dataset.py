"""Records -> Samples: decode, transform, wrap; skip or replace files that cannot be read.

Shape letters: H, W the photograph, S side of the image handed on, R records of a split.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fgvc.data.places import ShownPlaces
from fgvc.data.records import Records
from fgvc.datatypes import Sample
from fgvc.files.lines import tell
from fgvc.images.decoding import USUAL, ImageError, Limits, Pixels, decode_with_warning
from fgvc.images.value_range import GUESSED, LOST

OnBadImage = Literal["error", "replace", "leave_out"]

PATIENCE = 100
"""How many images in a row may be unreadable. If half of a split is, this happens once in 10^30 images."""


class Transform(Protocol):
    """What is done to a photograph.

    Attributes:
        at_least: pixels that it needs of the shorter side; see `decode`.
    """

    at_least: int

    def __call__(self, image: Pixels, seed: Sequence[int]) -> tuple[Pixels, npt.NDArray[np.float32]]:
        """(H, W, 3) uint8, and numbers that decide every draw -> (S, S, 3) uint8 and the view (4,)."""


class PhotoDataset(Dataset[Sample]):
    """A map from (epoch, index) to Sample; every random draw is a function of (seed, epoch, index).

    Args:
        records: files and labels.
        transform: what is done to a photograph.
        seed: first of the three numbers.
        split: its name, for messages.
        on_bad_image: what happens where a file cannot be read: `error` raises an ImageError that names it; `replace`
            shows another image of the split, drawn by the three numbers; `leave_out` gives None in place of a Sample.
        unreadable: (R,) bool, in memory shared with the worker processes: set where a file could not be read.
        limits: which files are read.
        stages: (R,) int8, or None: another image that is shown in place of one is of the same stage, for an epoch may
            be drawn from some stages only.
        annotated: what is annotated of a record, in what is shown of it; None where nobody asks.
    """

    def __init__(
        self,
        records: Records,
        transform: Transform,
        seed: int = 0,
        split: str = "",
        on_bad_image: OnBadImage = "error",
        unreadable: Tensor | None = None,
        limits: Limits = USUAL,
        stages: npt.NDArray[np.int8] | None = None,
        annotated: ShownPlaces | None = None,
    ) -> None:
        self.records = records
        self.stages = stages
        self.transform = transform
        self.seed = seed
        self.split = split
        self.on_bad_image = on_bad_image
        self.unreadable = unreadable
        self.limits = limits
        self.annotated = annotated
        self._told = torch.zeros(1, dtype=torch.bool)
        self._told.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> Sample | None:  # type: ignore[override]
        epoch, index = key
        drawn = (self.seed, epoch, index)
        errors: dict[int, ImageError] = {}
        for shown in self._candidates(index, drawn):
            try:
                return self._sample(shown, drawn)
            except ImageError as error:
                errors[shown] = error
                if self.unreadable is not None:
                    self.unreadable[shown] = True
        if self.on_bad_image == "leave_out":
            return None
        if self.on_bad_image == "error":
            place = f"{self.split} image {index + 1:,} of {len(self):,}".lstrip()
            raise ImageError(f"{errors[index]} ({place}), or go on without it: --data.on_bad_image skip")
        tried = f"none of {len(errors)} {self.split} images that were tried"
        raise ImageError(f"{tried} can be read; is their folder there? One of them: {errors[index]}")

    def _candidates(self, index: int, drawn: tuple[int, int, int]) -> Iterator[int]:
        yield index
        if self.on_bad_image == "replace":
            generator = np.random.default_rng([*drawn, 1])
            if self.stages is None:
                yield from generator.integers(len(self), size=PATIENCE - 1).tolist()
            else:
                peers = np.flatnonzero(self.stages == self.stages[index])
                yield from peers[generator.integers(len(peers), size=PATIENCE - 1)].tolist()

    def _sample(self, index: int, drawn: tuple[int, int, int]) -> Sample:
        record = self.records[index]
        photograph, warning = decode_with_warning(record.path, at_least=self.transform.at_least, limits=self.limits)
        if warning is not None and (GUESSED in warning or LOST in warning) and not self._told:
            self._told[0] = True  # of all files, in all worker processes, the first one is told
            tell(f"{record.path}: {warning}; more such files are not told")
        pixels, view = self.transform(photograph, drawn)
        return Sample(
            image=torch.from_numpy(pixels).permute(2, 0, 1),
            label=torch.tensor(record.label),
            index=torch.tensor(index),
            view=torch.from_numpy(view),
            places=None if self.annotated is None else self.annotated(index, view),
        )


class VectorDataset(Dataset[Sample]):
    """A map from (epoch, index) to a Sample that has a vector (D,) in place of an image: what a network that stands
    still says of the photograph.

    Args:
        records: files and labels.
        vectors: (R, D).
    """

    def __init__(self, records: Records, vectors: Tensor) -> None:
        self.records, self.vectors = records, vectors

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        _, index = key
        label = torch.tensor(int(self.records.labels[index]))
        return Sample(self.vectors[index], label, torch.tensor(index), torch.tensor([0.0, 0.0, 1.0, 1.0]))
