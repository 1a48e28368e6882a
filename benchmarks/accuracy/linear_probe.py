"""Frozen linear probe: what a backbone's features are worth before any fine-tuning.

Features of the whole, squashed images are computed once; a multinomial logistic regression is fitted on them with
L-BFGS. The weight of the penalty is chosen on a stratified tenth of the training images, then the probe is fitted on
all of them and scored once on the test split.

    python -m benchmarks.accuracy.linear_probe --root $CUB --backbone mobilenetv2_100 --image_size 224 \\
        --weights $WEIGHTS/mobilenetv2_100.tf_in1k.safetensors --pad_same
"""

import argparse
import sys
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from fgvc.data.records import Records
from fgvc.data.sources.cub import CUB
from fgvc.data.splitting import stratified_split
from fgvc.images.decoding import decode
from fgvc.images.resizing import INTERPOLATIONS, EvalResize, resize_for_eval
from fgvc.methods.backbone import Backbone
from fgvc.methods.pooling.average import AveragePooling
from fgvc.methods.pooling.base import Pooling
from fgvc.methods.pooling.native import NativePooling

PENALTIES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)


@torch.inference_mode()
def features(backbone: Backbone, pooling: Pooling, records: Records, how: EvalResize, batch: int = 64) -> Tensor:
    """Return the pooled map of every record, (N, D)."""
    out = []
    for start in tqdm(range(0, len(records), batch), file=sys.stderr, desc="features"):
        pictures = [
            resize_for_eval(decode(r.path, at_least=how.at_least), how)[0] for r in records[start : start + batch]
        ]
        images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        out.append(pooling.pool(backbone(images)))
    return torch.cat(out).clone()


def fit(x: Tensor, y: Tensor, num_classes: int, penalty: float, iterations: int = 100) -> Tensor:
    """Return the (C + 1, K) weights that minimise cross-entropy + penalty * |W|^2."""
    padded = torch.cat((x, torch.ones(len(x), 1)), dim=1)
    weights = torch.zeros(padded.shape[1], num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(padded @ weights, y) + penalty * weights[:-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach()


def accuracy(x: Tensor, y: Tensor, weights: Tensor) -> float:
    """Return the share of right answers."""
    return float(((x @ weights[:-1] + weights[-1]).argmax(dim=1) == y).float().mean())


def main() -> None:
    """Parse the options, run, print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the folder of CUB-200-2011")
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--pad_same", action="store_true", help="pad_type=same and mean = std = 0.5")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--fit", default="squash", choices=("squash", "crop"))
    parser.add_argument("--crop_fraction", type=float, default=1.0)
    parser.add_argument("--interpolation", default="area", choices=INTERPOLATIONS)
    parser.add_argument("--pooling", default="native", choices=("native", "average"))
    options = parser.parse_args()
    start = time.perf_counter()
    source = CUB(options.root)
    half = [0.5] * 3
    settings = {"model_args": {"pad_type": "same"}, "mean": half, "std": half} if options.pad_same else {}
    backbone = Backbone(options.image_size, options.backbone, options.weights, **settings).eval()
    backbone.to(memory_format=torch.channels_last)
    kind = NativePooling if options.pooling == "native" else AveragePooling
    pooling = kind(backbone.channels).attach(backbone).eval()
    how = EvalResize(options.image_size, options.fit, options.crop_fraction, options.interpolation)
    train, test = (features(backbone, pooling, source.records(split), how) for split in ("train", "test"))
    labels, truth = (torch.from_numpy(source.records(split).labels).long() for split in ("train", "test"))
    mean, std = train.mean(dim=0), train.std(dim=0).clamp_min(1e-6)
    train, test = (train - mean) / std, (test - mean) / std
    held_out = torch.from_numpy(stratified_split(labels.numpy().astype(np.int32), 0.1, 0))
    scores = {}
    for penalty in tqdm(PENALTIES, file=sys.stderr, desc="penalty"):
        weights = fit(train[~held_out], labels[~held_out], source.taxonomy.num_classes, penalty)
        scores[penalty] = accuracy(train[held_out], labels[held_out], weights)
    best = max(scores, key=scores.__getitem__)
    final = accuracy(test, truth, fit(train, labels, source.taxonomy.num_classes, best))
    minutes = (time.perf_counter() - start) / 60
    print({penalty: round(100 * score, 1) for penalty, score in scores.items()})
    print(
        f"{options.backbone} {options.fit} {options.crop_fraction:g} {options.interpolation} "
        f"{options.image_size} px, {options.pooling} pooling: "
        f"test top-1 {100 * final:.2f} % of {len(truth)} (penalty {best:g}, {minutes:.1f} minutes)"
    )


if __name__ == "__main__":
    main()
