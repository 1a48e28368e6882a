"""SimpleShot: nearest class mean of centred, normalised features.

Shape letters: E episodes, W ways, S support images, Q query images, D numbers of a vector, N images of base classes.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.errors import UsageError
from fgvc.methods.few_shot.base import (
    DISTANCES,
    Episode,
    FewShotClassifier,
    check_above_zero,
    check_choice,
    class_means,
    nearness,
    widened,
)
from fgvc.methods.products import ByProducts, Products, nearness_to_means

NORMALIZATIONS = ("none", "l2", "cl2n")


def unit_nearness(query: Tensor, means: Tensor, distance: str) -> Tensor:
    """Return how near the directions of queries lie to means; the lengths divide the products, not the queries.

    Args:
        query: (E, Q, D) of any length but 0.
        means: (E, W, D) of vectors of length 1.
        distance: `euclidean`, the negative squared distance, or `cosine`.

    Returns:
        (E, Q, W).
    """
    if distance == "cosine":
        return nearness(query, means, "cosine")
    lengths = torch.linalg.vector_norm(query, dim=2, keepdim=True).clamp_min(1e-12)
    products = torch.bmm(query, means.transpose(1, 2)) / lengths
    found: Tensor = 2 * products - means.square().sum(dim=2).unsqueeze(1) - 1
    return found


class SimpleShotClassifier(FewShotClassifier, ByProducts):
    """Nearest class mean after a transformation of the features that has no parameters to learn.

    Yan Wang, Wei-Lun Chao, Kilian Q. Weinberger, Laurens van der Maaten, "SimpleShot: Revisiting Nearest-Neighbor
    Classification for Few-Shot Learning", 2019.

    Args:
        in_channels: D.
        normalization: `none`; `l2`, to length 1; `cl2n`, less the mean of the base classes' images, then to length 1.
        distance: `euclidean` as in the paper, where the means are not brought to length 1 again, or `cosine`.
        scale: factor on it; matters for probabilities and training, not for the order.

    Attributes:
        needs_base: true for `cl2n`.
        mean: (D,) of the base classes' images, after `prepare`.

    Raises:
        UsageError: another normalization or distance, a scale that is not above 0; `cl2n` asked before `prepare`.
    """

    mean: Tensor
    prepared: Tensor

    def __init__(
        self,
        in_channels: int,
        normalization: Literal["none", "l2", "cl2n"] = "cl2n",
        distance: Literal["euclidean", "cosine"] = "euclidean",
        scale: float = 1.0,
    ) -> None:
        super().__init__(in_channels)
        check_choice("normalization", normalization, NORMALIZATIONS)
        check_choice("distance", distance, DISTANCES)
        check_above_zero(scale=scale)
        self.normalization = normalization
        self.distance = distance
        self.scale = scale
        self.needs_base = normalization == "cl2n"
        self.register_buffer("mean", torch.zeros(in_channels))
        self.register_buffer("prepared", torch.tensor(False))

    def prepare(self, features: Tensor, labels: Tensor) -> None:
        """Keep the mean of features (N, D) of base classes, every image counted once."""
        del labels
        if not len(features):
            raise UsageError("SimpleShotClassifier: no image of a base class; give some, or normalization l2")
        self.mean.copy_(features.double().mean(dim=0))
        self.prepared.fill_(True)

    def forward(self, episode: Episode) -> Tensor:
        """Vectors of an episode -> scores (E, Q, W)."""
        episode = widened(episode)
        if self.normalization != "none":
            means = class_means(episode._replace(support=self._unit(episode.support)))
            return self.scale * unit_nearness(self._centred(episode.query), means, self.distance)
        return self.scale * nearness(episode.query, class_means(episode), self.distance)

    def embed(self, features: Tensor) -> Tensor:
        """Features (N, D) -> vectors of length 1; without normalization about their mean, where squares are small."""
        if self.normalization != "none":
            return self._unit(features)
        return features - features.mean(dim=0) if self.distance == "euclidean" else features

    def score_products(self, products: Products) -> Tensor:
        """Products -> scores (E, Q, W)."""
        return self.scale * nearness_to_means(products, self.distance)

    def _unit(self, features: Tensor) -> Tensor:
        return normalize(self._centred(features), dim=-1)

    def _centred(self, features: Tensor) -> Tensor:
        if self.needs_base and not self.prepared:
            raise UsageError(
                "SimpleShotClassifier: normalization cl2n takes the mean of base classes, and none were given; "
                "call `prepare` with their features, or choose normalization l2"
            )
        return features - self.mean.to(features.dtype) if self.needs_base else features
