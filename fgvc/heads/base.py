"""What every head offers: it reads a backbone's features and names them at one or more levels of a taxonomy.

Shape letters: N images, K leaves, D width of the embedding.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fgvc.backbone import Backbone, Features
from fgvc.datatypes import Prediction
from fgvc.pooling.base import Pooling
from fgvc.taxonomy import Taxonomy

PoolingFactory = Callable[[int], Pooling]


def class_loss(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy over the images whose class is known; 0 where none is.

    Args:
        logits: (N, C).
        targets: (N,) int64; -1 is unknown.
        label_smoothing: share of the target spread evenly over all classes, 0 .. 1.
    """
    total = cross_entropy(logits, targets, ignore_index=-1, label_smoothing=label_smoothing, reduction="sum")
    return total / (targets >= 0).sum().clamp_min(1)


class Head(nn.Module, ABC):
    """Features -> Prediction, and the loss of that prediction.

    Args:
        taxonomy: the classes.
        backbone: publishes the number of channels.
        pooling: makes the pooling from that number.
        label_smoothing: see `class_loss`.
        prior_strength: tau of the logit adjustment: while training, tau * log(share of the class in the training
            images) is added to the leaf logits, so that rare classes are not drowned (Menon et al., "Long-tail learning
            via logit adjustment", ICLR 2021). 0 switches it off.

    Attributes:
        embedding_size: D.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        backbone: Backbone,
        pooling: PoolingFactory,
        label_smoothing: float = 0.0,
        prior_strength: float = 0.0,
    ) -> None:
        super().__init__()
        self.taxonomy = taxonomy
        self.pooling = pooling(backbone.channels)
        self.embedding_size: int = self.pooling.out_features
        self.label_smoothing = label_smoothing
        self.prior_strength = prior_strength
        self.register_buffer("log_prior", torch.zeros(taxonomy.num_classes), persistent=False)
        self.log_prior: Tensor

    def set_class_counts(self, counts: Tensor) -> None:
        """Take the number of training images per leaf, (K,), for the logit adjustment."""
        share = counts.clamp_min(1).float() / counts.clamp_min(1).sum()
        self.log_prior.copy_(share.log() * self.prior_strength)

    @abstractmethod
    def forward(self, features: Features) -> Prediction:
        """Features of N images -> Prediction; never needs labels."""

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the named terms, to be summed.

        Args:
            prediction: what `forward` answered.
            labels: (N,) int64 node ids; an inner node leaves the finer levels out, -1 leaves the image out.
        """
        level = self.taxonomy.leaf_level
        targets = self.taxonomy.targets(labels, level)
        logits = prediction.logits[level] + self.log_prior if self.training else prediction.logits[level]
        return {"classes": class_loss(logits, targets, self.label_smoothing)}
