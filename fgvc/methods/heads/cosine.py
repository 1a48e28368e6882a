"""The cosine classifier.

Shape letters: N images, C channels, h, w grid.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from fgvc.datatypes import Prediction
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.heads.base import Head, PoolingFactory, start_rows
from fgvc.methods.losses.base import LossFactory
from fgvc.methods.losses.cross_entropy import CrossEntropy
from fgvc.methods.pooling.native import NativePooling
from fgvc.taxonomy.tree import Taxonomy


class CosineHead(Head):
    """Pooling, then the cosine between embedding and class weight, times a scale.

    Spyros Gidaris, Nikos Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting", CVPR 2018.

    Args:
        taxonomy, backbone, pooling, label_smoothing, prior_strength, loss: see Head.
        scale: the factor on the cosine at the start of training.
        learn_scale: whether the factor is trained.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        backbone: Backbone,
        pooling: PoolingFactory = NativePooling,
        label_smoothing: float = 0.0,
        prior_strength: float = 0.0,
        scale: float = 16.0,
        learn_scale: bool = True,
        loss: LossFactory = CrossEntropy,
    ) -> None:
        super().__init__(taxonomy, backbone, pooling, label_smoothing, prior_strength, loss=loss)
        self.weight = nn.Parameter(torch.empty(taxonomy.num_classes, self.pooling.out_features))
        start_rows(self.weight, None)
        self.scale = nn.Parameter(torch.tensor(float(scale)), requires_grad=learn_scale)

    def rows(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Iterate over the one classifier: weights (K, D), whose lengths say nothing."""
        yield self.weight, None

    def forward(self, features: Features) -> Prediction:
        """Features (map (N, C, h, w)) -> Prediction with the leaf level."""
        embedding = self.pooling.pool(features)
        logits = self.scale * linear(normalize(embedding), normalize(self.weight))
        return Prediction({self.taxonomy.leaf_level: logits}, embedding)
