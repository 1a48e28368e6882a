"""A cache of the support images beside the class means.

Shape letters: E episodes, W ways, S support images, Q query images, D numbers of a vector.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.methods.few_shot.base import (
    Episode,
    FewShotClassifier,
    assignments,
    check_above_zero,
    class_means,
    nearness,
    widened,
)
from fgvc.methods.products import ByProducts, Products, nearness_to_means


class CacheClassifier(FewShotClassifier, ByProducts):
    """scale * cosine to the class means + alpha * sum over the way's support images of exp(-beta (1 - cosine)).

    After Renrui Zhang, Wei Zhang, Rongyao Fang, Peng Gao, Kunchang Li, Jifeng Dai, Yu Qiao, Hongsheng Li, "Tip-Adapter:
    Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022. It differs from the paper: there the first
    term is 100 times the cosine to the text of each class's name, knowledge that the images do not give; here there is
    no text, and the mean of the way's normalised support images stands in for it, so both terms say of the same images
    what they know. The factor is 10 by default, as cosines to means spread more widely than those to texts. alpha and
    beta are given, not searched on validation images. The second term is a sum as in the paper: a way with more
    images gets more of it.

    Args:
        in_channels: D.
        alpha: factor on the cache.
        beta: how fast the cache forgets what is not alike.
        scale: factor on the cosine to the means.

    Raises:
        UsageError: alpha, beta or scale that is not above 0.
    """

    def __init__(self, in_channels: int, alpha: float = 1.0, beta: float = 5.5, scale: float = 10.0) -> None:
        super().__init__(in_channels)
        check_above_zero(alpha=alpha, beta=beta, scale=scale)
        self.alpha = alpha
        self.beta = beta
        self.scale = scale

    def forward(self, episode: Episode) -> Tensor:
        """Vectors of an episode -> scores (E, Q, W)."""
        episode = widened(episode)
        episode = episode._replace(support=normalize(episode.support, dim=2))
        cosines = nearness(episode.query, episode.support, "cosine")
        return self._add(nearness(episode.query, class_means(episode), "cosine"), cosines, assignments(episode))

    def embed(self, features: Tensor) -> Tensor:
        """Features (N, D) -> vectors of length 1."""
        return normalize(features, dim=1)

    def score_products(self, products: Products) -> Tensor:
        """Products -> scores (E, Q, W)."""
        return self._add(nearness_to_means(products, "cosine"), products.across, products.ones)

    def _add(self, to_means: Tensor, cosines: Tensor, ones: Tensor) -> Tensor:
        """Cosines to means (E, Q, W), to images (E, Q, S) and ways (E, S, W) -> (E, Q, W)."""
        return self.scale * to_means + self.alpha * torch.bmm((self.beta * (cosines - 1)).exp(), ones)
