"""What each tool against imbalance gains on a long tail of photographs, on frozen features.

The training photographs of CUB are thinned to an exponential profile, for each seed to another one: which class is how
frequent is drawn. A linear classifier (a cosine classifier for LDAM) of the features that `fgvc embed` computed is
trained in a plain loop with the samplers, heads, losses and rates of `fgvc fit`. The rate of either classifier, and the
beta of each method, are chosen on the held-out photographs, of which all classes have equally many; what is chosen is
scored on the test split.

    python -m benchmarks.accuracy.long_tail --features features/cub --root $CUB
"""

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import hardware
from fgvc.data.datamodule import FineGrainedData
from fgvc.data.long_tail import LongTail
from fgvc.data.samplers import Balance, TrainSampler
from fgvc.data.sources.base import DataSource
from fgvc.data.sources.cub import CUB
from fgvc.data.transforms import Augmentation
from fgvc.features.folder import FeatureFolder, open_features
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.base import start_rows
from fgvc.methods.heads.cosine import CosineHead
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.losses.ldam import LDAM
from fgvc.methods.losses.weighted_cross_entropy import WeightedCrossEntropy
from fgvc.methods.recognizers.whole_image import WholeImage
from fgvc.training.metrics.accuracy import HierarchyMetrics
from fgvc.training.optimizers import warmup_cosine
from fgvc.training.tau_norm import best_tau, leaf_rows, rescale, try_taus

MEASURES = ("top1", "many", "medium", "few")
BETAS = (0.9, 0.99)
LAST = 0.3
"""Share of the epochs of a second phase."""


@dataclass(frozen=True)
class Method:
    """A way to train.

    head: makes the head from beta; control: the method whose rate it takes, its own name where it has one of its own.
    balance: of the data; betas: of effective numbers, the best of which is taken.
    last: keys of a second phase, or None; faster: how many times the rate it has.
    tau: whether the rows are rescaled after the training.
    """

    name: str
    head: Any = lambda _: LinearHead
    control: str = "plain"
    balance: Balance = "uniform"
    betas: Sequence[float] = (0.999,)
    last: Mapping[str, Any] | None = None
    faster: float = 1.0
    tau: bool = False


def weighted(beta: float) -> Any:
    """Return a head whose loss weighs classes."""
    return partial(LinearHead, loss=partial(WeightedCrossEntropy, beta=beta))


def adjusted(_: float) -> Any:
    """Return a head with the logit adjustment."""
    return partial(LinearHead, prior_strength=1.0)


def cosine(_: float) -> Any:
    """Return the head that LDAM is made for, with the plain loss."""
    return partial(CosineHead, scale=30.0, learn_scale=False)


def margined(beta: float) -> Any:
    """Return a cosine head with LDAM."""
    return partial(CosineHead, scale=30.0, learn_scale=False, loss=partial(LDAM, scale=30.0, beta=beta))


COSINE = "cosine classifier"
METHODS = (
    Method("plain"),
    Method("sampler sqrt", balance="sqrt"),
    Method("sampler class_balanced", balance="class_balanced"),
    Method("sampler effective_number", balance="effective_number", betas=BETAS),
    Method("logit adjustment 1 (balanced softmax)", adjusted),
    Method("class weights, effective number", weighted, betas=BETAS),
    Method("cRT", last={"new_classifiers": True, "balance": "class_balanced"}, faster=5.0),
    Method("tau-normalisation", tau=True),
    Method(COSINE, cosine, COSINE),
    Method("LDAM-DRW", margined, COSINE, betas=(0.9999,), last={"reweight": True}),
)


class Vectors(NamedTuple):
    """Features (R, D) float32 of the photographs of a split and their labels (R,) int64."""

    features: Tensor
    labels: Tensor


class Reached(NamedTuple):
    """What a training reaches: the accuracy of val, and of test by measure; tau where rows were rescaled."""

    val: float
    test: dict[str, float]
    tau: float | None


