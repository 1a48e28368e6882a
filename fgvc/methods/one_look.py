"""A backbone and a head that look at the whole image once.

Shape letters: N images, S side of the source image, D width of the vector.
"""

from torch import Tensor

from fgvc.datatypes import Prediction
from fgvc.images.regions import downscale
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.heads.base import Head


def one_look(backbone: Backbone, head: Head, images: Tensor, image_size: int) -> Prediction:
    """Images (N, 3, S, S) -> Prediction; or vectors (N, D) that the head's pooling made of the images earlier."""
    if images.ndim == 2:
        return head(Features(images[:, :, None, None], vector=images))  # type: ignore[no-any-return]
    return head(backbone(downscale(images, image_size)))  # type: ignore[no-any-return]
