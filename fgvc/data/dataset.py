"""Records -> Samples: decode, transform, wrap.

Shape letters: H, W the photograph, S side of the image handed on.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from fgvc.datatypes import Records, Sample
from fgvc.images import Pixels, decode

Transform = Callable[[Pixels, Sequence[int]], tuple[Pixels, npt.NDArray[np.float32]]]


class PhotoDataset(Dataset[Sample]):
    """A map from (epoch, index) to Sample; every random draw is a function of (seed, epoch, index).

    Args:
        records: files and labels.
        transform: (H, W, 3) uint8 and a seed -> (S, S, 3) uint8 and the view (4,).
        seed: first of the three numbers.
    """

    def __init__(self, records: Records, transform: Transform, seed: int = 0) -> None:
        self.records = records
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        record = self.records[index]
        pixels, view = self.transform(decode(record.path), (self.seed, epoch, index))
        return Sample(
            image=torch.from_numpy(pixels).permute(2, 0, 1),
            label=torch.tensor(record.label),
            index=torch.tensor(index),
            view=torch.from_numpy(view),
        )


def collate(samples: Sequence[Sample]) -> Sample:
    """Stack N Samples into one: image (N, 3, S, S) uint8 channels_last, label (N,), index (N,), view (N, 4)."""
    image = torch.stack([sample.image.permute(1, 2, 0) for sample in samples]).permute(0, 3, 1, 2)
    label, index, view = (torch.stack(part) for part in list(zip(*samples, strict=True))[1:])
    return Sample(image, label, index, view)
