"""Selective convolutional descriptor aggregation: keep the descriptors that lie on the object, without any label.

Xiu-Shen Wei, Jian-Hao Luo, Jianxin Wu, Zhi-Hua Zhou, "Selective Convolutional Descriptor Aggregation for Fine-Grained
Image Retrieval", TIP 2017.

Shape letters: N images, C channels, h, w grid.
"""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, normalize

from fgvc.images.regions import boxes_of_masks, fitted
from fgvc.methods.pooling.base import Pooling


def selection_masks(features: Tensor) -> Tensor:
    """Return (N, h, w) bool: the largest 8-connected part of where the channels' sum lies above its mean.

    Args:
        features: (N, C, h, w).
    """
    total = features.float().sum(dim=1)
    return largest_component(total > total.mean(dim=(1, 2), keepdim=True))


def largest_component(masks: Tensor) -> Tensor:
    """Return (N, h, w) bool: the largest 8-connected component of each mask; of equal ones the last in reading order.

    Args:
        masks: (N, h, w) bool.
    """
    number, height, width = masks.shape
    cells = height * width
    own = torch.arange(1, cells + 1, device=masks.device, dtype=torch.float32).view(1, height, width)
    labels = own * masks
    # The largest number of a component spreads by one cell a round; a winding one needs as many rounds as it is long.
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


def selected_boxes(features: Tensor, side_min: float = 0.0, square: bool = False, margin: float = 0.0) -> Tensor:
    """Return (N, 4): the box around `selection_masks` of a map (N, C, h, w); see `regions.fitted` for the rest."""
    return fitted(boxes_of_masks(selection_masks(features.detach())), side_min, square, margin)


class SCDAPooling(Pooling):
    """Mean and maximum over the selected descriptors, each of length 1, side by side.

    Args:
        in_channels: C, handed down by the head.

    Attributes:
        out_features: 2 C.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.out_features = 2 * in_channels

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, 2 C)."""
        masks = selection_masks(features.detach())
        masks = (masks | ~masks.any(dim=2).any(dim=1)[:, None, None])[:, None]  # a map of one value: all is selected
        mean = (features * masks).sum(dim=(2, 3)) / masks.sum(dim=(2, 3))
        highest = features.masked_fill(~masks, -torch.inf).amax(dim=(2, 3))
        return torch.cat((normalize(mean), normalize(highest)), dim=1)
