"""The input part of throughput.py: photographs decoded and augmented per second on one core.

Ours against Pillow and torchvision doing the same, photograph by photograph in turns.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision import transforms  # type: ignore[import-untyped]
from tqdm import tqdm

from benchmarks.speed.throughput_table import Row
from fgvc.data.dataset import PhotoDataset
from fgvc.data.records import Records
from fgvc.data.transforms import Augmentation, TrainTransform
from fgvc.errors import UsageError
from fgvc.images.decoding import SUFFIXES

MOST_PHOTOS = 200


def reading(args: argparse.Namespace, folder: Path) -> list[str]:
    """Return the row of the input path; the time is that of the processor, for one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    paths = find_photos(folder)[:MOST_PHOTOS]
    dataset = PhotoDataset(Records(map(str, paths), [0] * len(paths)), TrainTransform(args.image_size, Augmentation()))
    theirs = bare_transform(args.image_size, Augmentation())
    row = Row("reading and augmenting, 1 core", [], [], 1.5)
    for turn in tqdm(range(args.rounds + 1), desc="input", leave=False):
        spent = np.zeros(2)
        for index, path in enumerate(paths):
            spent += seconds(partial(read_ours, dataset, turn, index)), seconds(partial(read_bare, theirs, path))
        if turn:  # the first fills the file cache
            row.ours.append(len(paths) / spent[0])
            row.theirs.append(len(paths) / spent[1])
    return [str(row)]


def read_ours(dataset: PhotoDataset, epoch: int, index: int) -> torch.Tensor:
    """Return the image as the loader's worker makes it, (3, S, S) uint8."""
    return dataset[(epoch, index)].image


def read_bare(transform: Callable[[Image.Image], torch.Tensor], path: Path) -> torch.Tensor:
    """Return the image of the bare path, (3, S, S) uint8."""
    return transform(Image.open(path).convert("RGB"))


def bare_transform(size: int, how: Augmentation) -> Callable[[Image.Image], torch.Tensor]:
    """Return torchvision's steps of the same strengths."""
    steps = transforms.Compose(
        [
            transforms.RandomResizedCrop(size, how.scale, how.ratio),
            transforms.RandomHorizontalFlip(how.flip),
            transforms.ColorJitter(how.color_jitter, how.color_jitter, how.color_jitter),
            transforms.PILToTensor(),
        ]
    )
    return steps  # type: ignore[no-any-return]


def seconds(read: Callable[[], Any]) -> float:
    """Return the processor time of one call."""
    start = time.process_time()
    read()
    return time.process_time() - start


def find_photos(folder: Path) -> list[Path]:
    """Return the pictures below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise UsageError(f"--photos: no pictures below {folder}")
    return found


def make_photos(folder: Path, count: int = 64, side: int = 400) -> Path:
    """Write JPEGs of coloured noise with the spectrum of photographs: coarse strokes and fine grain."""
    generator = np.random.default_rng(0)
    for number in range(count):
        pixels = np.zeros((side, side, 3))
        for grid in (4, 16, 64, side):
            noise = generator.normal(0, 128 / grid**0.5, (grid, grid, 3))
            pixels += cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
        Image.fromarray((pixels + 128).clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg", quality=90)
    return folder
