"""The centre of the image: the control that every learnt attention must beat.

Shape letters: N images, C channels, h, w grid.
"""

import torch
from torch import Tensor

from fgvc.errors import UsageError
from fgvc.methods.attention.base import Attention
from fgvc.methods.backbone import Backbone


class CentreBox(Attention):
    """The same centred square for every image.

    Args:
        backbone: see Attention.
        side: of the square, as a fraction of the image.

    Raises:
        UsageError: a side outside (0, 1].
    """

    def __init__(self, backbone: Backbone, side: float = 2 / 3) -> None:
        super().__init__(backbone)
        if not 0 < side <= 1:
            raise UsageError(f"CentreBox: side {side}; it must be above 0 and at most 1")
        self.side = side

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, 4)."""
        edge = (1 - self.side) / 2
        return torch.tensor([edge, edge, 1 - edge, 1 - edge], device=features.device).expand(len(features), 4)
