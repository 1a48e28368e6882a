"""Temperatures fitted on few images: the error they leave, against none and against plain likelihood.

    python -m benchmarks.accuracy.small_calibration --root $CUB \\
        --weights $WEIGHTS/tf_efficientnet_lite0.in1k_backbone.safetensors

Linear probes on frozen features, too sure and too unsure ones among them, are trained on a quarter of the training
images. From another half, small validation sets of 10 to 60 images are drawn; half of a set fits the temperature, as in
`fgvc calibrate`. The mean expected calibration error on the test images is printed for each probe and rule.
"""

import argparse
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.accuracy.linear_probe import features
from fgvc.data.sources.cub import CUB
from fgvc.images.resizing import EvalResize
from fgvc.methods.backbone import Backbone
from fgvc.methods.pooling.native import NativePooling
from fgvc.training.calibration import COLDEST, HOTTEST, calibration_error, fit_temperature, halves


class Recipe(NamedTuple):
    """How a probe is trained: steps of Adam at 0.001, weight decay, label smoothing."""

    steps: int
    weight_decay: float = 0.0
    label_smoothing: float = 0.0


RECIPES = {
    "stopped early": Recipe(60),
    "decayed": Recipe(200, weight_decay=1e-3),
    "trained to the end": Recipe(1500),
    "label smoothing 0.1": Recipe(400, label_smoothing=0.1),
    "label smoothing 0.3": Recipe(400, label_smoothing=0.3),
}


def likeliest(logits: Tensor, targets: Tensor) -> float:
    """Return the T of the largest likelihood, without a prior."""

    def cost(log_t: float) -> float:
        return float(cross_entropy(logits.double() / math.exp(log_t), targets))

    bounds = (math.log(COLDEST), math.log(HOTTEST))
    return math.exp(minimize_scalar(cost, bounds=bounds, method="bounded").x)


def probe(x: Tensor, y: Tensor, classes: int, recipe: Recipe) -> nn.Linear:
    """Return a linear classifier of features (N, C)."""
    torch.manual_seed(0)
    linear = nn.Linear(x.shape[1], classes)
    optimizer = torch.optim.Adam(linear.parameters(), 1e-3, weight_decay=recipe.weight_decay)
    for _ in range(recipe.steps):
        optimizer.zero_grad()
        cross_entropy(linear(x), y, label_smoothing=recipe.label_smoothing).backward()
        optimizer.step()
    return linear.requires_grad_(False)


def errors(val: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], sets: int, seed: int) -> dict[str, float]:
    """Return rule -> mean calibration error on the test logits (N, K) over small sets drawn from the others."""
    draw = np.random.default_rng(seed)
    found: dict[str, list[float]] = {"none": [], "likelihood": [], "ours": []}
    for _ in range(sets):
        rows = torch.from_numpy(draw.permutation(len(val[1]))[: int(draw.integers(10, 61))])
        rows = rows[halves(len(rows))[0]]
        logits, targets = val[0][rows], val[1][rows]
        rules = {"none": 1.0, "likelihood": likeliest(logits, targets), "ours": fit_temperature(logits, targets).value}
        for rule, temperature in rules.items():
            confidence, answer = (test[0] / temperature).softmax(dim=1).max(dim=1)
            found[rule].append(calibration_error(confidence, answer == test[1]))
    return {rule: float(np.mean(of_rule)) for rule, of_rule in found.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the options, run, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--root", required=True, help="the folder of CUB-200-2011")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--image_size", type=int, default=160)
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    source, how = CUB(options.root), EvalResize(options.image_size)
    backbone = Backbone(options.image_size, options.backbone, options.weights, mean=[0.5] * 3, std=[0.5] * 3).eval()
    records = {split: source.records(split) for split in ("train", "test")}
    pooling = NativePooling(backbone.channels).attach(backbone).eval()
    seen = {split: features(backbone, pooling, of_split, how) for split, of_split in records.items()}
    labels = {split: torch.from_numpy(of_split.labels).long() for split, of_split in records.items()}
    mean, std = seen["train"].mean(dim=0), seen["train"].std(dim=0).clamp_min(1e-6)
    x, test = ((seen[split] - mean) / std for split in ("train", "test"))
    place = torch.arange(len(x)) % 4  # images lie in the order of their classes
    classes = source.taxonomy.num_classes
    print("| probe | test top-1 | none | likelihood | ours |\n|---|---|---|---|---|")
    means = []
    for name, recipe in RECIPES.items():
        linear = probe(x[place == 0], labels["train"][place == 0], classes, recipe)
        val, shown = (linear(x[place > 1]), labels["train"][place > 1]), (linear(test), labels["test"])
        row = errors(val, shown, options.sets, options.seed)
        means.append(list(row.values()))
        top1 = float((shown[0].argmax(dim=1) == shown[1]).float().mean())
        print(f"| {name} | {100 * top1:.1f} % | " + " | ".join(f"{error:.4f}" for error in row.values()) + " |")
    print("| mean | | " + " | ".join(f"{error:.4f}" for error in np.mean(means, axis=0)) + " |")
    return 0


if __name__ == "__main__":
    main()
