"""The box around SCDA's mask: an attention that is never trained.

Shape letters: N images, C channels, h, w grid.
"""

from torch import Tensor

from fgvc.errors import UsageError
from fgvc.methods.attention.base import Attention
from fgvc.methods.backbone import Backbone
from fgvc.methods.cells import EVEN
from fgvc.methods.object_mask import selected_boxes


class SCDABox(Attention):
    """The box around the object that the map itself shows; nothing is learnt.

    Xiu-Shen Wei, Jian-Hao Luo, Jianxin Wu, Zhi-Hua Zhou, "Selective Convolutional Descriptor Aggregation for
    Fine-Grained Image Retrieval", TIP 2017.

    Args:
        backbone: see Attention.
        side_min: smallest side, as a fraction of the image.
        square: whether both sides are as long as the longer one.
        margin: share of its width or height that the box grows by at each edge.
        true_places: whether a cell lies where the network looks, see `Backbone.cells`, and not where its place in the
            grid suggests.

    Raises:
        UsageError: a side outside 0..1 or a negative margin.
    """

    def __init__(
        self,
        backbone: Backbone,
        side_min: float = 1 / 3,
        square: bool = False,
        margin: float = 0.0,
        true_places: bool = True,
    ) -> None:
        super().__init__(backbone)
        if not 0 <= side_min <= 1 or margin < 0:
            raise UsageError(f"SCDABox: side_min {side_min} must lie in 0..1, margin {margin} must not be negative")
        self.side_min, self.square, self.margin, self.true_places = side_min, square, margin, true_places

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, 4) xyxy inside 0..1."""
        cells = self.cells if self.true_places else EVEN
        return selected_boxes(features, self.side_min, self.square, self.margin, cells)
