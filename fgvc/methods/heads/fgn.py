"""FGN: each level has its part of the embedding. A coarse level also reads the finer parts, without their gradient.

Dongliang Chang, Kaiyue Pang, Yixiao Zheng, Zhanyu Ma, Yi-Zhe Song, Jun Guo, "Your 'Flamingo' is My 'Bird':
Fine-Grained, or Not", CVPR 2021.

Shape letters: N images, L levels, W width of a part.
"""

import torch
from torch import Tensor, nn

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.heads.base import Head, PoolingFactory
from fgvc.methods.losses.base import LossFactory
from fgvc.methods.losses.cross_entropy import CrossEntropy
from fgvc.methods.pooling.native import NativePooling
from fgvc.taxonomy.tree import Taxonomy


def read_parts(parts: Tensor) -> list[Tensor]:
    """Return the input of each level's classifier, coarse to fine: its own part, then the finer parts, detached.

    Args:
        parts: (N, L, W), coarse to fine.

    Returns:
        L tensors: (N, L W) for the coarsest level, W less for each level below it, (N, W) for the finest.
    """
    return [
        torch.cat((parts[:, depth], parts[:, depth + 1 :].detach().flatten(1)), dim=1)
        for depth in range(parts.shape[1])
    ]


class FGNHead(Head):
    """Pooling, a fully connected layer whose output is cut into one part per level, one classifier per level.

    The gradient of coarse classes spoils the features of fine classes, while fine features help with coarse classes. So
    the finest classifier reads only its own part; a coarser one also reads the finer parts, but its gradient does not
    reach them. The levels are scored apart, so their answers may contradict each other. The paper pools the maximum.
    A training batch needs two images or more.

    Args:
        taxonomy, backbone, pooling, label_smoothing, prior_strength, loss: see Head; smoothing acts at every level.
        width: W, numbers per level.

    Attributes:
        embedding_size: L W; the embedding is all parts side by side, coarse to fine.

    Raises:
        UsageError: a width below 1.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        backbone: Backbone,
        pooling: PoolingFactory = NativePooling,
        label_smoothing: float = 0.0,
        prior_strength: float = 0.0,
        width: int = 200,
        loss: LossFactory = CrossEntropy,
    ) -> None:
        super().__init__(taxonomy, backbone, pooling, label_smoothing, prior_strength, loss=loss)
        if width < 1:
            raise UsageError(f"FGNHead: width {width}; give 1 or more numbers per level (usual: 200)")
        levels, pooled = taxonomy.levels, self.pooling.out_features
        self.width = width
        self.embedding_size = len(levels) * width
        self.parts = nn.Sequential(
            nn.BatchNorm1d(pooled),
            nn.Linear(pooled, self.embedding_size),
            nn.BatchNorm1d(self.embedding_size),
            nn.ELU(),
        )
        # A list, because a ModuleDict refuses level names such as "type" or "sub.species".
        self.classifiers = nn.ModuleList(
            nn.Linear((len(levels) - depth) * width, taxonomy.size(level)) for depth, level in enumerate(levels)
        )

    def forward(self, features: Features) -> Prediction:
        """Features (map (N, C, h, w)) -> Prediction with every level."""
        embedding = self.parts(self.pooling.pool(features))
        read = read_parts(embedding.unflatten(1, (-1, self.width)))
        scored = zip(self.taxonomy.levels, self.classifiers, read, strict=True)
        return Prediction({level: classifier(part) for level, classifier, part in scored}, embedding)

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy () of each level by its name; labels (N,) int64 node ids, -1 unknown."""
        return {level: self.level_loss(logits, labels, level) for level, logits in prediction.logits.items()}
