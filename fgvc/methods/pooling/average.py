"""Global average pooling.

Shape letters: N images, C channels, h, w grid.
"""

from torch import Tensor

from fgvc.methods.pooling.base import Pooling


class AveragePooling(Pooling):
    """The mean over positions (Min Lin, Qiang Chen, Shuicheng Yan, "Network In Network", ICLR 2014)."""

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, C)."""
        return features.mean(dim=(2, 3))
