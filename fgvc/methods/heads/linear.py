"""The plain classifier.

Shape letters: N images, C channels, h, w grid.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from fgvc.datatypes import Prediction
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.heads.base import Head, PoolingFactory, start_rows
from fgvc.methods.losses.base import LossFactory
from fgvc.methods.losses.cross_entropy import CrossEntropy
from fgvc.methods.pooling.native import NativePooling
from fgvc.taxonomy.tree import Taxonomy


class LinearHead(Head):
    """Pooling, dropout, one linear layer over the leaves.

    Args:
        taxonomy, backbone, pooling, label_smoothing, prior_strength, loss: see Head.
        dropout: share of the embedding's entries dropped while training.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        backbone: Backbone,
        pooling: PoolingFactory = NativePooling,
        label_smoothing: float = 0.0,
        prior_strength: float = 0.0,
        dropout: float = 0.0,
        loss: LossFactory = CrossEntropy,
    ) -> None:
        super().__init__(taxonomy, backbone, pooling, label_smoothing, prior_strength, loss=loss)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.pooling.out_features, taxonomy.num_classes)
        start_rows(self.classifier.weight, self.classifier.bias)

    def rows(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Iterate over the one classifier: weights (K, D) and biases (K,)."""
        yield self.classifier.weight, self.classifier.bias

    def forward(self, features: Features) -> Prediction:
        """Features (map (N, C, h, w)) -> Prediction with the leaf level."""
        embedding = self.pooling.pool(features)
        logits = self.classifier(self.dropout(embedding))
        return Prediction({self.taxonomy.leaf_level: logits}, embedding)
