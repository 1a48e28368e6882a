"""Nearest class mean in the metric of the base classes: linear discriminant analysis from a few images.

Shape letters: E episodes, W ways, Q query images, D numbers of a vector, N images of base classes.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.errors import UsageError
from fgvc.methods.few_shot.base import Episode, FewShotClassifier, class_means, nearness, widened


def discriminant_metric(features: Tensor, labels: Tensor, shrinkage: float) -> Tensor:
    """Return the (D, D) matrix that maps vectors to where base classes differ most beside how each of them is spread.

    Whitened by the covariance within the classes, then projected on the span of the class means: all discriminants of
    R. A. Fisher, "The Use of Multiple Measurements in Taxonomic Problems", 1936, in the coordinates of the features.

    Args:
        features: (N, D).
        labels: (N,) int64.
        shrinkage: share of the mean variance in place of the measured covariance, above 0 and at most 1.
    """
    x = features.double()
    _, places = torch.unique(labels, return_inverse=True)
    sums = x.new_zeros(int(places.max()) + 1, x.shape[1]).index_add_(0, places, x)
    means = sums / torch.bincount(places).unsqueeze(1)
    rest = x - means[places]
    covariance = rest.T @ rest / len(x)
    even = covariance.diagonal().mean()
    identity = torch.eye(len(covariance), dtype=x.dtype, device=x.device)
    values, vectors = torch.linalg.eigh((1 - shrinkage) * covariance + shrinkage * even * identity)
    whitening = (vectors * values.clamp_min(1e-12).rsqrt()) @ vectors.T * even.sqrt()
    _, sizes, directions = torch.linalg.svd((means - means.mean(dim=0)) @ whitening, full_matrices=False)
    spanned = directions[sizes > 1e-9 * sizes.max()]
    metric: Tensor = whitening @ spanned.T @ spanned
    return metric.to(features.dtype)


class DiscriminantClassifier(FewShotClassifier):
    """Nearest class mean among the linear discriminants of the base classes, by the cosine.

    What tells base classes apart tells new classes of the same kind apart too, and what differs between photographs of
    one class is of no use. See `discriminant_metric`. That a covariance learnt once serves new classes is the idea of
    Bharath Hariharan, Jitendra Malik, Deva Ramanan, "Discriminative Decorrelation for Clustering and Classification",
    ECCV 2012. Vectors are centred and brought to length 1 before. It needs at least two base classes; with few
    photographs per number of a vector the shrinkage matters.

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

    def __init__(self, in_channels: int, shrinkage: float = 0.6, scale: float = 10.0) -> None:
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
        counts = torch.unique(labels[known], return_counts=True)[1]
        if len(counts) < 2 or int(counts.max()) < 2:
            raise UsageError(
                "DiscriminantClassifier: it takes at least two base classes, one of them with two images; "
                "give more, or another method"
            )
        self.mean.copy_(features[known].double().mean(dim=0))
        self.metric.copy_(discriminant_metric(self._unit(features[known]), labels[known], self.shrinkage))
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
