"""The whole map as one vector.

Shape letters: N images, C channels, h, w grid.
"""

import math

from torch import Tensor

from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.pooling.base import Pooling


class FlattenPooling(Pooling):
    """Every number of the map, place by place: what Prototypical Networks compare (Snell and others, NeurIPS 2017).

    Raises:
        UsageError: a map of another grid than the backbone's.
    """

    def attach(self, backbone: Backbone) -> "FlattenPooling":
        """Learn the grid of the backbone, and with it the width."""
        self.out_features = self.in_channels * math.prod(backbone.grid)
        return self

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, C h w), channel by channel."""
        vector = features.flatten(1)
        if vector.shape[1] != self.out_features:
            raise UsageError(
                f"FlattenPooling: a map of {'x'.join(map(str, features.shape[1:]))} makes {vector.shape[1]} numbers, "
                f"but the backbone's makes {self.out_features}; images of one size only, and attach it first"
            )
        return vector
