"""HXE, hierarchical cross-entropy: each step down the tree has a weight.

Shape letters: N images, K leaves, L levels with two classes or more.
"""

import torch
from torch import Tensor

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.base import PoolingFactory
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.pooling.native import NativePooling
from fgvc.methods.targets import mean_of_known, scores_of
from fgvc.taxonomy.relatives import leaf_ancestors, log_marginal
from fgvc.taxonomy.tree import Taxonomy


def step_weights(num_levels: int, alpha: float) -> Tensor:
    """Return (L,): exp(-alpha * depth) of the steps down the tree, coarsest first, divided by their mean.

    The depth is that of the step's lower node, counted from the lowest node that all leaves share. With alpha above 0,
    coarse steps count more.
    """
    return num_levels * (-alpha * torch.arange(1, num_levels + 1, dtype=torch.float64)).softmax(dim=0)


def hierarchical_cross_entropy(log_p: Tensor, labels: Tensor, taxonomy: Taxonomy, alpha: float) -> Tensor:
    """Return -sum of weight * log p(node | its parent), over the steps from the root down to each label.

    A step that is no choice has no weight: the levels are `Taxonomy.dividing_levels`.

    Args:
        log_p: (N, K) log-probabilities of the leaves.
        labels: (N,) int64 node ids, leaves or inner nodes; -1 is unknown.
        taxonomy: the classes.
        alpha: see `step_weights`.

    Returns:
        (N,): one number per image; 0 for a label of -1.
    """
    total = above = log_p.new_zeros(len(log_p))  # log p of the root
    levels = taxonomy.dividing_levels
    for level, weight in zip(levels, step_weights(len(levels), alpha).tolist(), strict=True):
        targets = taxonomy.targets(labels, level)
        ancestors = leaf_ancestors(taxonomy, level).to(log_p.device)
        scores = log_marginal(log_p, ancestors, taxonomy.size(level))
        here = scores_of(targets, scores)
        total = total - weight * (here - above).masked_fill(targets < 0, 0.0)
        above = here
    return total


class HXEHead(LinearHead):
    """LinearHead with the hierarchical cross-entropy over the leaf logits as its loss.

    Luca Bertinetto, Romain Mueller, Konstantinos Tertikas, Sina Samangooei, Nicholas A. Lord, "Making Better Mistakes:
    Leveraging Class Hierarchies with Deep Networks", CVPR 2020. The published code divides the weights by their sum
    over all nodes of the tree, which makes the loss tiny; here they are divided by their mean over the L levels. So
    the loss has the size of the cross-entropy, and is the cross-entropy where alpha is 0 or the data are flat.

    Args:
        taxonomy, backbone, pooling, prior_strength: see Head.
        label_smoothing: share of the plain cross-entropy against the uniform distribution, as in `Head`.
        dropout: see LinearHead.
        alpha: how fast the weight falls with the depth; published runs use 0.1 to 0.5.

    Raises:
        UsageError: alpha is negative.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        backbone: Backbone,
        pooling: PoolingFactory = NativePooling,
        label_smoothing: float = 0.0,
        prior_strength: float = 0.0,
        dropout: float = 0.0,
        alpha: float = 0.1,
    ) -> None:
        super().__init__(taxonomy, backbone, pooling, label_smoothing, prior_strength, dropout)
        if not alpha >= 0:
            raise UsageError(f"HXEHead: alpha {alpha}; it must not be negative (0 is the cross-entropy, usual: 0.1)")
        self.alpha = alpha

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the mean loss () over the images with a label, as `classes`.

        Args:
            prediction: the answer of `forward`.
            labels: (N,) int64 node ids; an inner node counts the steps down to it, -1 leaves the image out.
        """
        log_p = self.adjusted(prediction.logits[self.taxonomy.leaf_level]).float().log_softmax(dim=1)
        steps = hierarchical_cross_entropy(log_p, labels, self.taxonomy, self.alpha)
        smoothed = (1 - self.label_smoothing) * steps - self.label_smoothing * log_p.mean(dim=1)
        return {"classes": mean_of_known(smoothed, labels >= 0)}
