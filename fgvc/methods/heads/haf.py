"""HAF: all levels are classified from the same features, only the leaves have labels, and the levels must agree.

Ashima Garg, Depanshu Sani, Saket Anand, "Learning Hierarchy Aware Features for Reducing Mistake Severity", ECCV 2022.

Shape letters: N images, C classes of a level, F classes of the level below it, D width of the embedding.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, linear, normalize

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.heads.base import Head, PoolingFactory
from fgvc.methods.losses.base import LossFactory
from fgvc.methods.losses.cross_entropy import CrossEntropy
from fgvc.methods.pooling.native import NativePooling
from fgvc.methods.targets import mean_of_known
from fgvc.taxonomy.relatives import log_marginal, parents
from fgvc.taxonomy.tree import Taxonomy


def jensen_shannon(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return (N,): the Jensen-Shannon divergence of the rows of two (N, C) log-probabilities, 0 .. log 2."""
    log_middle = torch.logaddexp(log_p, log_q) - math.log(2)
    towards = log_p.exp() * (log_p - log_middle) + log_q.exp() * (log_q - log_middle)
    return towards.sum(dim=1) / 2


def disagreement(log_coarse: Tensor, log_fine: Tensor, above: Tensor) -> Tensor:
    """Return () the mean Jensen-Shannon divergence between a level and the sums over its children.

    Args:
        log_coarse: (N, C) log-probabilities.
        log_fine: (N, F) log-probabilities of the level below.
        above: (F,) int64, see `parents`.
    """
    return jensen_shannon(log_coarse, log_marginal(log_fine, above, log_coarse.shape[1])).mean()


def closeness(log_p: Tensor, targets: Tensor, margin: float) -> Tensor:
    """Return () the mean of max(0, margin - divergence) over pairs of different classes; 0 where there is no pair.

    Each image is paired with the next one of the batch, the last with the first: a batch is already in random order.

    Args:
        log_p: (N, C) log-probabilities.
        targets: (N,) int64; an unknown class, -1, is in no pair.
        margin: the divergence from which on a pair costs nothing.
    """
    other = targets.roll(1)
    counts = (targets >= 0) & (other >= 0) & (targets != other)
    missing = (margin - jensen_shannon(log_p, log_p.roll(1, dims=0))).clamp_min(0)
    return mean_of_known(missing, counts)


def misalignment(coarse: Tensor, fine: Tensor, above: Tensor) -> Tensor:
    """Return () the mean of 1 - cosine between the weight of a class and the sum of its children's unit weights.

    Args:
        coarse: (C, D).
        fine: (F, D) of the level below.
        above: (F,) int64, see `parents`.
    """
    sums = torch.zeros_like(coarse).index_add(0, above, normalize(fine))
    return 1 - cosine_similarity(coarse, sums, dim=1).mean()


class HAFHead(Head):
    """Pooling, a fully connected layer, then for each level a linear classifier without bias, of weights of length 1.

    The embedding is not normalised: its length is the factor on the cosine, learnt per image. The coarse levels do not
    learn from their labels but from the sums over their children. A divergence is at most log 2 = 0.69, so the hinge is
    never 0 at the paper's margin of 3: the term is then 3 less the mean divergence of each coarse level, and pairs are
    pushed apart without end. A training batch needs two images or more.

    The published code (custom_resnet18.py, its form with all terms) differs in this: the classifiers have a bias beside
    the weights of length 1; batch norm acts on the pooled features too, before the fully connected layer; the pooling
    is a maximum; the margin term leaves out the coarsest level of iNaturalist-19 and the four coarsest of
    tieredImageNet; its pairs are neighbours of the shuffled batch, repeated until there are 256.

    Args:
        taxonomy, backbone, pooling, label_smoothing, prior_strength, loss: see Head.
        width: D.
        margin: divergence from which on two images of different coarse classes cost nothing.
        consistency_weight: of `disagreement`, summed over the levels above the leaves; needs no label.
        margin_weight: of `closeness`, summed over the levels above the leaves.
        geometry_weight: of `misalignment`, summed over the levels above the leaves.

    Attributes:
        embedding_size: D.

    Raises:
        UsageError: a width below 1, a negative margin or weight.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        backbone: Backbone,
        pooling: PoolingFactory = NativePooling,
        label_smoothing: float = 0.0,
        prior_strength: float = 0.0,
        width: int = 600,
        margin: float = 3.0,
        consistency_weight: float = 1.0,
        margin_weight: float = 1.0,
        geometry_weight: float = 1.0,
        loss: LossFactory = CrossEntropy,
    ) -> None:
        super().__init__(taxonomy, backbone, pooling, label_smoothing, prior_strength, loss=loss)
        if width < 1:
            raise UsageError(f"HAFHead: width {width}; give 1 or more (usual: 600)")
        weights = {"consistency": consistency_weight, "margin": margin_weight, "geometry": geometry_weight}
        for name, number in {"margin": margin, **{f"{name}_weight": w for name, w in weights.items()}}.items():
            if number < 0:
                raise UsageError(f"HAFHead: {name} {number}; give 0 (off) or more")
        self.margin, self.weights = margin, weights
        self.embedding_size = width
        self.embed = nn.Sequential(nn.Linear(self.pooling.out_features, width), nn.BatchNorm1d(width), nn.ELU())
        # A list, because a ModuleDict refuses level names such as "type" or "sub.species".
        self.directions = nn.ParameterList(
            torch.randn(taxonomy.size(level), width) / math.sqrt(width) for level in taxonomy.levels
        )

    def forward(self, features: Features) -> Prediction:
        """Features (map (N, C, h, w)) -> Prediction with every level."""
        embedding = self.embed(self.pooling.pool(features))
        scored = zip(self.taxonomy.levels, self.directions, strict=True)
        return Prediction({level: linear(embedding, normalize(weight)) for level, weight in scored}, embedding)

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return `classes` of the leaves, `consistency`, `margin` and `geometry`; the last three are 0 for one level.

        Args:
            prediction: the answer of `forward`.
            labels: (N,) int64 node ids; in `classes` any leaf below an inner node is right, -1 is unknown.
        """
        levels = self.taxonomy.levels
        log_p = {level: prediction.logits[level].float().log_softmax(dim=1) for level in levels}
        weight = dict(zip(levels, self.directions, strict=True))
        terms = dict.fromkeys(self.weights, labels.new_zeros((), dtype=torch.float32))
        for coarse, fine in pairwise(levels):
            above = parents(self.taxonomy, fine).to(labels.device)
            targets = self.taxonomy.targets(labels, coarse)
            terms["consistency"] = terms["consistency"] + disagreement(log_p[coarse], log_p[fine], above)
            terms["margin"] = terms["margin"] + closeness(log_p[coarse], targets, self.margin)
            if coarse in self.taxonomy.dividing_levels:  # a node above all others has no direction of its own
                terms["geometry"] = terms["geometry"] + misalignment(weight[coarse], weight[fine], above)
        return super().loss(prediction, labels) | {name: self.weights[name] * term for name, term in terms.items()}
