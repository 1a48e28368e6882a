"""The pooling that a network was trained with.

Shape letters: N images, C channels, h, w grid, D width of the vector.
"""

from torch import Tensor

from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.own_head import OwnHead
from fgvc.methods.pooling.base import Pooling


class NativePooling(Pooling):
    """What the network itself does between its map and its classifier, with its pretrained weights (Ross Wightman,
    "PyTorch Image Models", 2019).

    For ResNets and EfficientNets this is the mean over positions, as AveragePooling; for ConvNeXt the mean and a norm,
    for MobileNetV3 and V4 the mean and a convolution, for many transformers the class token. Of a map that comes
    without its class token, masked or guided, the mean stands for the token.

    Raises:
        UsageError: a network for which timm has no pooling.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.own: OwnHead | None = None

    def attach(self, backbone: Backbone) -> "NativePooling":
        """Take the layers from the backbone, or a copy where another pooling has them already."""
        self.own = backbone.own_head()
        self.out_features = self.own.out_features
        return self

    def pool(self, features: Features) -> Tensor:
        """Features (map (N, C, h, w), prefix) -> (N, D)."""
        if features.vector is not None:
            return features.vector
        if self.own is None:
            raise UsageError("NativePooling: it has no backbone; call attach first")
        return self.own(features)  # type: ignore[no-any-return]

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, D)."""
        return self.pool(Features(features))
