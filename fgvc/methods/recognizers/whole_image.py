"""The plain recognizer: look at the whole image once.

Shape letters: N images, S side of the source image, D width of the vector.
"""

from torch import Tensor

from fgvc.datatypes import Prediction
from fgvc.images.regions import downscale
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.heads.linear import LinearHead
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
        if images.ndim == 2:
            return self.head(Features(images[:, :, None, None], vector=images))  # type: ignore[no-any-return]
        return self.head(self.backbone(downscale(images, self.image_size)))  # type: ignore[no-any-return]

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the head's terms; labels (N,) int64 node ids."""
        return self.head.loss(prediction, labels)
