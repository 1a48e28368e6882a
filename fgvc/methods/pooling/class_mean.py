"""The class token beside the mean of the patch tokens.

Shape letters: N images, C channels, h, w grid.
"""

import torch
from torch import Tensor

from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.pooling.base import Pooling


class ClassMeanPooling(Pooling):
    """Class token and mean of the patch tokens, without registers, side by side (M. Oquab and others, "DINOv2: Learning
    Robust Visual Features without Supervision", 2023, linear probe). Of a map that comes without tokens, masked or
    guided, the mean stands for the class token.

    Args:
        in_channels: C, handed down by the head.

    Attributes:
        out_features: 2 C.

    Raises:
        UsageError: the network has no class token.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.out_features = 2 * in_channels

    def attach(self, backbone: Backbone) -> "ClassMeanPooling":
        """Refuse a backbone without class token."""
        if not backbone.has_class_token:
            raise UsageError(
                f"ClassMeanPooling: {type(backbone.net).__name__} has no class token; take another pooling"
            )
        return self

    def pool(self, features: Features) -> Tensor:
        """Features (map (N, C, h, w), prefix (N, T, C)) -> (N, 2 C)."""
        mean = features.map.mean(dim=(2, 3))
        token = mean if features.prefix is None else features.prefix[:, 0]
        return torch.cat([token, mean], dim=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, 2 C)."""
        return self.pool(Features(features))
