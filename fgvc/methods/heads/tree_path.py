"""Tree-path KL: one distribution over the nodes of all levels, compared with the true path.

Shape letters: N images, L levels, M nodes over all levels.
"""

import torch
from torch import Tensor

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.base import LevelHead, PoolingFactory
from fgvc.methods.losses.base import LossFactory
from fgvc.methods.losses.cross_entropy import CrossEntropy
from fgvc.methods.pooling.native import NativePooling
from fgvc.taxonomy.tree import Taxonomy


def tree_path_divergence(logits: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Return the mean KL divergence () from the true path to the softmax over the logits of all levels together.

    The target is uniform over the nodes of the path, so the divergence is 0 if each of them has 1 / L. A level that is
    unknown for an image is left out for it, both of the target and of the softmax: its logits get no gradient.

    Args:
        logits: one (N, C) per level.
        targets: one (N,) int64 per level; -1 is unknown. An image that is unknown at all levels is left out.
    """
    path = torch.stack(targets, dim=1)  # (N, L)
    known = path >= 0
    some = known.any(dim=1, keepdim=True)
    # An image without a label keeps every level: the gradient of a softmax over nothing is NaN.
    shut = ~known & some
    nodes = torch.cat([row.masked_fill(shut[:, d, None], -torch.inf) for d, row in enumerate(logits)], dim=1)  # (N, M)
    first = path.new_tensor([0, *(row.shape[1] for row in logits[:-1])]).cumsum(0)
    own = nodes.log_softmax(dim=1).gather(1, first + path.clamp_min(0))
    share = known.to(own.dtype) / known.sum(dim=1, keepdim=True).clamp_min(1)
    terms = torch.xlogy(share, share) - share * own.masked_fill(~known, 0.0)
    return terms.sum() / some.sum().clamp_min(1)


class TreePathHead(LevelHead):
    """Pooling, dropout, one linear layer per level, and the tree-path KL as a loss that ties the levels together.

    Seulki Park, Youren Zhang, Stella X. Yu, Sara Beery, Jonathan Huang, "Visually Consistent Hierarchical Image
    Classification" (H-CAST), ICLR 2025. This is the paper's loss over any backbone, without its network of segments.
    The path has the nodes of `Taxonomy.dividing_levels`: one that lies on every path would take a share of each target.

    Args:
        taxonomy, backbone, pooling, prior_strength: see Head; the last acts on the leaf level.
        label_smoothing, loss: of the levels; the target of the path is not smoothed, and its loss is the KL.
        dropout: share of the embedding's entries dropped while training.
        path_weight: factor on the tree-path KL; 0 gives PerLevelHead.

    Raises:
        UsageError: path_weight is negative.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        backbone: Backbone,
        pooling: PoolingFactory = NativePooling,
        label_smoothing: float = 0.0,
        prior_strength: float = 0.0,
        dropout: float = 0.0,
        path_weight: float = 1.0,
        loss: LossFactory = CrossEntropy,
    ) -> None:
        super().__init__(taxonomy, backbone, pooling, label_smoothing, prior_strength, dropout, loss=loss)
        if not path_weight >= 0:
            raise UsageError(f"TreePathHead: path_weight {path_weight}; it must not be negative (usual: 1)")
        self.path_weight = path_weight

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy () of each level, by the level's name, and the weighted `tree_path` ().

        Args:
            prediction: the answer of `forward`.
            labels: (N,) int64 node ids; an inner node counts at its own level and those above, -1 at none.
        """
        *upper, leaf_level = self.taxonomy.dividing_levels
        logits = [*(prediction.logits[level] for level in upper), self.adjusted(prediction.logits[leaf_level])]
        targets = [self.taxonomy.targets(labels, level) for level in self.taxonomy.dividing_levels]
        path = tree_path_divergence([row.float() for row in logits], targets)
        return {**self.level_losses(prediction, labels), "tree_path": self.path_weight * path}
