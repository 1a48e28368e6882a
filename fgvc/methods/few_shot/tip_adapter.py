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


class CacheClassifier(FewShotClassifier):
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
        affinity = (self.beta * (nearness(episode.query, episode.support, "cosine") - 1)).exp()
        cache = torch.bmm(affinity, assignments(episode))
        return self.scale * nearness(episode.query, class_means(episode), "cosine") + self.alpha * cache
