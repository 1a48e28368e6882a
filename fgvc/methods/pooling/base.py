"""The base class of poolings: a pooling turns a feature map into one vector per image.

Shape letters: N images, C channels, h, w grid, D width of the vector.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features


class Pooling(nn.Module, ABC):
    """Feature map (N, C, h, w) -> vector (N, D).

    Args:
        in_channels: C, handed down by the head.

    Attributes:
        out_features: D.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_features = in_channels

    def attach(self, backbone: Backbone) -> "Pooling":
        """Learn which backbone makes the maps, and return self; most poolings need nothing of it."""
        return self

    def pool(self, features: Features) -> Tensor:
        """Features of N images -> (N, D)."""
        return self(features.map) if features.vector is None else features.vector

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, D)."""
