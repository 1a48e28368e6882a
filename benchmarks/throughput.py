"""What do the conveniences cost? Our training step and our input path against bare ones, turn by turn.

    python benchmarks/throughput.py training --backbone resnet50 --image_size 224 --accelerator gpu
    python benchmarks/throughput.py input --photos photos/train

`training`: images per second of `fgvc fit` (its own command-line class, trainer, loggers, checkpoints and recognizer)
over a plain PyTorch loop with the same timm network on normalised tensors in memory; once with batches that lie in
memory, once with photographs that are decoded and augmented meanwhile. Both are timed inside one run: S steps of ours, S
steps of the plain loop, and so on.

`input`: photographs decoded and augmented per second on one core, over Pillow and torchvision doing the same.

The turns make the ratio fair on a machine that does other work too; the images per second themselves are not.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torchvision
from PIL import Image
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms as tv

from fgvc import quiet
from fgvc.backbone import Backbone
from fgvc.cli import RunCLI
from fgvc.data.dataset import PhotoDataset, collate
from fgvc.data.samplers import TrainSampler
from fgvc.data.transforms import Augmentation, TrainTransform
from fgvc.datatypes import Records, Sample
from fgvc.errors import FgvcError, UsageError
from fgvc.images import SUFFIXES, decode
from fgvc.shipped import config_file

CLASSES = 10
WARM_UP = 3
"""Steps that are not counted: memory is allocated, kernels are chosen."""


class Row(NamedTuple):
    """One line of the table: images per second of every turn, the aim for ours over theirs."""

    what: str
    ours: list[float]
    theirs: list[float]
    aim: float

    def __str__(self) -> str:
        ratios = sorted(a / b for a, b in zip(self.ours, self.theirs, strict=True))
        median = statistics.median(ratios)
        verdict = "reached" if median >= self.aim else "missed"
        return (
            f"{self.what:<34} {statistics.median(self.ours):>9.1f} {statistics.median(self.theirs):>9.1f} "
            f"{median:>7.3f}  {ratios[0]:.3f} .. {ratios[-1]:.3f}  {self.aim:>5.2f} {verdict}"
        )


class Plain:
    """The plain loop: a timm network with its own classifier, cross-entropy, AdamW, tensors in memory."""

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        import timm

        self.network: nn.Module = timm.create_model(args.backbone, num_classes=CLASSES)
        self.network.to(device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=5e-4, weight_decay=0.05)
        self.device, self.half = device, args.precision == "bf16-mixed"
        images = torch.randn(args.batch_size, 3, args.image_size, args.image_size, device=device)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.arange(args.batch_size, device=device) % CLASSES

    def step(self) -> None:
        """Make one optimizer step."""
        autocast: AbstractContextManager[Any] = (
            torch.autocast(self.device.type, torch.bfloat16) if self.half else nullcontext()
        )
        with autocast:
            loss = nn.functional.cross_entropy(self.network(self.images), self.labels, label_smoothing=0.1)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class Turns(Callback):
    """Let the plain loop run between the training steps of a Lightning run, and time both.

    Args:
        plain: the plain loop.
        steps: S, steps per turn.
    """

    def __init__(self, plain: Callable[[], None], steps: int) -> None:
        self.plain, self.steps = plain, steps
        self.ours: list[float] = []
        self.theirs: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Sample, batch_idx: int) -> None:
        """Hand over to the plain loop after every S counted steps; loading the next batch belongs to ours."""
        step, size = batch_idx + 1 - WARM_UP, len(batch.label)
        if step == 0:
            for _ in range(WARM_UP):
                self.plain()
            self._start = now()
        elif step > 0 and step % self.steps == 0:
            self.ours.append(self.steps * size / (now() - self._start))
            start = now()
            for _ in range(self.steps):
                self.plain()
            self.theirs.append(self.steps * size / (now() - start))
            self._start = now()


def now() -> float:
    """Return the time when everything that was asked of the accelerator is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def training(args: argparse.Namespace, photos: list[Path], folder: Path) -> tuple[list[Row], str]:
    """Return the rows of both loaders, and a sentence about the real one."""
    memory = train_in_turns(args, photos, folder / "memory", in_memory(args))
    loader = real_loader(args, photos)
    real = train_in_turns(args, photos, folder / "real", loader)
    alone = loader_alone(real_loader(args, photos))
    step = statistics.median(memory.ours)
    verdict = "keeps up" if alone >= step else "is the bottleneck"
    note = (
        f"the loader alone, {args.num_workers} worker(s): {alone:.0f} images/s against {step:.0f} of the training "
        f"step; it {verdict}" + ("" if torch.cuda.is_available() else " (and takes its time from the same cores)")
    )
    return [
        Row("training, batches in memory", memory.ours, memory.theirs, 0.97),
        Row("training, photographs decoded", real.ours, real.theirs, 0.97),
    ], note


def train_in_turns(args: argparse.Namespace, photos: list[Path], folder: Path, loader: DataLoader[Sample]) -> Turns:
    """Run `fgvc fit` as the command line sets it up, on another loader."""
    classes = folder / "classes"
    for label in range(CLASSES):
        (classes / "train" / f"c{label}").mkdir(parents=True)
        (classes / "train" / f"c{label}" / photos[0].name).write_bytes(photos[0].read_bytes())
    backbone = "--model.recognizer.init_args.backbone.init_args"
    words = {
        "--config": str(config_file("whole_image")),
        f"{backbone}.name": args.backbone,
        f"{backbone}.weights": "none",
        "--model.image_size": str(args.image_size),
        "--data.source": "ImageFolder",
        "--data.source.root": str(classes),
        "--data.source.test_fraction": "0",
        "--data.val_fraction": "0",
        "--data.batch_size": str(args.batch_size),
        "--trainer.max_epochs": "1",
        "--trainer.accelerator": args.accelerator,
        "--trainer.devices": "1",
        "--trainer.precision": args.precision,
        "--runs": str(folder),
        "--name": "run",
    }
    cli = RunCLI("fit", [part for pair in words.items() for part in pair])
    turns = Turns(Plain(args, cli.trainer.strategy.root_device).step, args.steps)
    callbacks: list[Callback] = getattr(cli.trainer, "callbacks")  # noqa: B009 - Lightning adds it while it runs
    callbacks.append(turns)
    cli.trainer.fit(cli.model, train_dataloaders=loader)
    return turns


def number_of_steps(args: argparse.Namespace) -> int:
    """Return how many of our steps a run has."""
    return int(WARM_UP + args.rounds * args.steps)


def in_memory(args: argparse.Namespace) -> DataLoader[Sample]:
    """Return a loader that hands out one and the same batch."""
    size = args.image_size
    image = torch.randint(256, (args.batch_size, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    index = torch.arange(args.batch_size)
    view = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(args.batch_size, 1)
    batch: Any = Sample(image, index % CLASSES, index, view)
    return DataLoader([batch] * number_of_steps(args), batch_size=None)


def real_loader(args: argparse.Namespace, photos: list[Path]) -> DataLoader[Sample]:
    """Return the training loader of the datamodule, over the photographs again and again."""
    from fgvc.data.datamodule import FineGrainedData

    count = number_of_steps(args) * args.batch_size
    labels = np.arange(count, dtype=np.int32) % CLASSES
    data = FineGrainedData.__new__(FineGrainedData)
    raise NotImplementedError((PhotoDataset, TrainSampler, collate, Records, labels, data))
