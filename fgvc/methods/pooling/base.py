"""The base class of poolings: a pooling turns a feature map into one vector per image.

Shape letters: N images, C channels, h, w grid, D width of the vector.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn


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

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, D)."""
