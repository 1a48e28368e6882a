"""What do the conveniences cost? Our training loop and our input path against bare ones, turn by turn.

    python benchmarks/throughput.py                         # both, with small settings
    python benchmarks/throughput.py training --backbone resnet50 --image_size 224 --accelerator gpu
    python benchmarks/throughput.py input --photos photos/train

training: images per second of `fgvc fit` (its own command-line class with trainer, loggers and checkpoints) over a
plain PyTorch loop: the same timm network, batch, precision, optimizer and threads, on normalised tensors in memory.
Once our batches lie in memory too, once photographs are decoded and augmented meanwhile. S steps of ours, S steps of
the plain loop, S steps of ours ... inside one run.

input: photographs that one core reads, decodes and augments per second, over Pillow and torchvision doing the same.

The turns make the ratios fair on a machine that has other work; the images per second themselves are not.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import PIL
import timm
import torch
import torchvision
from PIL import Image
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from tqdm import tqdm

from fgvc import quiet
from fgvc.cli import RunCLI
from fgvc.data.base import DataSource
from fgvc.data.dataset import PhotoDataset
from fgvc.data.transforms import Augmentation, TrainTransform
from fgvc.datatypes import Records, Sample
from fgvc.errors import FgvcError, UsageError
from fgvc.images import SUFFIXES
from fgvc.shipped import config_file
from fgvc.taxonomy import Taxonomy

CLASSES = 10
WARM_UP = 3  # steps that are not counted: memory is laid out, kernels are chosen
MOST_PHOTOS = 200


class Row(NamedTuple):
    """One line of the table: images per second of every turn, and what their ratio should be."""

    what: str
    ours: list[float]
    theirs: list[float]
    aim: float

    def __str__(self) -> str:
        ratios = sorted(a / b for a, b in zip(self.ours, self.theirs, strict=True))
        median = statistics.median(ratios)
        return (
            f"{self.what:<30} {statistics.median(self.ours):>9.1f} {statistics.median(self.theirs):>9.1f} "
            f"{median:>7.3f}   {ratios[0]:.3f} to {ratios[-1]:.3f}   {self.aim:.2f} "
            f"{'reached' if median >= self.aim else 'missed'}"
        )


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
            loss.backward()
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
        images, middle = steps * self.args.batch_size, now()
        if counted:
            self.ours.append(images / (middle - self.start))
            self.plain.run(steps)
            self.theirs.append(images / (now() - middle))
        self.start = now()


def now() -> float:
    """Return the time when all that was asked of the accelerator is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def training(args: argparse.Namespace, photos: Path) -> list[str]:
    """Return the rows of both loaders, and whether the real one keeps up."""
    with tempfile.TemporaryDirectory() as runs:
        memory, cli = command_line(args, photos, Path(runs), "memory")
        cli.trainer.fit(cli.model, train_dataloaders=in_memory(args))
        real, cli = command_line(args, photos, Path(runs), "real")
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
        alone = loader_alone(args, cli.datamodule.train_dataloader())
    needed = statistics.median(memory.ours)
    shared = "" if torch.cuda.is_available() else "; here it takes its time from the cores that train"
    return [
        str(Row("training, batches in memory", memory.ours, memory.theirs, 0.97)),
        str(Row("training, photographs decoded", real.ours, real.theirs, 0.97)),
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
    return DataLoader([batch] * number_of_steps(args), batch_size=None)


def loader_alone(args: argparse.Namespace, loader: Iterable[Sample]) -> float:
    """Return images per second when nobody trains."""
    batches, seen, start = iter(loader), 0, 0.0
    for number in range(WARM_UP + args.steps):
        batch = next(batches)
        seen += len(batch.label)
        if number == WARM_UP - 1:
            seen, start = 0, time.perf_counter()
    return seen / (time.perf_counter() - start)


def reading(args: argparse.Namespace, photos: Path) -> list[str]:
    """Return the row of the input path; the time is that of the processor, for one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    paths, default = find_photos(photos)[:MOST_PHOTOS], Augmentation()
    dataset = PhotoDataset(Records(map(str, paths), [0] * len(paths)), TrainTransform(args.image_size, default))
    theirs = transforms.Compose(
        [
            transforms.RandomResizedCrop(args.image_size, default.scale, default.ratio),
            transforms.RandomHorizontalFlip(default.flip),
            transforms.ColorJitter(*[default.color_jitter] * 3),
            transforms.PILToTensor(),
        ]
    )
    row = Row("reading and augmenting, 1 core", [], [], 1.5)
    for turn in tqdm(range(args.rounds + 1), desc="input", leave=False):
        ours = rate(lambda i, turn=turn: dataset[(turn, i)].image, len(paths))
        bare = rate(lambda i: theirs(Image.open(paths[i]).convert("RGB")), len(paths))
        if turn:  # the first fills the file cache
            row.ours.append(ours)
            row.theirs.append(bare)
    return [str(row)]


def rate(read: Callable[[int], Any], count: int) -> float:
    """Return calls per second of processor time."""
    start = time.process_time()
    for index in range(count):
        read(index)
    return count / (time.process_time() - start)


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


def hardware() -> str:
    """Name the machine and the versions that the figures hang on."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} thread(s){device}; torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}, OpenCV {cv2.__version__}, Pillow {PIL.__version__}"
    )


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("training", "input", "all"), default="all")
    parser.add_argument("--backbone", default="mobilenetv2_100", help="a name of timm.list_models()")
    parser.add_argument("--image_size", type=int, default=160)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20, help="training steps per turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of ours, and of the other")
    parser.add_argument("--photos", type=Path, help="a folder of photographs; by default noise is written as JPEG")
    parser.add_argument("--num_workers", type=int, help="processes that decode; by default as in a run")
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    args = parser.parse_args(words)
    if min(args.image_size, args.batch_size, args.steps, args.rounds) < 1:
        parser.error("sizes, steps and rounds must be at least 1")
    return args


def main(words: Sequence[str] | None = None) -> int:
    """Print the table; the exit code is 0, or 2 for a wrong argument."""
    args = arguments(words)
    quiet.libraries()
    try:
        with tempfile.TemporaryDirectory() as made:
            photos = args.photos or make_photos(Path(made))
            machine = hardware()
            rows = training(args, photos) if args.what in ("training", "all") else []
            rows += reading(args, photos) if args.what in ("input", "all") else []
    except FgvcError as error:
        print(f"throughput: {error}", file=sys.stderr)
        return error.exit_code
    print(machine)
    print(
        f"{args.backbone}, {args.image_size} pixels, batches of {args.batch_size}, {args.precision}; medians of turns"
    )
    print(f"{'':<30} {'ours/s':>9} {'bare/s':>9} {'ratio':>7}   {'spread':<14}   aim")
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
