"""Every module of timm: its smallest network, whether it can be used, and how far its vectors are from timm's.

"before" is the mean over the map, which was the default pooling until 2026-11-28; "now" is NativePooling. Both are
compared with `forward_head(forward_features(x), pre_logits=True)` of timm's own network with the same random weights,
on photographs where a folder of them is given, else on noise. Differences are the largest of any number, over the
standard deviation of timm's. "unused" is the share of the weights that no answer needed before.

    python -m benchmarks.robustness.networks --photos $CUB/images > networks.md
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import timm
import torch
from timm.models import list_modules
from torch import Tensor
from tqdm import tqdm

from fgvc.errors import UsageError
from fgvc.images.decoding import decode
from fgvc.images.resizing import EvalResize, resize_for_eval
from fgvc.methods.backbone import Backbone
from fgvc.methods.pooling.native import NativePooling

NUMBER = 4
"""Of photographs that each network sees."""


def smallest(module: str) -> str:
    """Return the name of a module's network with the fewest weights."""
    sizes = {}
    for name in timm.list_models(module=module):
        with torch.device("meta"):
            sizes[name] = numbers(timm.create_model(name, pretrained=False))
    return min(sizes, key=sizes.__getitem__)


def numbers(module: torch.nn.Module) -> int:
    """Return how many numbers the parameters of a module hold."""
    return sum(parameter.numel() for parameter in module.parameters())


def pictures(folder: Path | None, side: int) -> Tensor:
    """Return (N, 3, side, side): the first photographs of a folder, or noise."""
    if folder is None:
        return 255 * torch.rand(NUMBER, 3, side, side, generator=torch.Generator().manual_seed(0))
    squares = [
        resize_for_eval(decode(path), EvalResize(side))[0] for path in sorted(folder.rglob("*.jpg"))[:: 5994 // NUMBER]
    ]
    return torch.from_numpy(np.stack(squares[:NUMBER])).permute(0, 3, 1, 2).float()


def distance(vectors: Tensor, wanted: Tensor) -> str:
    """Return the largest difference over the standard deviation of what was wanted, in words."""
    if vectors.shape != wanted.shape:
        return f"{vectors.shape[1]} numbers, not {wanted.shape[1]}"
    return f"{float((vectors - wanted).abs().max() / wanted.std()):.2g}"


@torch.no_grad()
def row(module: str, name: str, folder: Path | None) -> list[str]:
    """Return the cells of one module."""
    side = timm.get_pretrained_cfg(name).input_size[-1]
    try:
        backbone = Backbone(side, name, "none").eval()
    except UsageError as error:
        return [module, name, f"refused: {str(error).partition('here: ')[2].partition(';')[0]}", "", "", "", "", ""]
    pooling = NativePooling(backbone.channels).attach(backbone).eval()
    net = timm.create_model(name, num_classes=0).eval()
    own = {**backbone.net.state_dict(), **pooling.own.net.state_dict()}
    net.load_state_dict({key: own[key] for key in net.state_dict()})
    images = pictures(folder, side)
    features = backbone(images)
    wanted = net.forward_head(net.forward_features((images - backbone.mean) / backbone.std), pre_logits=True)
    size = " x ".join(map(str, backbone.grid))
    unused = f"{numbers(pooling) / numbers(net):.0%}" if numbers(pooling) else ""
    before, now = distance(features.map.mean(dim=(2, 3)), wanted), distance(pooling.pool(features), wanted)
    return [
        module,
        name,
        "works",
        f"{side} px: {size} x {backbone.channels}",
        str(wanted.shape[1]),
        unused,
        before,
        now,
    ]


def main() -> None:
    """Parse the options, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of photographs")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| module | network | state | map | D | unused before | off before | off now |")
    print("|---|---|---|---|---|---|---|---|")
    for module in tqdm(list_modules(), file=sys.stderr):
        torch.manual_seed(0)
        print("|", " | ".join(row(module, smallest(module), options.photos)), "|", flush=True)


if __name__ == "__main__":
    main()
