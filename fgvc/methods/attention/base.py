"""The base class of attentions: an attention reads a feature map and says where to look closer.

Shape letters: N images, C channels, h, w grid.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from fgvc.methods.backbone import Backbone
from fgvc.methods.cells import Cells


class Attention(nn.Module, ABC):
    """Feature map (N, C, h, w) -> one box per image, as a fraction of what the backbone saw.

    Args:
        backbone: publishes the number of channels of the map.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self._backbone = (backbone,)  # in a tuple: whoever makes this holds it

    @property
    def cells(self) -> Cells:
        """Where the cells of the map lie in the image that the backbone saw."""
        return self._backbone[0].cells()

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, 4) xyxy inside 0..1."""

    def start_loss(self, boxes: Tensor, features: Tensor) -> Tensor | None:
        """Return () how far boxes lie from where learning should start; None if the attention learns nothing.

        Args:
            boxes: (N, 4), the answer of `forward`.
            features: (N, C, h, w).
        """
        return None


AttentionFactory = Callable[[Backbone], Attention]
