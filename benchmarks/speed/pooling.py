"""What second-order poolings cost: time and memory of forward and backward, over plain versions that autograd follows.

    python -m benchmarks.speed.pooling --clock cpu

A plain version is the paper's formula, written down and left to autograd: the Newton-Schulz steps one by one, every
root and every length of its own, the Fourier transform of every position. `iSQRT` is the function alone, of all
channels of the map; the others are whole poolings, with the reduction where they have one.

Times are medians of turns: S steps of ours, S of the plain one ... Memory is the peak resident set of a process of its
own over what it had before the first step, with the map; kept is what the forward pass holds for the backward pass, by
the storages that autograd saves, without the map itself.
"""

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmarks.machine import hardware
from benchmarks.speed.cost import turns
from fgvc.methods.pooling.bilinear import BilinearPooling
from fgvc.methods.pooling.compact_bilinear import CompactBilinearPooling
from fgvc.methods.pooling.isqrt_cov import IsqrtCovPooling, isqrt_covariance

HEAD = (
    "| pooling | map | ms | ms, plain | times as fast | MB | MB, plain | share | kept, MB | kept, MB, plain |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def main(words: Sequence[str] | None = None) -> int:
    """Print a table, or the memory that one row of it takes."""
    args = arguments(words)
    torch.set_num_threads(args.threads)
    if args.row:
        name, channels, which = args.row
        print(peak(name, channels, which, args))
        return 0
    print(f"{hardware()}\nbatch {args.batch}, maps of {args.side} x {args.side}, {args.clock} time\n\n{HEAD}")
    for name, channels, numbers in rows(args):
        cells = [f"{x:.3g}" if x < 1000 else f"{x:.0f}" for x in numbers]
        print("|", " | ".join([name, f"{channels} x {args.side} x {args.side}", *cells]), "|", flush=True)
    return 0


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--side", type=int, default=28, help="of the map")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--reduced", type=int, default=256, help="channels after a reduction")
    parser.add_argument("--width", type=int, default=8192, help="of the tensor sketch")
    parser.add_argument("--poolings", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2, help="per turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: steadier on a busy machine")
    parser.add_argument("--row", nargs=3, metavar=("POOLING", "CHANNELS", "WHICH"), help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    args.words = list(sys.argv[1:] if words is None else words)
    args.device = "cpu"
    if min(*args.channels, args.side, args.batch, args.reduced, args.width, args.threads, args.steps, args.rounds) < 1:
        parser.error("every number must be at least 1")
    return args


def rows(args: argparse.Namespace) -> Iterator[tuple[str, int, tuple[float, ...]]]:
    """Yield name, channels and numbers of every pooling on every map."""
    every = [(name, channels) for channels in args.channels for name in args.poolings]
    # A process hands its own peak down to those it starts: memory comes before this one has grown.
    memory = {(*row, which): memory_of(*row, which, args) / 2**20 for row in every for which in ("ours", "plain")}
    for name, channels in every:
        ours, plain = (step(name, channels, which, args) for which in ("ours", "plain"))
        seconds, ratio = turns(ours, plain, args)
        kept = [kept_by(name, channels, which, args) / 2**20 for which in ("ours", "plain")]
        first, second = memory[name, channels, "ours"], memory[name, channels, "plain"]
        times = (1e3 * seconds, 1e3 * seconds * ratio, ratio)
        yield name, channels, (*times, first, second, first / max(second, 1e-9), *kept)


class PlainIsqrt(IsqrtCovPooling):
    """IsqrtCovPooling with the paper's formulas."""

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, D)."""
        return plain_isqrt(self.reduce(features), self.iterations)


class PlainBilinear(BilinearPooling):
    """BilinearPooling of one stream with the paper's formula."""

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, C C)."""
        positions = features.flatten(2)
        means = (positions @ positions.mT / positions.shape[2]).flatten(1)
        return normalize(means.sign() * (means.abs() + self.eps).sqrt())


class PlainCompact(CompactBilinearPooling):
    """CompactBilinearPooling with a sketch and an inverse transform for every position."""

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, D)."""
        positions = features.flatten(2).mT
        sketches = []
        for place, sign in zip(self.places, self.signs, strict=True):
            empty = positions.new_zeros(*positions.shape[:2], self.out_features)
            sketches.append(empty.index_add(2, place, positions * sign))
        spectrum = torch.fft.rfft(sketches[0]) * torch.fft.rfft(sketches[1])
        sketch = torch.fft.irfft(spectrum, n=self.out_features).sum(dim=1)
        return normalize(sketch.sign() * (sketch.abs() + self.eps).sqrt())


