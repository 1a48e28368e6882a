"""What looking closer costs: speed and memory of every method over the plain network, and of our crop over a naive one.

    python -m benchmarks.speed.cost methods --clock cpu  # every method that does more than look once
    python -m benchmarks.speed.cost crop --clock cpu     # 16 images of 400 pixels, forward and backward, to 160

methods: each recognizer as its YAML builds it, with the same timm network inside, at random weights. A side that the
YAML gives as `source_size` becomes --source, every other one --size. Training is forward, loss, backward and AdamW on
one batch in memory, predicting is the forward alone. Multiply-adds are those of convolutions and linear layers.
crop: `regions.crop_and_resize` against the image times the mask, then affine_grid and grid_sample (which lets alias).

Ratios are medians of turns: S steps of one, S of the other, S of the first ... Memory is the peak over what a process
of its own had before network and batch: resident set on the CPU, PyTorch's allocations on CUDA.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.machine import hardware
from fgvc.files.shipped import config_file, config_stems
from fgvc.images.regions import boxcar, crop_and_resize
from fgvc.methods.slots import known_classes
from fgvc.model_file.architecture import build
from fgvc.taxonomy.tree import Taxonomy

PLAIN = ("whole_image", "all")
SLOPE = 90.0
TAXONOMY = Taxonomy.flat([str(label) for label in range(200)])
METHODS_HEAD = (
    "| method | phase | train/s | over plain | predict/s | over plain | memory over plain | M weights | G mult-adds |"
)
CROP_HEAD = "| crop | ms per image | times as fast as naive | peak memory, MB | over naive |"


def main(words: Sequence[str] | None = None) -> int:
    """Print a table, or the memory that one row of it takes."""
    args = arguments(words)
    if args.what == "memory":
        print(peak(args.row[0], args.row[1], args))
        return 0
    head, rows = (METHODS_HEAD, method_rows) if args.what == "methods" else (CROP_HEAD, crop_rows)
    print(f"{hardware()}\n{args.backbone}, batch {args.batch}, {args.source} px to {args.size} px, {args.clock} time\n")
    print(f"{head}\n{'|---' * (head.count('|') - 1)}|")
    for *names, numbers in rows(args):
        print("|", " | ".join([*names, *(f"{float(f'{x:.3g}'):g}" for x in numbers)]), "|", flush=True)
    return 0


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("methods", "crop", "memory"), help="memory: what the others ask of each --row")
    parser.add_argument("--methods", nargs="+", default=closer(), help="stems of configs/methods")
    parser.add_argument("--backbone", default="mobilenetv2_100", help="a name of timm.list_models()")
    parser.add_argument("--size", type=int, default=160, help="side that networks see")
    parser.add_argument("--source", type=int, help="side that crops are cut from; by default 320, for crop 400")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3, help="per turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: steadier on a busy machine")
    parser.add_argument("--row", nargs=2, metavar=("METHOD", "PHASE"), default=("", ""))
    args = parser.parse_args(words)
    args.words = list(sys.argv[1:] if words is None else words)[1:]
    if args.source is None:
        args.source = 400 if args.what == "crop" or args.row[0] in CROPS else 320
    if args.device == "cuda" and args.clock == "cpu":
        parser.error("--clock cpu does not see the accelerator")
    if min(args.size, args.source, args.batch, args.steps, args.rounds) < 1:
        parser.error("sizes, steps and rounds must be at least 1")
    return args


def config(method: str) -> dict[str, Any]:
    """Read a method's YAML."""
    return yaml.safe_load(config_file(method).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def closer() -> list[str]:
    """Return the stems of the shipped methods that do more than look at the whole image once."""
    stems = [stem for stem, file in config_stems().items() if file.parent.name == "methods"]
    once = ("WholeImage", "FewShotRecognizer")
    return [stem for stem in stems if config(stem)["model"]["recognizer"]["class_path"] not in once]


def phases(method: str) -> list[str]:
    """Return every phase of an RA-CNN whose attention learns, of any other method the one that is trained longest."""
    tree = config(method)
    arguments = tree["model"]["recognizer"]["init_args"]
    named = {phase["name"]: phase["epochs"] for phase in tree.get("phases", [{"name": "all", "epochs": 1}])}
    if tree["model"]["recognizer"]["class_path"] == "RACNN" and "APN" in str(arguments.get("attention", "APN")):
        every = dict.fromkeys([*named, "locate", "recognise", "refine", "attend"])
        return [phase for phase in every if not (phase == "refine" and arguments.get("share_backbone"))]
    return [max(named, key=lambda phase: named[phase])]


def with_network(tree: Any, name: str) -> Any:
    """Return a YAML's recognizer as `architecture.build` wants it, with one timm network for every backbone."""
    if isinstance(tree, str) and tree in known_classes():
        tree = {"class_path": tree}
    if not isinstance(tree, dict):
        return tree
    if tree.get("class_path") == "Backbone":
        return {"class_path": "Backbone", "init_args": {"name": name}}
    return {key: value if key == "class_path" else with_network(value, name) for key, value in tree.items()}


class Training:
    """A recognizer in a phase, its optimizer and one batch (N, 3, S, S) uint8 in memory."""

    def __init__(self, method: str, phase: str, args: argparse.Namespace) -> None:
        tree = config(method)
        sides = {tree.get("data", {}).get("source_size", "none"): args.source}
        plain = with_network(tree["model"]["recognizer"], args.backbone)
        if "crop_size" in plain["init_args"]:
            plain["init_args"]["crop_size"] = sides.get(plain["init_args"]["crop_size"], args.size)
        self.model = build(plain, TAXONOMY, sides.get(tree["model"]["image_size"], args.size), weights="none")
        self.model.to(args.device).to(memory_format=torch.channels_last).enter(phase)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        self.images = noise(args.batch, args.size if "none" in sides else args.source, args.device)
        self.labels = torch.arange(args.batch, device=args.device) % TAXONOMY.num_classes

    def step(self) -> None:
        """Train on the batch once."""
        self.model.train()
        terms = self.model.loss(self.model(self.images), self.labels)
        self.optimizer.zero_grad()
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        self.optimizer.step()

    @torch.no_grad()
    def predict(self) -> None:
        """Answer the batch once."""
        self.model.eval()(self.images)

    def size(self) -> tuple[float, float]:
        """Return the millions of parameters, and the billions of multiply-adds of one prediction."""
        found: list[int] = []

        def count(layer: Any, _: Any, output: Tensor) -> None:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                found.append(output.numel() * layer.weight[0].numel() // len(self.images))

        with nn.modules.module.register_module_forward_hook(count):
            self.predict()
        return sum(parameter.numel() for parameter in self.model.parameters()) / 1e6, sum(found) / 1e9


def method_rows(args: argparse.Namespace) -> Iterator[tuple[Any, ...]]:
    """Yield the cells of every method and phase; the plain network over itself comes first and shows the noise."""
    chosen: list[tuple[str, str]] = [PLAIN, *((name, phase) for name in args.methods for phase in phases(name))]
    # A process hands its own peak down to those it starts: memory comes before this one has grown.
    memory = [memory_of(name, phase, args) for name, phase in tqdm(chosen, desc="memory", leave=False)]
    plain = Training(*PLAIN, args)
    for (name, phase), taken in zip(tqdm(chosen, desc="speed", leave=False), memory, strict=True):
        ours = Training(name, phase, args)
        seconds, faster = zip(turns(ours.step, plain.step, args), turns(ours.predict, plain.predict, args), strict=True)
        cells = [number for i in range(2) for number in (args.batch / seconds[i], faster[i])]
        yield f"`{name}`", phase, (*cells, taken / memory[0], *ours.size())


def naive(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Multiply images (N, C, S, S) by the masks of boxes (N, 1, 4), then sample (N, C, s, s) from them."""
    places = (torch.arange(images.shape[-1], device=boxes.device) + 0.5) / images.shape[-1]
    low, high = boxes[:, 0, :2], boxes[:, 0, 2:]
    lines = boxcar(low, high, places, SLOPE)
    masked = images.float() * (lines[:, 1, None, :, None] * lines[:, 0, None, None, :])
    theta = torch.cat((torch.diag_embed(high - low), (high + low - 1)[..., None]), dim=2).detach()
    grid = nn.functional.affine_grid(theta, [*images.shape[:2], size, size], align_corners=False)
    return nn.functional.grid_sample(masked, grid, align_corners=False)


CROPS: dict[str, Any] = {"naive": naive, "mask": partial(crop_and_resize, sharpness=SLOPE), "sampler": crop_and_resize}


def crop_rows(args: argparse.Namespace) -> Iterator[tuple[Any, ...]]:
    """Yield the cells of every way to crop; the naive one over itself comes first and shows the noise."""
    memory = [memory_of(name, "", args) for name in CROPS]
    for name, taken in zip(CROPS, memory, strict=True):
        seconds, ratio = turns(cropping(name, args), cropping("naive", args), args)
        yield name, (1e3 * seconds / args.batch, ratio, taken / 2**20, taken / memory[0])


def cropping(name: str, args: argparse.Namespace) -> Callable[[], None]:
    """Return what crops a batch by boxes of half the side and brings a gradient back to them."""
    images = noise(args.batch, args.source, args.device)
    low = torch.rand(args.batch, 1, 2, generator=torch.Generator().manual_seed(0)) / 2
    boxes = torch.cat((low, low + 0.5), dim=2).to(args.device).requires_grad_()
    return lambda: torch.autograd.backward(CROPS[name](images, boxes, args.size).sum())


def noise(number: int, side: int, device: str) -> Tensor:
    """Return (N, 3, S, S) uint8, channels last as the data hand it out."""
    pixels = torch.randint(256, (number, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return pixels.to(device).permute(0, 3, 1, 2)


def turns(ours: Callable[[], None], other: Callable[[], None], args: argparse.Namespace) -> tuple[float, float]:
    """Return the seconds of one step of ours, and how many times as fast as the other it is: medians."""

    def now() -> float:
        if args.device == "cuda":
            torch.cuda.synchronize()
        return time.process_time() if args.clock == "cpu" else time.perf_counter()

    taken: dict[Callable[[], None], list[float]] = {other: [], ours: []}
    for turn in range(args.rounds + 1):
        for work, found in taken.items():
            start = now()
            for _ in range(args.steps if turn else 1):  # the first lays out memory and is not counted
                work()
            found += [now() - start] if turn else []
    ratio = statistics.median(b / a for a, b in zip(taken[ours], taken[other], strict=True))
    return statistics.median(taken[ours]) / args.steps, ratio


def memory_of(method: str, phase: str, args: argparse.Namespace) -> int:
    """Return `peak` of a process of its own."""
    return int(
        subprocess.check_output(
            [sys.executable, "-m", "benchmarks.speed.cost", "memory", *args.words, "--row", method, phase]
        )
    )


def peak(method: str, phase: str, args: argparse.Namespace) -> int:
    """Return the bytes that a network or crop, its batch and two steps need: with gradients and optimizer."""

    def so_far() -> int:
        if args.device == "cuda":
            return torch.cuda.max_memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    before = so_far()
    work = cropping(method, args) if method in CROPS else Training(method, phase, args).step
    work()
    work()
    return so_far() - before


if __name__ == "__main__":
    sys.exit(main())
