"""How much of the network's own speed does `fgvc predict` reach, and does its memory stay flat?

    python -m benchmarks.speed.predict_throughput  # 600 JPEGs of 400 x 300 pixels, made here
    python -m benchmarks.speed.predict_throughput --count 5000 --rounds 2
    python -m benchmarks.speed.predict_throughput --photos photos/ --backbone resnet50 --device cuda

bare: the timm network alone on one batch in memory, normalised, inference mode, channels last, all threads.
decode: photographs that one core reads and shrinks to the square of the model per second.
predict: the command itself, pictures to table (journal, provenance and all), without the seconds of loading the model.

What bounds it: on the CPU the cores are shared, so a picture costs its forward pass and its part of the decoding,
1 / bare + 1 / (cores * decode); on a GPU the slower of the two decides. Turns of bare and predict alternate inside one
run, which makes their ratio fair on a machine with other work; the images per second themselves are not. Processor
time (of all threads, without the waiting) is steadier there, and is given too. Memory is the resident set when 1/4, 1/2
and all of the pictures are answered.
"""

import argparse
import contextlib
import io
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import timm
import torch
from PIL import Image
from torch import nn

from benchmarks.machine import hardware
from benchmarks.speed.throughput_input import find_photos, make_photos
from fgvc.commands import predict as predict_command
from fgvc.config import quiet
from fgvc.errors import FgvcError
from fgvc.images.pictures import square_of
from fgvc.images.resizing import EvalResize
from fgvc.model_file.architecture import build
from fgvc.model_file.model import Model, save
from fgvc.prediction.results import Result
from fgvc.prediction.tally import Tally
from fgvc.taxonomy.tree import Taxonomy

CLASSES = 200
DISTINCT = 64
"""How many of the photographs made here differ; the others are the same files under other names."""


class Speed(NamedTuple):
    """Images per second: of the clock on the wall, and of the processor's time of all threads."""

    wall: float
    cpu: float


def main(words: Sequence[str] | None = None) -> int:
    """Print the table; the exit code is 0, or 2 for a wrong argument."""
    args = arguments(words)
    quiet.libraries()
    try:
        with tempfile.TemporaryDirectory() as made:
            photos = args.photos or photographs(Path(made) / "photos", args.count)
            measure(args, photos, Path(made))
    except FgvcError as error:
        print(f"predict_throughput: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of photographs; by default they are made")
    parser.add_argument("--count", type=int, default=600, help="how many are made")
    parser.add_argument("--backbone", default="mobilenetv2_100", help="a name of timm.list_models()")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=1, help="turns of predict, with bare before and after each")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(words)
    if min(args.count, args.image_size, args.batch_size, args.rounds) < 1:
        parser.error("count, sizes and rounds must be at least 1")
    return args