@dataclass
class Tail:
    """Thinned data, and what the network says of them.

    train, val, test: vectors and labels; counts: (K,) training photographs of each class.
    """

    data: FineGrainedData
    train: Vectors
    val: Vectors
    test: Vectors
    counts: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Count the training photographs of each class."""
        self.counts = self.data.class_counts


def by_path(folder: FeatureFolder) -> dict[str, np.ndarray[Any, Any]]:
    """Return path -> (D,) of all splits of a folder of features, which may be cut otherwise than the data."""
    parts = [folder.part(split, "whole") for split in folder.splits]
    return {path: row for part in parts for path, row in zip(part.paths, part.features, strict=True)}


def tail_of(
    source: DataSource, known: Mapping[str, Any], plan: LongTail, balance: Balance, beta: float, batch_size: int = 64
) -> Tail:
    """Return the data of a plan; its seed also orders the batches, and cuts off the photographs that choose."""
    data = FineGrainedData(
        source, batch_size=batch_size, num_workers=0, balance=balance, balance_beta=beta, long_tail=plan,
        augmentation=Augmentation(off=True), seed=plan.seed, split_seed=plan.seed,
    )  # fmt: skip
    found = {}
    for split in ("train", "val", "test"):
        records = data.records(split)
        rows = np.stack([known[records.relative_path(i)] for i in range(len(records))]).astype(np.float32)
        found[split] = Vectors(torch.from_numpy(rows), torch.from_numpy(records.labels).long())
    return Tail(data, **found)


def given(backbone: Backbone, _: int) -> Backbone:
    """Return a backbone that is there, in place of one for an image size."""
    return backbone


def train(tail: Tail, backbone: Backbone, method: Method, beta: float, rate: float, epochs: int) -> WholeImage:
    """Train a head on the vectors; the backbone is never asked."""
    data, last = tail.data, method.last or {}
    torch.manual_seed(data.seed)
    recognizer = WholeImage(data.taxonomy, 224, partial(given, backbone), method.head(beta))
    recognizer.set_class_counts(tail.counts)
    recognizer.enter("head")
    recognizer.train()
    samplers = [
        TrainSampler(tail.train.labels.int().numpy(), balance, data.seed, beta=beta)
        for balance in (data.balance, last.get("balance", data.balance))
    ]
    per_epoch = len(samplers[0]) // data.batch_size
    first = epochs - (round(LAST * epochs) if method.last else 0)
    parameters = [one for one in recognizer.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.05)
    for epoch in range(epochs):
        is_last = epoch >= first
        if is_last and last.get("reweight"):
            recognizer.reweight(True)
        if epoch == first and last.get("new_classifiers"):
            for weight, bias in recognizer.classifiers():
                start_rows(weight, bias)
            optimizer = torch.optim.AdamW(parameters, weight_decay=0.05)
        samplers[is_last].set_epoch(epoch)
        order = torch.tensor([index for _, index in samplers[is_last]])
        for step, rows in enumerate(order.split(data.batch_size)[:per_epoch]):
            factor = warmup_cosine(epoch * per_epoch + step, epochs * per_epoch, per_epoch)
            optimizer.param_groups[0]["lr"] = rate * factor * (method.faster if is_last else 1)
            prediction = recognizer(tail.train.features[rows])
            loss = sum(recognizer.loss(prediction, tail.train.labels[rows]).values())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[union-attr]
            optimizer.step()
    recognizer.eval()
    return recognizer


@torch.inference_mode()
def scores(recognizer: WholeImage, vectors: Vectors, counts: Tensor) -> dict[str, float]:
    """Return the measures of the finest level."""
    taxonomy = recognizer.taxonomy
    metrics = HierarchyMetrics(taxonomy, class_counts=counts)
    metrics.update(taxonomy.complete(recognizer(vectors.features).logits), vectors.labels)
    found = metrics.compute()
    return {name: float(found[f"{taxonomy.leaf_level}/{name}"]) for name in MEASURES}


def reach(method: Method, tail: Tail, backbone: Backbone, beta: float, rate: float, epochs: int) -> Reached:
    """Train with one rate and beta, and score."""
    recognizer = train(tail, backbone, method, beta, rate, epochs)
    tau = None
    if method.tau:
        with torch.inference_mode():
            logits = recognizer(tail.val.features).logits[tail.data.taxonomy.leaf_level]
        tau = best_tau(try_taus(logits, tail.val.labels, *leaf_rows(recognizer))).tau
        rescale(recognizer, tau)
    return Reached(scores(recognizer, tail.val, tail.counts)["top1"], scores(recognizer, tail.test, tail.counts), tau)


def compare(
    source: DataSource, known: Mapping[str, Any], backbone: Backbone, options: argparse.Namespace
) -> Iterator[tuple[Method, list[Reached], float, float]]:
    """Yield each method with what the seeds reach with the rate and the beta that are best on val, and these two."""
    rates: dict[str, float] = {}
    for method in METHODS:
        best: tuple[float, list[Reached], float, float] | None = None
        mine = [rates[method.control]] if method.control in rates else options.rates
        for beta, rate in itertools.product(method.betas, mine):
            tails = (
                tail_of(source, known, plan, method.balance, beta, options.batch_size)
                for plan in (LongTail(options.most, options.least, seed) for seed in options.seeds)
            )
            reached = [reach(method, tail, backbone, beta, rate, options.epochs) for tail in tails]
            val = float(np.mean([one.val for one in reached]))
            if best is None or val > best[0]:
                best = (val, reached, rate, beta)
        assert best is not None
        rates.setdefault(method.name, best[2])
        yield method, *best[1:]


def row(method: Method, reached: Sequence[Reached], rate: float, beta: float, plain: Sequence[Reached]) -> str:
    """Return a row of the table: means over the seeds, in per cent, and the difference to plain with its spread."""
    means = [100 * np.mean([one.test[name] for one in reached]) for name in MEASURES]
    gains = [
        [100 * (one.test[name] - other.test[name]) for one, other in zip(reached, plain, strict=True)]
        for name in ("top1", "few")
    ]
    told = [f"rate {rate:g}"] * (method.control == method.name or method.name == "plain")
    told += [f"beta {beta:g}"] * (len(method.betas) > 1)
    told += [f"tau {', '.join(f'{one.tau:g}' for one in reached if one.tau is not None)}"] * method.tau
    numbers = " | ".join(f"{mean:.1f}" for mean in means)
    spread = " | ".join(f"{np.mean(gain):+.1f} ({min(gain):+.1f} to {max(gain):+.1f})" for gain in gains)
    return f"| {method.name} | {numbers} | {spread} | {', '.join(told) or '-'} |"


def main(words: Sequence[str] | None = None) -> None:
    """Parse the options, run, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--features", required=True, help="vectors of all photographs, from fgvc embed --take prelogits"
    )
    parser.add_argument("--root", required=True, help="the folder of CUB-200-2011")
    parser.add_argument("--most", type=int, default=20)
    parser.add_argument("--least", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0003, 0.001, 0.003, 0.01, 0.03])
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    folder = open_features(options.features)
    print("| method | all | many | medium | few | all, over plain | few, over plain | chosen on val |")
    print("|---|---|---|---|---|---|---|---|")
    backbone = Backbone(224, folder.description["model"], "none")
    plain: list[Reached] = []
    for method, reached, rate, beta in compare(CUB(options.root, tree="flat"), by_path(folder), backbone, options):
        plain = plain or reached
        print(row(method, reached, rate, beta, plain), flush=True)
    print(hardware())


if __name__ == "__main__":
    main()