def plain_isqrt(features: Tensor, iterations: int = 5) -> Tensor:
    """Map (N, d, h, w) -> (N, d (d + 1) / 2), step by step."""
    positions = features.flatten(2)
    centred = positions - positions.mean(dim=2, keepdim=True)
    covariance = centred @ centred.mT / centred.shape[2]
    trace = covariance.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
    eye = torch.eye(covariance.shape[1])
    y, z = covariance / trace, eye
    for step_number in range(iterations):
        t = 0.5 * (3 * eye - (z @ y if step_number else y))
        y = y @ t
        if step_number < iterations - 1:
            z = t @ z if step_number else t
    rows_of, columns = torch.triu_indices(*covariance.shape[1:])
    return (y * trace.sqrt()).flatten(1).index_select(1, rows_of * covariance.shape[1] + columns)


PAIRS: dict[str, tuple[Callable[..., Callable[[Tensor], Tensor]], Callable[..., Callable[[Tensor], Tensor]]]] = {
    "iSQRT": (lambda channels, args: isqrt_covariance, lambda channels, args: plain_isqrt),
    "IsqrtCovPooling": (
        lambda channels, args: IsqrtCovPooling(channels, args.reduced),
        lambda channels, args: PlainIsqrt(channels, args.reduced),
    ),
    "BilinearPooling": (
        lambda channels, args: BilinearPooling(channels),
        lambda channels, args: PlainBilinear(channels),
    ),
    "CompactBilinearPooling": (
        lambda channels, args: CompactBilinearPooling(channels, args.width),
        lambda channels, args: PlainCompact(channels, args.width),
    ),
}


def pooling_and_map(
    name: str, channels: int, which: str, args: argparse.Namespace
) -> tuple[Callable[..., Tensor], Tensor]:
    """Make a pooling, ours or the plain one, with the same weights, and a map (N, C, h, w) as ReLU leaves it."""
    torch.manual_seed(0)
    pooling = PAIRS[name][which == "plain"](channels, args)
    features = torch.randn(args.batch, channels, args.side, args.side).relu_()
    return pooling, features.requires_grad_()


def step(name: str, channels: int, which: str, args: argparse.Namespace) -> Callable[[], None]:
    """Return what runs a pooling forward and backward once."""
    pooling, features = pooling_and_map(name, channels, which, args)
    given: list[Tensor] = []

    def work() -> None:
        features.grad = None
        if isinstance(pooling, nn.Module):
            pooling.zero_grad()
        answer = pooling(features)
        if not given:
            given.append(torch.randn(answer.shape))
        torch.autograd.backward(answer, given[0])

    return work


def kept_by(name: str, channels: int, which: str, args: argparse.Namespace) -> int:
    """Return the bytes of all storages that autograd saves, without those of the map and of weights."""
    pooling, features = pooling_and_map(name, channels, which, args)
    sizes: dict[int, int] = {}
    alive: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)  # an address may otherwise serve twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        pooling(features)
    own = [features, *(pooling.parameters() if isinstance(pooling, nn.Module) else ())]
    return sum(size for place, size in sizes.items() if place not in {x.untyped_storage().data_ptr() for x in own})


def memory_of(name: str, channels: int, which: str, args: argparse.Namespace) -> int:
    """Return `peak` of a process of its own."""
    words = [sys.executable, "-m", "benchmarks.speed.pooling", *args.words, "--row", name, str(channels), which]
    return int(subprocess.check_output(words))


def peak(name: str, channels: str, which: str, args: argparse.Namespace) -> int:
    """Return the bytes that two steps need beside the map, its gradient included."""

    def so_far() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    work = step(name, int(channels), which, args)
    before = so_far()
    work()
    work()
    return so_far() - before


if __name__ == "__main__":
    sys.exit(main())
