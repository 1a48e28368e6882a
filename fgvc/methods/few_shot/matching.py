"""Matching networks: attention over the support images.

Shape letters: E episodes, W ways, S support images, Q query images, D numbers of a vector.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.methods.few_shot.base import Episode, FewShotClassifier, assignments, check_above_zero, nearness, widened
from fgvc.methods.products import ByProducts, Products


class MatchingClassifier(FewShotClassifier, ByProducts):
    """Logarithm of the attention that a query pays to the support images of a way.

    Oriol Vinyals, Charles Blundell, Timothy Lillicrap, Koray Kavukcuoglu, Daan Wierstra, "Matching Networks for One
    Shot Learning", NIPS 2016, without its full-context LSTMs. The attention is the softmax over the scaled cosines to
    all support images, so a way with more images than another gets more of it: at a scale of 1 nearly in proportion.

    Args:
        in_channels: D.
        scale: factor on the cosines: 1 in the paper; 100 in the code of Chen and others, "A Closer Look at Few-shot
            Classification", ICLR 2019, which comes close to the nearest neighbour.

    Raises:
        UsageError: a scale that is not above 0.
    """

    def __init__(self, in_channels: int, scale: float = 100.0) -> None:
        super().__init__(in_channels)
        check_above_zero(scale=scale)
        self.scale = scale

    def forward(self, episode: Episode) -> Tensor:
        """Vectors of an episode -> log probabilities (E, Q, W)."""
        episode = widened(episode)
        return self._log_shares(nearness(episode.query, episode.support, "cosine"), assignments(episode))

    def embed(self, features: Tensor) -> Tensor:
        """Features (N, D) -> vectors of length 1."""
        return normalize(features, dim=1)

    def score_products(self, products: Products) -> Tensor:
        """Products -> log probabilities (E, Q, W)."""
        return self._log_shares(products.across, products.ones)

    def _log_shares(self, cosines: Tensor, ones: Tensor) -> Tensor:
        """Cosines (E, Q, S) and ways (E, S, W) -> (E, Q, W)."""
        own = ones.transpose(1, 2).unsqueeze(1).bool()  # (E, 1, W, S)
        attention = (self.scale * cosines).log_softmax(dim=2)
        # In logarithms throughout: a way that gets an attention of 1e-50 keeps its place in the order.
        return attention.unsqueeze(2).masked_fill(~own, -torch.inf).logsumexp(dim=3)
