"""The training part of throughput.py: `fgvc fit` against a plain loop, in turns inside one run."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.speed.throughput_input import find_photos
from benchmarks.speed.throughput_table import Row
from fgvc.commands import fit
from fgvc.config.run_cli import RunCLI
from fgvc.data.records import Records
from fgvc.data.sources.base import DataSource
from fgvc.datatypes import Sample
from fgvc.files.shipped import config_file
from fgvc.taxonomy.tree import Taxonomy

CLASSES = 10
WARM_UP = 3  # steps that are not counted: memory is laid out, kernels are chosen


class Again(DataSource):
    """The photographs of a folder again and again, as if they were of ten classes.

    Args:
        root: the folder.
        count: how many records.
    """

    splits = ("train",)

    def __init__(self, root: str, count: int) -> None:
        paths = find_photos(Path(root))
        chosen = (str(paths[i % len(paths)]) for i in range(count))
        self._records = Records(chosen, np.arange(count, dtype=np.int32) % CLASSES)

    @property
    def taxonomy(self) -> Taxonomy:
        """Ten classes without names worth mentioning."""
        return Taxonomy.flat([str(label) for label in range(CLASSES)])

    def records(self, split: str) -> Records:
        """Return all of them."""
        return self._records


class PlainLoop:
    """A timm network with its own classifier, cross-entropy, AdamW, one batch in memory."""

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        self.network = timm.create_model(args.backbone, num_classes=CLASSES)
        self.network.to(device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=5e-4, weight_decay=0.05)
        self.device, self.mixed = device, args.precision == "bf16-mixed"
        images = torch.randn(args.batch_size, 3, args.image_size, args.image_size, device=device)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.arange(args.batch_size, device=device) % CLASSES

    def run(self, steps: int) -> None:
        """Make optimizer steps."""
        for _ in range(steps):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
                loss = nn.functional.cross_entropy(self.network(self.images), self.labels, label_smoothing=0.1)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()


class Turns(Callback):
    """Let a plain loop run between the steps of a Lightning run, and time both.

    Args:
        args: `steps` per turn and all that the plain loop needs.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.start = args, 0.0
        self.ours: list[float] = []
        self.theirs: list[float] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Make the plain loop where the run takes place."""
        self.plain = PlainLoop(self.args, pl_module.device)
        self.plain.run(WARM_UP)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Sample, batch_idx: int) -> None:
        """Hand over after every turn. Waiting for the next batch, logs and progress bar are part of ours."""
        counted, steps = batch_idx + 1 - WARM_UP, self.args.steps
        if counted < 0 or counted % steps:
            return
        images, middle = steps * self.args.batch_size, self._now()
        if counted:
            self.ours.append(images / (middle - self.start))
            self.plain.run(steps)
            self.theirs.append(images / (self._now() - middle))
        self.start = self._now()

    def _now(self) -> float:
        if self.args.accelerator == "gpu":
            torch.cuda.synchronize()
        return time.process_time() if self.args.clock == "cpu" else time.perf_counter()


def training(args: argparse.Namespace, photos: Path) -> list[str]:
    """Return the rows of both loaders, and whether the real one keeps up."""
    with tempfile.TemporaryDirectory() as runs:
        memory, cli = command_line(args, photos, Path(runs), "memory")
        cli.trainer.fit(cli.model, train_dataloaders=in_memory(args))
        real, cli = command_line(args, photos, Path(runs), "real")
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
        alone = loader_alone(args, cli.datamodule.train_dataloader())
    needed = statistics.median(memory.ours)
    shared = "" if args.accelerator == "gpu" else "; here it takes its time from the cores that train"
    return [
        str(Row("training, batches in memory", memory.ours, memory.theirs, 0.97)),
        str(Row("training, photographs decoded", real.ours, real.theirs)),
        f"the loader alone, {cli.datamodule.num_workers} worker(s): {alone:.1f} images/s where training takes "
        f"{needed:.1f}: it {'keeps up' if alone >= needed else 'holds training up'}{shared}",
    ]


def command_line(args: argparse.Namespace, photos: Path, runs: Path, name: str) -> tuple[Turns, RunCLI]:
    """Set a run up as `fgvc fit` does, and add the turns."""
    backbone = "--model.recognizer.init_args.backbone.init_args"
    words = {
        "--config": config_file("whole_image"),
        f"{backbone}.name": args.backbone,
        f"{backbone}.weights": "none",
        "--model.image_size": args.image_size,
        "--data.source": f"{__name__}.Again",
        "--data.source.root": photos,
        "--data.source.count": number_of_steps(args) * args.batch_size,
        "--data.val_fraction": 0,
        "--data.batch_size": args.batch_size,
        "--data.num_workers": "null" if args.num_workers is None else args.num_workers,
        "--trainer.max_epochs": 1,
        "--trainer.accelerator": args.accelerator,
        "--trainer.devices": 1,
        "--trainer.precision": args.precision,
        "--runs": runs,
        "--name": name,
    }
    cli = RunCLI("fit", [str(part) for pair in words.items() for part in pair])
    fit.build(cli, fit.claim(cli))
    trainer: Any = cli.trainer
    turns = Turns(args)
    trainer.callbacks.append(turns)
    return turns, cli


def number_of_steps(args: argparse.Namespace) -> int:
    """Return how many steps of ours a run has."""
    return int(WARM_UP + args.rounds * args.steps)


def in_memory(args: argparse.Namespace) -> DataLoader[Any]:
    """Return a loader that hands out one and the same batch."""
    image = torch.randint(256, (args.batch_size, args.image_size, args.image_size, 3), dtype=torch.uint8)
    index = torch.arange(args.batch_size)
    batch: Any = Sample(image.permute(0, 3, 1, 2), index % CLASSES, index, torch.zeros(args.batch_size, 4))
    batches: Any = [batch] * number_of_steps(args)
    return DataLoader(batches, batch_size=None)


def loader_alone(args: argparse.Namespace, loader: Iterable[Sample]) -> float:
    """Return images per second when nobody trains."""
    batches, seen, start = iter(loader), 0, 0.0
    for number in range(WARM_UP + args.steps):
        batch = next(batches)
        seen += len(batch.label)
        if number == WARM_UP - 1:
            seen, start = 0, time.perf_counter()
    return seen / (time.perf_counter() - start)
