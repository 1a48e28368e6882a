"""Selective convolutional descriptor aggregation: keep the descriptors that lie on the object, without any label.

Xiu-Shen Wei, Jian-Hao Luo, Jianxin Wu, Zhi-Hua Zhou, "Selective Convolutional Descriptor Aggregation for Fine-Grained
Image Retrieval", TIP 2017.

Shape letters: N images, C channels, h, w grid.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.methods.object_mask import selection_masks
from fgvc.methods.pooling.base import Pooling


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
