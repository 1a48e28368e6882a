"""Poolings on a frozen network: what each is worth before anything is fine-tuned.

The last map of every photograph is computed once. Its channels are turned to their principal axes over all positions of
the training maps (the first `--reduced` of them, for the poolings that need few channels), pooled, and the logistic
regression of `fgvc probe` is fitted. The penalty is chosen on a stratified tenth of the training photographs; the test
photographs are scored once, and each pooling is compared with the first, photograph by photograph. All see one set of
maps.

    python -m benchmarks.accuracy.pooling --root $CUB --pad_same --image_size 160 --last_stride 1 \\
        --weights $WEIGHTS/mobilenetv2_100.tf_in1k.safetensors
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from benchmarks.accuracy.linear_probe import fitted, images
from fgvc.confidence.paired import bootstrap
from fgvc.data.records import Records
from fgvc.data.sources.cub import CUB
from fgvc.images.decoding import decode
from fgvc.images.resizing import EvalResize, resize_for_eval
from fgvc.methods.backbone import Backbone
from fgvc.methods.pooling.bilinear import bilinear
from fgvc.methods.pooling.compact_bilinear import CompactBilinearPooling
from fgvc.methods.pooling.gem import generalised_mean
from fgvc.methods.pooling.isqrt_cov import isqrt_covariance

Pool = Callable[[Tensor], Tensor]


@torch.inference_mode()
def maps(backbone: Backbone, records: Records, how: EvalResize, batch: int = 32) -> Tensor:
    """Return the last map of every record, (N, C, h, w), in half precision."""
    out = []
    for start in tqdm(range(0, len(records), batch), file=sys.stderr, desc="maps"):
        pictures = [
            resize_for_eval(decode(r.path, at_least=how.at_least), how)[0] for r in records[start : start + batch]
        ]
        shown = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        out.append(backbone(shown).map.half().contiguous())
    return torch.cat(out)


def principal_axes(of: Tensor, reduced: int) -> tuple[Tensor, Tensor]:
    """Maps (N, C, h, w) -> mean (C,) and the first axes (reduced, C) of the channels over all positions."""
    total, product, count = torch.zeros(of.shape[1]).double(), 0, 0
    for part in of.split(64):
        positions = part.float().movedim(1, 3).flatten(0, 2)
        total += positions.sum(dim=0)
        product, count = product + positions.T @ positions, count + len(positions)
    mean = total / count
    _, axes = torch.linalg.eigh(product.double() / count - mean[:, None] * mean)
    return mean.float(), axes.flip(1)[:, :reduced].T.float()


def pooled(of: Tensor, pool: Pool) -> Tensor:
    """Maps (N, C, h, w) -> vectors of length 1, (N, D)."""
    with torch.inference_mode():
        return torch.cat([normalize(pool(part.float())) for part in of.split(32)]).clone()


def poolings(train: Tensor, reduced: int) -> dict[str, Pool]:
    """Return the poolings by name; those that need few channels see the first principal axes."""
    mean, axes = principal_axes(train, reduced)
    sketch = CompactBilinearPooling(train.shape[1])

    def few(of: Tensor) -> Tensor:
        return torch.einsum("dc,nchw->ndhw", axes, of - mean[:, None, None])

    return {
        "average": lambda of: of.mean(dim=(2, 3)),
        "maximum": lambda of: of.amax(dim=(2, 3)),
        "GeM, p = 3": lambda of: generalised_mean(of, torch.tensor(3.0)),
        f"bilinear, {reduced} axes": lambda of: bilinear(few(of)),
        "compact bilinear, 8,192": sketch,
        f"iSQRT-COV, {reduced} axes": lambda of: isqrt_covariance(few(of)),
    }


def main() -> None:
    """Parse the options, print one line per pooling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the folder of CUB-200-2011")
    parser.add_argument("--protocol", default="dev")
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--pad_same", action="store_true", help="pad_type=same and mean = std = 0.5")
    parser.add_argument("--image_size", type=int, default=160)
    parser.add_argument("--last_stride", type=int, choices=(1,), help="1: a map twice as fine")
    parser.add_argument("--reduced", type=int, default=128)
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of names, such as average iSQRT")
    options = parser.parse_args()
    source = CUB(options.root, protocol=options.protocol)
    half = [0.5] * 3
    settings = {"model_args": {"pad_type": "same"}, "mean": half, "std": half} if options.pad_same else {}
    backbone = Backbone(
        options.image_size, options.backbone, options.weights, **settings, last_stride=options.last_stride
    )
    backbone.eval().to(memory_format=torch.channels_last)
    how = EvalResize(options.image_size, "crop", 0.875, "bicubic")
    records = {split: source.records(split) for split in ("train", "test")}
    of = {split: maps(backbone, part, how) for split, part in records.items()}
    print(f"{options.backbone} {options.image_size} px, maps {tuple(of['train'].shape)}", flush=True)
    first: npt.NDArray[np.float64] | None = None
    for name, pool in poolings(of["train"], options.reduced).items():
        if not name.startswith(tuple(options.only)):
            continue
        start = time.perf_counter()
        seen = {split: pooled(part, pool) for split, part in of.items()}
        took = time.perf_counter() - start
        train, test = (images(records[split], seen[split]) for split in ("train", "test"))
        tried, penalty, linear = fitted(train, source.taxonomy.num_classes)
        best = max(one.reached.right for one in tried)
        right = (linear.logits(test.features).argmax(dim=1) == test.labels).double().numpy()
        first = right if first is None else first
        over = bootstrap(right - first)
        print(
            f"| {name} | {seen['train'].shape[1]:,} | {100 * best:.1f} | {100 * right.mean():.2f} | "
            f"{100 * over.mean:+.2f} | {100 * over.low:+.2f} to {100 * over.high:+.2f} | {penalty:g} | "
            f"{took:.0f} s | {time.perf_counter() - start - took:.0f} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