def measure(args: argparse.Namespace, photos: Path, folder: Path) -> None:
    """Print the table."""
    paths = find_photos(photos)
    torch.manual_seed(0)
    run, device = saved_model(args.backbone, args.image_size, folder / "run"), torch.device(args.device)
    bare_network = timm.create_model(args.backbone, num_classes=CLASSES).eval().to(device)
    batches = max(2, min(20, len(paths) // args.batch_size))
    sample = paths[:: max(1, len(paths) // 200)]
    decode = timed(lambda: [square_of(path, EvalResize(args.image_size)) for path in sample], len(sample))
    flags = ["--batch_size", str(args.batch_size), "--device", args.device]
    predicted([str(run), str(paths[0]), *flags], folder / "first.csv")  # its imports are no part of it
    start = time.perf_counter(), time.process_time()
    predicted([str(run), str(paths[0]), *flags], folder / "second.csv")
    loading = time.perf_counter() - start[0], time.process_time() - start[1]
    bare, ours, memory = [bare_speed(bare_network, args, device, batches)], [], []
    for number in range(args.rounds):
        with ResidentSet() as resident:
            start = time.perf_counter(), time.process_time()
            predicted([str(run), str(photos), *flags], folder / f"{number}.csv")
            wall, cpu = time.perf_counter() - start[0] - loading[0], time.process_time() - start[1] - loading[1]
        ours.append(Speed((len(paths) - 1) / wall, (len(paths) - 1) / cpu))
        memory = resident.at(0.25, 0.5, 1.0)
        bare.append(bare_speed(bare_network, args, device, batches))
    report(args, len(paths), bare, decode, ours, memory)


def report(
    args: argparse.Namespace, count: int, bare: list[Speed], decode: Speed, ours: list[Speed], memory: list[float]
) -> None:
    """Print the lines of the table; `bare` has one turn before and one after each of `ours`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(hardware())
    print(
        f"{args.backbone}, {args.image_size} pixels, batches of {args.batch_size}, {args.device}; {count} photographs"
    )
    around = [(before, after) for before, after in itertools.pairwise(bare)]
    base = statistics.median(speed.wall for speed in bare)
    bound = min(base, cores * decode.wall) if args.device != "cpu" else 1 / (1 / base + 1 / (cores * decode.wall))
    print(f"{'bare forward, all threads':<34} {base:>9.1f} images/s")
    print(f"{'decode and resize, one core':<34} {decode.wall:>9.1f} images/s")
    print(f"{f'bound of both on {cores} cores':<34} {bound:>9.1f} images/s {bound / base:>7.3f} of bare")
    print(f"{'fgvc predict':<34} {statistics.median(one.wall for one in ours):>9.1f} images/s", end=" ")
    for clock, name in (("wall", "of bare"), ("cpu", "of bare in processor time")):
        ratios = [
            getattr(one, clock) / statistics.mean(getattr(turn, clock) for turn in turns)
            for one, turns in zip(ours, around, strict=True)
        ]
        print(f"{statistics.median(ratios):>7.3f} {name}", end="  ")
    print(f"\n{'resident set at 1/4, 1/2, all':<34} {', '.join(f'{size:.0f}' for size in memory):>9} MB")


def bare_speed(network: nn.Module, args: argparse.Namespace, device: torch.device, batches: int) -> Speed:
    """Return the speed of the network alone."""
    shape = (args.batch_size, 3, args.image_size, args.image_size)
    images = torch.rand(shape, device=device).to(memory_format=torch.channels_last)
    network.to(memory_format=torch.channels_last)

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(batches):
                network(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with torch.inference_mode():
        network(images)
    return timed(forward, batches * args.batch_size)


def predicted(words: list[str], output: Path) -> None:
    """Run the command; its summary is of no interest here."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = predict_command.main([*words, "--output", str(output)])
    if code:
        raise FgvcError(said.getvalue().strip())


def saved_model(backbone: str, size: int, folder: Path) -> Path:
    """Save a model with random weights, as a run would."""
    plain = {
        "class_path": "WholeImage",
        "init_args": {
            "backbone": {"class_path": "Backbone", "init_args": {"name": backbone, "weights": "none"}},
            "head": {"class_path": "LinearHead", "init_args": {}},
        },
    }
    recognizer = build(plain, Taxonomy.flat([str(number) for number in range(CLASSES)]), size)
    save(Model(recognizer.eval(), plain, EvalResize(size)), folder / "model")
    return folder


def photographs(folder: Path, count: int) -> Path:
    """Write JPEGs of 400 x 300 pixels."""
    folder.mkdir()
    distinct = folder.parent / "distinct"
    distinct.mkdir()
    for path in sorted(make_photos(distinct, min(count, DISTINCT)).iterdir()):
        with Image.open(path) as square:
            square.crop((0, 50, 400, 350)).save(path, quality=90)
    originals = sorted(distinct.iterdir())
    for number in range(count):
        (folder / f"{number:06}.jpg").hardlink_to(originals[number % len(originals)])
    return folder


def timed(work: Callable[[], object], count: int) -> Speed:
    """Return how many images per second some work does."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Speed(count / (time.perf_counter() - wall), count / (time.process_time() - cpu))


class ResidentSet:
    """Note this process's memory at every answer of the command."""

    def __init__(self) -> None:
        self._seen: list[float] = []
        self._patch = mock.patch.object(Tally, "watched", self._noting(Tally.watched))

    def __enter__(self) -> "ResidentSet":
        self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.stop()

    def at(self, *shares: float) -> list[float]:
        """Return the megabytes when a share of the answers was there."""
        return [self._seen[max(0, round(share * len(self._seen)) - 1)] for share in shares]

    def _noting(self, watched: Callable[..., Iterator[Result]]) -> Callable[..., Iterator[Result]]:
        page = os.sysconf("SC_PAGE_SIZE") / 1e6

        def noting(*arguments: Any) -> Iterator[Result]:
            for result in watched(*arguments):
                self._seen.append(int(Path("/proc/self/statm").read_text().split()[1]) * page)
                yield result

        return noting


if __name__ == "__main__":
    sys.exit(main())
