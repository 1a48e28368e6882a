"""Frozen linear probe: what a backbone's features are worth before any fine-tuning.

Features of the images are computed once, and the logistic regression of `fgvc probe` is fitted on them. The penalty is
chosen on a stratified tenth of the training images, then the probe is fitted on all of them and scored once on the test
split. `fgvc embed` and `fgvc probe` do the same on any data, and keep features and model.

    python -m benchmarks.accuracy.linear_probe --root $CUB --backbone mobilenetv2_100 --image_size 224 \\
        --weights $WEIGHTS/mobilenetv2_100.tf_in1k.safetensors --pad_same
"""

import argparse
import sys
import time

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fgvc.data.records import Records
from fgvc.data.sources.cub import CUB
from fgvc.images.decoding import decode
from fgvc.images.resizing import INTERPOLATIONS, EvalResize, resize_for_eval
from fgvc.methods.backbone import Backbone
from fgvc.methods.pooling.average import AveragePooling
from fgvc.methods.pooling.base import Pooling
from fgvc.methods.pooling.native import NativePooling
from fgvc.training.logistic import Linear, Reached, fit, reached, standardised
from fgvc.training.probe import HELD_OUT, PENALTIES, Images, Tried, choose, held_out_rows


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


def images(records: Records, vectors: Tensor) -> Images:
    """Return the images of records with their features (N, D)."""
    paths = [records.relative_path(i) for i in range(len(records))]
    return Images(vectors, torch.from_numpy(records.labels).long(), paths)


def probed(train: Images, test: Images, num_classes: int) -> tuple[list[Tried], float, Reached]:
    """Choose a penalty on a tenth of train, fit on all of it, and score on test; all labels are leaves.

    Returns:
        The penalties that were tried, the best, and what it reaches on test.
    """
    tried, best, linear = fitted(train, num_classes)
    return tried, best, reached(linear, test.features, test.labels, torch.arange(len(test.labels)))


def fitted(train: Images, num_classes: int) -> tuple[list[Tried], float, Linear]:
    """Choose a penalty on a tenth of train and fit on all of it; return the penalties, the best, the classifier."""
    everyone = torch.arange(len(train.labels))
    held, rest = held_out_rows(train, everyone, HELD_OUT)
    best, tried, weights = choose(train, rest, train, held, num_classes, PENALTIES)
    whole = standardised(train.features, train.labels, everyone)
    return tried, best, whole.folded(fit(whole, num_classes, best, weights, doing="fitting all of train"))


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
    parts = (source.records(split) for split in ("train", "test"))
    train, test = (images(part, features(backbone, pooling, part, how)) for part in parts)
    tried, penalty, final = probed(train, test, source.taxonomy.num_classes)
    minutes = (time.perf_counter() - start) / 60
    print({one.penalty: round(100 * one.reached.right, 1) for one in tried})
    print(
        f"{options.backbone} {options.fit} {options.crop_fraction:g} {options.interpolation} "
        f"{options.image_size} px, {options.pooling} pooling: "
        f"test top-1 {100 * final.right:.2f} % of {len(test.labels)} (penalty {penalty:g}, {minutes:.1f} minutes)"
    )


if __name__ == "__main__":
    main()
