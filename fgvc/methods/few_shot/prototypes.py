"""Nearest prototype.

Shape letters: E episodes, W ways, Q query images, D numbers of a vector.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.errors import UsageError, did_you_mean
from fgvc.methods.few_shot.base import Episode, FewShotClassifier, class_means

DISTANCES = ("euclidean", "cosine")


class PrototypeClassifier(FewShotClassifier):
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
        if distance not in DISTANCES:
            raise UsageError(
                f"distance: {distance!r}; give one of {', '.join(DISTANCES)}{did_you_mean(distance, DISTANCES)}"
            )
        if not scale > 0:
            raise UsageError(f"scale: {scale}; it must be above 0")
        self.distance = distance
        self.scale = scale

    def forward(self, episode: Episode) -> Tensor:
        """Vectors of an episode -> scores (E, Q, W)."""
        prototypes, query = class_means(episode), episode.query
        if self.distance == "cosine":
            return self.scale * torch.bmm(normalize(query, dim=2), normalize(prototypes, dim=2).transpose(1, 2))
        return -self.scale * torch.cdist(query, prototypes).square()
