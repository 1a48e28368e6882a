"""What do the conveniences cost? Our training loop and our input path against bare ones, turn by turn.

    python -m benchmarks.speed.throughput                         # both, with small settings
    python -m benchmarks.speed.throughput training --backbone resnet50 --image_size 224 --accelerator gpu
    python -m benchmarks.speed.throughput input --photos photos/train

training: images per second of `fgvc fit` (its own command-line class with trainer, loggers and checkpoints) over a
plain PyTorch loop: the same timm network, batch, precision, optimizer and threads, on normalised tensors in memory.
Once our batches lie in memory too, once photographs are decoded and augmented meanwhile. S steps of ours, S steps of
the plain loop, S steps of ours ... inside one run.

input: photographs that one core reads, decodes and augments per second, over Pillow and torchvision doing the same.

The turns make the ratios fair on a machine that has other work; the images per second themselves are not.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import hardware
from benchmarks.speed.throughput_input import make_photos, reading
from benchmarks.speed.throughput_table import HEADER
from benchmarks.speed.throughput_training import training
from fgvc.config import quiet
from fgvc.errors import FgvcError


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
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="of training; cpu is the processor's time of this process: steadier on a busy machine, but it sees "
        "neither the accelerator nor how long the loader lets it wait",
    )
    args = parser.parse_args(words)
    if args.clock == "cpu" and args.accelerator != "cpu":
        parser.error("--clock cpu does not see the accelerator")
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
        f"{args.backbone}, {args.image_size} pixels, batches of {args.batch_size}, {args.precision}, medians of turns"
    )
    print(HEADER)
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
