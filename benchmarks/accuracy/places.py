"""What it is worth to know where the cells of a map lie: SCDA's boxes of a network before and after, without training.

    python -m benchmarks.accuracy.places --root $CUB --weights $WEIGHTS/mobilenetv2_100.tf_in1k.safetensors \
        --model-args '{pad_type: same}'

Each photograph is squashed to a square. Its boxes are the one around SCDA's mask and the start of RA-CNN's attention,
the mean and spread of the map, as the bare grid of the map has them (before) and where the cells look (after, see
`Backbone.cells`). They are compared with the annotated box and the annotated points of the head; the difference comes
with a 95 % interval of the paired means. `off to the right` needs no annotation: half the distance of a box's centre
from that of the mirror image, mirrored back, in sides of the image; 0 where places are true.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import yaml
from torch import Tensor

from benchmarks.machine import hardware
from fgvc.data.sources.cub import CUB
from fgvc.images.boxes import Box
from fgvc.images.decoding import decode
from fgvc.images.regions import box_iou, inside
from fgvc.images.resizing import EvalResize, resize_for_eval
from fgvc.methods.attention.apn import spread_boxes
from fgvc.methods.backbone import Backbone
from fgvc.methods.cells import EVEN, Cells
from fgvc.methods.object_mask import selected_boxes

BATCH = 16
MEASURES = ("IoU with the annotated box", "head points in the box", "off to the right")


class Photograph(NamedTuple):
    """A square picture (S, S, 3), the annotated box of the bird, and the visible points of its head (P, 2)."""

    pixels: Tensor
    box: Box
    head: Tensor


def photographs(root: str, side: int, number: int, split: str = "test") -> Iterator[Photograph]:
    """Yield photographs of CUB that are spread evenly over a split."""
    source = CUB(root)
    records = source.records(split)
    for index in range(0, len(records), max(1, len(records) // number))[:number]:
        known = source.annotations(split, index)
        square, _ = resize_for_eval(decode(records[index].path), EvalResize(side, "squash"))
        head = [known.points[name] for name in source.head_parts if name in known.points]
        yield Photograph(torch.from_numpy(square), known.boxes["object"], torch.tensor(head).view(-1, 2))


def mask_boxes(maps: Tensor, cells: Cells) -> Tensor:
    """Maps (N, C, h, w) -> (N, 4): around SCDA's mask."""
    return selected_boxes(maps, cells=cells)


def start_boxes(maps: Tensor, cells: Cells) -> Tensor:
    """Maps (N, C, h, w) -> (N, 4): where `configs/methods/ra_cnn.yaml` starts, but for its smallest side."""
    return spread_boxes(maps, 1.5, 0.0, square=False, cells=cells)


WAYS = {"SCDA's mask": mask_boxes, "mean and spread": start_boxes}


@torch.inference_mode()
def scores(
    backbone: Backbone, seen: Sequence[Photograph], way: Callable[[Tensor, Cells], Tensor] = mask_boxes
) -> dict[str, Tensor]:
    """Return `before` and `after` -> (N, 3): IoU, share of the head's points inside, how far off to the right."""
    rows: dict[str, list[Tensor]] = {"before": [], "after": []}
    for start in range(0, len(seen), BATCH):
        part = seen[start : start + BATCH]
        images = torch.stack([one.pixels for one in part]).permute(0, 3, 1, 2)
        maps, mirrored = backbone(images).map, backbone(images.flip(3)).map
        for name, cells in (("before", EVEN), ("after", backbone.cells())):
            boxes, other = way(maps, cells), way(mirrored, cells)
            off = (boxes[:, ::2].mean(dim=1) + other[:, ::2].mean(dim=1) - 1) / 2
            shared = box_iou(boxes, torch.tensor([one.box for one in part]))
            heads = [inside(one.head, box).float().mean() for one, box in zip(part, boxes, strict=True)]
            rows[name].append(torch.stack((shared, torch.stack(heads), off), dim=1))
    return {name: torch.cat(found) for name, found in rows.items()}


def table(found: dict[str, Tensor]) -> str:
    """Return the means and their paired difference with a 95 % interval, as Markdown; NaN is left out: no head seen."""
    lines = ["| | before | after | difference |", "|---|---|---|---|"]
    for column, name in enumerate(MEASURES):
        before, after = (found[key][:, column] for key in ("before", "after"))
        gain = (after - before)[before == before].double()
        half = 1.96 * float(gain.std()) / len(gain) ** 0.5
        interval = f"{float(gain.mean()):+.3f} ({float(gain.mean()) - half:+.3f} to {float(gain.mean()) + half:+.3f})"
        lines.append(f"| {name} | {float(before.nanmean()):.3f} | {float(after.nanmean()):.3f} | {interval} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the folder of CUB-200-2011")
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--weights", required=True, help="a safetensors file")
    parser.add_argument("--model-args", default="{}", help="of the timm model, as YAML")
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--number", type=int, default=600, help="photographs")
    asked = parser.parse_args(argv)
    half = [0.5] * 3
    backbone = Backbone(asked.side, asked.backbone, asked.weights, yaml.safe_load(asked.model_args), half, half).eval()
    seen = list(photographs(asked.root, asked.side, asked.number))
    away = asked.side * backbone.cells().displacement
    print(f"{asked.backbone} at {asked.side} px, {len(seen)} photographs, displaced by {away:+.2f} px; {hardware()}\n")
    for name, way in WAYS.items():
        print(f"{name}\n\n{table(scores(backbone, seen, way))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
