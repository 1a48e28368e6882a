"""The plain recognizer: look at the whole image once.

Shape letters: N images, S side of the source image, D width of the vector.
"""

from collections.abc import Iterator

from torch import Tensor

from fgvc.datatypes import Prediction
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.base import Head
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.one_look import one_look
from fgvc.methods.recognizers.base import BackboneFactory, HeadFactory, Recognizer
from fgvc.taxonomy.tree import Taxonomy


class WholeImage(Recognizer):
    """One backbone, one head.

    Args:
        taxonomy, image_size: see Recognizer.
        backbone: makes the backbone from the image size.
        head: makes the head from the taxonomy and the backbone.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        image_size: int,
        backbone: BackboneFactory = Backbone,
        head: HeadFactory = LinearHead,
    ) -> None:
        super().__init__(taxonomy, image_size)
        self.backbone = backbone(image_size)
        self.head = head(taxonomy, self.backbone)

    def forward(self, images: Tensor) -> Prediction:
        """Images (N, 3, S, S) -> Prediction; or vectors (N, D) that the head's pooling made of the images earlier."""
        return one_look(self.backbone, self.head, images, self.image_size)

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the head's terms; labels (N,) int64 node ids."""
        return self.head.loss(prediction, labels)

    def single_looks(self) -> Iterator[tuple[Backbone, Head]]:
        """Iterate over the one backbone and its head."""
        yield self.backbone, self.head
