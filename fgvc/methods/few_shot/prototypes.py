"""Nearest prototype.

Shape letters: E episodes, W ways, Q query images, D numbers of a vector.
"""

from typing import Literal

from torch import Tensor

from fgvc.methods.few_shot.base import (
    DISTANCES,
    Episode,
    FewShotClassifier,
    check_above_zero,
    check_choice,
    class_means,
    nearness,
)
from fgvc.methods.products import ByProducts, Products, nearness_to_means


class PrototypeClassifier(FewShotClassifier, ByProducts):
    """The nearer the mean of a way's support images, the likelier the way.

    Jake Snell, Kevin Swersky, Richard Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017.

    Args:
        in_channels: D.
        distance: `euclidean`, the negative squared distance, or `cosine`, the cosine.
        scale: factor on it; matters for probabilities and training, not for the order.

    Raises:
        UsageError: another distance, or a scale that is not above 0.
    """

    def __init__(
        self, in_channels: int, distance: Literal["euclidean", "cosine"] = "euclidean", scale: float = 1.0
    ) -> None:
        super().__init__(in_channels)
        check_choice("distance", distance, DISTANCES)
        check_above_zero(scale=scale)
        self.distance = distance
        self.scale = scale

    def forward(self, episode: Episode) -> Tensor:
        """Vectors of an episode -> scores (E, Q, W)."""
        return self.scale * nearness(episode.query, class_means(episode), self.distance)

    def embed(self, features: Tensor) -> Tensor:
        """Features (N, D) -> the same, for distances about their mean, where squares are small."""
        return features - features.mean(dim=0) if self.distance == "euclidean" else features

    def score_products(self, products: Products) -> Tensor:
        """Products -> scores (E, Q, W)."""
        return self.scale * nearness_to_means(products, self.distance)
