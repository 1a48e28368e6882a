"""Where the object is, read off a feature map without training: the mask of SCDA.

Xiu-Shen Wei, Jian-Hao Luo, Jianxin Wu, Zhi-Hua Zhou, "Selective Convolutional Descriptor Aggregation for Fine-Grained
Image Retrieval", TIP 2017.

Shape letters: N images, C channels, h, w grid.
"""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from fgvc.images.regions import boxes_of_masks, fitted
from fgvc.methods.cells import EVEN, Cells


def selection_masks(features: Tensor) -> Tensor:
    """Return (N, h, w) bool: the largest 8-connected part of where the channels' sum lies above its mean.

    Args:
        features: (N, C, h, w).
    """
    return largest_component(above_mean(features.float().sum(dim=1)))


def above_mean(activity: Tensor) -> Tensor:
    """Return (N, h, w) bool: where the activity (N, h, w) lies above its image's mean."""
    return activity > activity.mean(dim=(1, 2), keepdim=True)


def activity(features: Tensor) -> Tensor:
    """Return (N, h, w), how much every cell answers: the sum of its channels, as SCDA has it for maps behind a ReLU.

    Where an image's map holds negative numbers, as those of transformers do, their sum says little: there it is the
    length of each cell's descriptor, which is ours.

    Args:
        features: (N, C, h, w).
    """
    wide = features.float()
    signed = (wide < 0).flatten(1).any(dim=1)[:, None, None]
    return torch.where(signed, wide.norm(dim=1), wide.sum(dim=1))


def largest_component(masks: Tensor) -> Tensor:
    """Return (N, h, w) bool: the largest 8-connected component of each mask; of equal ones the last in reading order.

    Args:
        masks: (N, h, w) bool.
    """
    number, height, width = masks.shape
    cells = height * width
    own = torch.arange(1, cells + 1, device=masks.device, dtype=torch.float32).view(1, height, width)
    labels = own * masks
    # Each round spreads the largest number of a component by one cell; a winding one needs as many rounds as cells.
    while True:
        spread = max_pool2d(labels[:, None], 3, stride=1, padding=1)[:, 0] * masks
        if torch.equal(spread, labels):
            break
        labels = spread
    flat = labels.long().flatten(1)
    sizes = torch.zeros(number, cells + 1, dtype=torch.int64, device=masks.device)
    sizes.scatter_add_(1, flat, (flat > 0).long())
    largest = cells - sizes.flip(1).argmax(dim=1)
    return masks & (labels == largest[:, None, None])


def selected_boxes(
    features: Tensor, side_min: float = 0.0, square: bool = False, margin: float = 0.0, cells: Cells = EVEN
) -> Tensor:
    """Return (N, 4) xyxy inside 0..1: the box around `selection_masks`.

    Args:
        features: (N, C, h, w).
        side_min, square, margin: see `regions.fitted`.
        cells: where the cells lie.
    """
    boxes = boxes_of_masks(selection_masks(features.detach()))
    return fitted(cells.boxes(boxes, *features.shape[2:]), side_min, square, margin)
