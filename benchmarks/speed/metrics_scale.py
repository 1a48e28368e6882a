"""What the metrics of a large tree cost: seconds and memory for 100,000 predictions of 10,000 leaves at seven levels.

    python -m benchmarks.speed.metrics_scale --clock cpu

A random tree and random logits, so the accuracies mean nothing. Three times are kept apart: making the logits, which a
network would do; `Taxonomy.complete`, which sums the leaf probabilities up to the six other levels; and the metrics
themselves. Memory is the peak of the process over what it had before the first batch, logits included.
"""

import argparse
import random
import resource
import sys
import time
from collections.abc import Sequence

import torch

from benchmarks.machine import hardware
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.metrics.accuracy import HierarchyMetrics

LEVELS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")


def main(words: Sequence[str] | None = None) -> int:
    """Count all batches and print the table."""
    args = arguments(words)
    tree = random_tree(args.leaves, args.seed)
    print(f"{hardware()}\n{tree}, {args.images} images in batches of {args.batch}, {args.clock} time\n", flush=True)
    torch.manual_seed(args.seed)
    metrics, seconds, before = HierarchyMetrics(tree), [0.0, 0.0, 0.0], peak()
    now = time.process_time if args.clock == "cpu" else time.perf_counter
    with torch.inference_mode():
        for start in range(0, args.images, args.batch):
            moments = [now()]
            size = min(args.batch, args.images - start)
            labels = torch.randint(tree.num_classes, (size,))
            logits = torch.randn(size, tree.num_classes).scatter_add_(1, labels[:, None], torch.full((size, 1), 4.0))
            moments.append(now())
            scores = tree.complete({tree.leaf_level: logits})
            moments.append(now())
            metrics.update(scores, labels)
            moments.append(now())
            seconds = [total + b - a for total, a, b in zip(seconds, moments, moments[1:], strict=False)]
        begin = now()
        found = metrics.compute()
        seconds[2] += now() - begin
    state = sum(x.nbytes for m in metrics.modules() for x in getattr(m, "metric_state", {}).values())
    print("| making logits, s | complete, s | metrics, s | peak memory, MB | state, MB |\n|---|---|---|---|---|")
    cells = [f"{x:.3g}" for x in (*seconds, (peak() - before) / 2**20, state / 2**20)]
    print("|", " | ".join(cells), "|")
    print("\n" + ", ".join(f"{name} {value:.3f}" for name, value in found.items() if "/" not in name))
    return 0


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leaves", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: all threads; steadier when busy")
    args = parser.parse_args(words)
    if min(args.leaves, args.images, args.batch) < 1:
        parser.error("leaves, images and batch must be at least 1")
    return args


def random_tree(leaves: int, seed: int) -> Taxonomy:
    """Return a tree of seven levels, each about a third of the next, in which every node has a random parent."""
    draw = random.Random(seed)
    sizes = [max(1, leaves // 3**height) for height in range(len(LEVELS) - 1, -1, -1)]
    paths = [(f"{LEVELS[0]} {i}",) for i in range(sizes[0])]
    for level, size in zip(LEVELS[1:], sizes[1:], strict=True):
        paths = [(*draw.choice(paths), f"{level} {i}") for i in range(size)]
    return Taxonomy(LEVELS, paths)


def peak() -> int:
    """Return the largest resident set of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.exit(main())
