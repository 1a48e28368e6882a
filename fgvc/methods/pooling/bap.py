"""Bilinear attention pooling: one average per attention map, side by side.

Tao Hu, Honggang Qi, Qingming Huang, Yan Lu, "See Better Before Looking Closer: Weakly Supervised Data Augmentation
Network for Fine-Grained Visual Classification", 2019.

Shape letters: N images, C channels, M attention maps, h, w grid.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fgvc.errors import UsageError
from fgvc.methods.pooling.base import Pooling

EPSILON = 1e-6  # keeps the slope of the square root finite at 0


def bilinear_attention(features: Tensor, maps: Tensor) -> Tensor:
    """Average the features under each attention map, take signed square roots, scale the whole to length 1.

    Computed in float32 or better, also under autocast.

    Args:
        features: (N, C, h, w).
        maps: (N, M, h, w).

    Returns:
        (N, M C), starting with the C numbers of the first map; 0 where all maps are 0.
    """
    kind = torch.promote_types(features.dtype, torch.float32)
    with torch.autocast(features.device.type, enabled=False):
        places = features.to(kind).flatten(2)
        parts = (maps.to(kind).flatten(2) @ places.transpose(1, 2) / places.shape[2]).flatten(1)
        return normalize(parts.sign() * (parts.abs() + EPSILON).sqrt(), dim=1)


class BAPPooling(Pooling):
    """Learn M attention maps with a 1 x 1 convolution, batch norm and ReLU; pool by `bilinear_attention`.

    Args:
        in_channels: C, handed down by the head.
        num_attentions: M.

    Attributes:
        out_features: M C.

    Raises:
        UsageError: no attention map.
    """

    def __init__(self, in_channels: int, num_attentions: int = 32) -> None:
        super().__init__(in_channels)
        if num_attentions < 1:
            raise UsageError(f"BAPPooling: num_attentions {num_attentions}; give 1 or more (usual: 32)")
        self.out_features = num_attentions * in_channels
        self.maps = nn.Sequential(
            nn.Conv2d(in_channels, num_attentions, 1, bias=False), nn.BatchNorm2d(num_attentions), nn.ReLU()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, M C)."""
        return bilinear_attention(features, self.maps(features))
