"""Soft labels: the target is spread over the leaves; near relatives get more of it.

Shape letters: N images, K leaves.
"""

from torch import Tensor
from torch.nn.functional import cross_entropy

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.base import PoolingFactory
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.losses.cross_entropy import node_loss
from fgvc.methods.pooling.native import NativePooling
from fgvc.taxonomy.relatives import heights
from fgvc.taxonomy.tree import Taxonomy


def soft_targets(leaves: Tensor, taxonomy: Taxonomy, beta: float) -> Tensor:
    """Return (N, K): exp(-beta * height of the lowest common ancestor / greatest height), rows summing to 1.

    The greatest height is the number of `Taxonomy.dividing_levels`, so that a rank that all leaves share changes no
    target.

    Args:
        leaves: (N,) int64 leaves.
        taxonomy: the classes.
        beta: the larger, the nearer to one-hot.
    """
    return (-beta / len(taxonomy.dividing_levels) * heights(taxonomy, leaves)).softmax(dim=1)


def soft_label_loss(logits: Tensor, labels: Tensor, taxonomy: Taxonomy, beta: float) -> Tensor:
    """Return the mean over the images with a label of the cross-entropy to the soft target; 0 where none has one.

    An inner node has no soft target; it costs -log p(any leaf below it). As beta grows, the loss of a leaf tends to
    the same formula.

    Args:
        logits: (N, K) of the leaves.
        labels: (N,) int64 node ids, leaves or inner nodes; -1 is unknown.
        taxonomy: the classes.
        beta: see `soft_targets`.
    """
    inner = labels >= taxonomy.num_classes
    leaf = (labels >= 0) & ~inner
    targets = soft_targets(labels.masked_fill(~leaf, 0), taxonomy, beta)
    leaves = cross_entropy(logits.float(), targets, reduction="none").masked_fill(~leaf, 0.0).sum()
    others = node_loss(logits, labels.masked_fill(~inner, -1), taxonomy) * inner.sum()
    return (leaves + others) / (labels >= 0).sum().clamp_min(1)


class SoftLabelHead(LinearHead):
    """LinearHead that learns from soft labels.

    Luca Bertinetto, Romain Mueller, Konstantinos Tertikas, Sina Samangooei, Nicholas A. Lord, "Making Better Mistakes:
    Leveraging Class Hierarchies with Deep Networks", CVPR 2020. For a tree of one level it is label smoothing. It has
    no `label_smoothing`, since the targets are soft already.

    Args:
        taxonomy, backbone, pooling, prior_strength: see Head.
        dropout: see LinearHead.
        beta: see `soft_targets`. The paper tries 4 (very soft) to 30 (nearly one-hot) on trees of 7 levels and more.
            With fewer levels, a smaller beta is as soft.

    Raises:
        UsageError: beta is not above 0.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        backbone: Backbone,
        pooling: PoolingFactory = NativePooling,
        prior_strength: float = 0.0,
        dropout: float = 0.0,
        beta: float = 10.0,
    ) -> None:
        super().__init__(taxonomy, backbone, pooling, 0.0, prior_strength, dropout)
        if not beta > 0:
            raise UsageError(f"SoftLabelHead: beta {beta}; it must be above 0 (usual: 4 to 30, larger is harder)")
        self.beta = beta

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return `soft_label_loss` () as `classes`.

        Args:
            prediction: the answer of `forward`.
            labels: (N,) int64 node ids, see `soft_label_loss`.
        """
        logits = self.adjusted(prediction.logits[self.taxonomy.leaf_level])
        return {"classes": soft_label_loss(logits, labels, self.taxonomy, self.beta)}
