"""Selective convolutional descriptor aggregation: keep the descriptors that lie on the object, without any label.

Xiu-Shen Wei, Jian-Hao Luo, Jianxin Wu, Zhi-Hua Zhou, "Selective Convolutional Descriptor Aggregation for Fine-Grained
Image Retrieval", TIP 2017.

Shape letters: N images, S side of the image, C channels, h, w grid; C', h', w' those of an earlier layer.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate, normalize

from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.object_mask import above_mean, activity, largest_component

EARLIER = 0.5
"""The weight of the earlier layer, the paper's."""


def object_masks(features: Tensor, token: Tensor | None = None) -> Tensor:
    """Return (N, h, w) bool, the cells on the object.

    They are the largest 8-connected part of where the activity lies above its mean; of a map of one value, all cells.

    Args:
        features: (N, C, h, w).
        token: (N, C), the class token of a transformer: then a cell's likeness to it (cosine) takes the place of its
            activity, which is ours.
    """
    wide = features.detach().float()
    found = activity(wide) if token is None else cosine_similarity(wide, token.detach().float()[:, :, None, None])
    masks = largest_component(above_mean(found))
    return masks | ~masks.flatten(1).any(dim=1)[:, None, None]


def earlier_masks(earlier: Tensor, masks: Tensor) -> Tensor:
    """Return (N, h', w') bool: cells of an earlier layer above their mean and inside the masks, enlarged to its grid.

    Where that is no cell, the enlarged mask.

    Args:
        earlier: (N, C', h', w').
        masks: (N, h, w) bool, see `object_masks`.
    """
    enlarged = interpolate(masks[:, None].float(), earlier.shape[2:], mode="nearest")[:, 0] > 0
    both = above_mean(activity(earlier.detach())) & enlarged
    return torch.where(both.flatten(1).any(dim=1)[:, None, None], both, enlarged)


def descriptor(features: Tensor, masks: Tensor) -> Tensor:
    """Return (N, 2 C): mean and maximum over the selected cells, and over no others, each of length 1, side by side.

    Args:
        features: (N, C, h, w).
        masks: (N, h, w) bool, at least one cell of each image.
    """
    chosen = masks[:, None]
    mean = (features * chosen).sum(dim=(2, 3)) / chosen.sum(dim=(2, 3))
    highest = features.masked_fill(~chosen, -torch.inf).amax(dim=(2, 3))
    return torch.cat((normalize(mean), normalize(highest)), dim=1)


def class_token(features: Features, backbone: Backbone) -> Tensor | None:
    """Return the class token (N, C) of what a backbone answered; None of one that has none, or of a masked map."""
    return features.prefix[:, 0] if backbone.has_class_token and features.prefix is not None else None


class SCDA(nn.Module):
    """Images -> the descriptors of the paper: SCDA, SCDA+, and those of image and mirror image, SCDA_flip, SCDA_flip+.

    Each part of C or C' numbers is of length 1: mean and maximum of the last map; with `plus` those of an earlier
    layer, times 0.5, behind them; with `flip` all of it again for the mirror image. They are compared by the cosine.

    Args:
        backbone: makes the maps.
        plus: whether an earlier layer is read too, see `Backbone.keep_earlier`.
        flip: whether the mirror image is seen too.

    Attributes:
        out_features: D = 2 C, with `plus` 2 C + 2 C', with `flip` twice that.

    Raises:
        UsageError: the network has no earlier map.
    """

    def __init__(self, backbone: Backbone, plus: bool = False, flip: bool = False) -> None:
        super().__init__()
        self.plus, self.flip = plus, flip
        channels = backbone.channels + (backbone.keep_earlier() if plus else 0)
        self.out_features = 2 * channels * (2 if flip else 1)
        self._backbone = [backbone]  # no submodule: whoever makes this holds it

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, S, S) in 0..255 -> (N, D)."""
        views = (images, images.flip(3)) if self.flip else (images,)
        return torch.cat([self.of_features(self._backbone[0](view)) for view in views], dim=1)

    def of_features(self, features: Features) -> Tensor:
        """Features (map (N, C, h, w), with `plus` earlier (N, C', h', w')) -> (N, 2 C) or (N, 2 C + 2 C')."""
        masks = object_masks(features.map, class_token(features, self._backbone[0]))
        last = descriptor(features.map, masks)
        if not self.plus:
            return last
        assert features.earlier is not None  # the backbone keeps it
        earlier = descriptor(features.earlier, earlier_masks(features.earlier, masks))
        return torch.cat((last, EARLIER * earlier), dim=1)
