"""Selective convolutional descriptor aggregation as a pooling.

Shape letters: N images, C channels, h, w grid.
"""

from torch import Tensor

from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.pooling.base import Pooling
from fgvc.methods.scda import class_token, descriptor, object_masks


class SCDAPooling(Pooling):
    """Mean and maximum over the descriptors on the object, each of length 1, side by side.

    Xiu-Shen Wei, Jian-Hao Luo, Jianxin Wu, Zhi-Hua Zhou, "Selective Convolutional Descriptor Aggregation for
    Fine-Grained Image Retrieval", TIP 2017.

    Args:
        in_channels: C, handed down by the head.

    Attributes:
        out_features: 2 C.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.out_features = 2 * in_channels
        self._backbone: list[Backbone] = []  # no submodule

    def attach(self, backbone: Backbone) -> "SCDAPooling":
        """Learn whether there is a class token, by which the object is found."""
        self._backbone = [backbone]
        return self

    def pool(self, features: Features) -> Tensor:
        """Features (map (N, C, h, w), prefix) -> (N, 2 C)."""
        token = class_token(features, self._backbone[0]) if self._backbone else None
        return descriptor(features.map, object_masks(features.map, token))

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, 2 C)."""
        return self.pool(Features(features))
