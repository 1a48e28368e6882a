"""Nearest class mean in the metric of the base classes: linear discriminant analysis from a few images.

Shape letters: E episodes, W ways, Q query images, D numbers of a vector, N images of base classes.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.errors import UsageError
from fgvc.methods.few_shot.base import Episode, FewShotClassifier, class_means, nearness, widened


def within_class_whitening(features: Tensor, labels: Tensor, shrinkage: float) -> Tensor:
    """Return the symmetric (D, D) matrix after which base classes are spread alike in all directions.

    Args:
        features: (N, D).
        labels: (N,) int64.
        shrinkage: share of the mean variance in place of the measured covariance, above 0 and at most 1.
    """
    x = features.double()
    _, places = torch.unique(labels, return_inverse=True)
    sums = x.new_zeros(int(places.max()) + 1, x.shape[1]).index_add_(0, places, x)
    rest = x - (sums / torch.bincount(places).unsqueeze(1))[places]
    covariance = rest.T @ rest / len(x)
    even = covariance.diagonal().mean()
    values, vectors = torch.linalg.eigh(
        (1 - shrinkage) * covariance + shrinkage * even * torch.eye(len(covariance), dtype=x.dtype, device=x.device)
    )
    metric: Tensor = (vectors * values.clamp_min(1e-12).rsqrt()) @ vectors.T * even.sqrt()
    return metric.to(features.dtype)


class DiscriminantClassifier(FewShotClassifier):
    """Nearest class mean where distances are measured by how photographs of one base class differ.

    Bharath Hariharan, Jitendra Malik, Deva Ramanan, "Discriminative Decorrelation for Clustering and Classification",
    ECCV 2012: the covariance of linear discriminant analysis, learnt once, serves every new class. Theirs is the
    covariance of all images; ours is that within the base classes, shrunk, on centred vectors of length 1.

    Args:
        in_channels: D.
        shrinkage: share of the mean variance in the covariance, above 0 and at most 1; 1 leaves the metric as it is.
        scale: factor on the cosine; matters for probabilities, not for the order.

    Attributes:
        mean: (D,) of the base images. metric: (D, D). Both after `prepare`.

    Raises:
        UsageError: a shrinkage outside its range; an episode before `prepare`.
    """

    needs_base = True
    mean: Tensor
    metric: Tensor
    prepared: Tensor

    def __init__(self, in_channels: int, shrinkage: float = 0.1, scale: float = 10.0) -> None:
        super().__init__(in_channels)
        if not 0 < shrinkage <= 1:
            raise UsageError(f"shrinkage: {shrinkage}; it must be above 0 and at most 1")
        self.shrinkage, self.scale = shrinkage, scale
        self.register_buffer("mean", torch.zeros(in_channels))
        self.register_buffer("metric", torch.eye(in_channels))
        self.register_buffer("prepared", torch.tensor(False))

    def prepare(self, features: Tensor, labels: Tensor) -> None:
        """Keep mean and metric of base images (N, D) with labels (N,); -1 is left out."""
        known = labels >= 0
        if not bool(known.any()):
            raise UsageError("DiscriminantClassifier: no image of a base class; give some")
        self.mean.copy_(features[known].double().mean(dim=0))
        self.metric.copy_(within_class_whitening(self._unit(features[known]), labels[known], self.shrinkage))
        self.prepared.fill_(True)

    def forward(self, episode: Episode) -> Tensor:
        """Vectors of an episode -> scores (E, Q, W)."""
        if not self.prepared:
            raise UsageError("DiscriminantClassifier: it takes base classes, and none were given; call `prepare`")
        episode = widened(episode)
        support, query = (self._unit(part) @ self.metric for part in (episode.support, episode.query))
        return self.scale * nearness(query, class_means(episode._replace(support=support)), "cosine")

    def _unit(self, features: Tensor) -> Tensor:
        return normalize(features - self.mean.to(features.dtype), dim=-1)
