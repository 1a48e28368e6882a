"""HRN: one branch per level, summed from coarse to fine, and a loss over the whole tree.

Jingzhou Chen, Peng Wang, Jian Liu, Yuntao Qian, "Label Relation Graphs Enhanced Hierarchical Residual Network for
Hierarchical Multi-Granularity Classification", CVPR 2022.

Shape letters: N images, K leaves, M nodes over all levels, C channels, h, w grid, D width of the embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.heads.base import Head, PoolingFactory
from fgvc.methods.losses.base import LossFactory
from fgvc.methods.losses.cross_entropy import CrossEntropy
from fgvc.methods.pooling.average import AveragePooling
from fgvc.methods.targets import mean_of_known, scores_of
from fgvc.taxonomy.relatives import log_marginal, parents
from fgvc.taxonomy.tree import Taxonomy


def log_node_probabilities(scores: Mapping[str, Tensor], taxonomy: Taxonomy) -> Tensor:
    """Return the logarithm of the probability that each node is active, under the paper's model of the tree.

    The tree is in one of M + 1 states: either nothing is active, or one node and all its ancestors are. The weight of a
    state is the exponential of the sum of its nodes' scores; that of the empty state is 1. The probabilities are
    computed in one pass down the tree and one up, in float32.

    Args:
        scores: level -> (N, classes of that level), any real numbers.
        taxonomy: the classes.

    Returns:
        (N, M) in the order of the node ids. An inner node is at least as probable as its children together; the rest is
        the probability that the object belongs to the node but to none of its children.
    """
    states: list[Tensor] = []
    for level in taxonomy.levels:
        own = scores[level].float()
        states.append(own + states[-1][:, parents(taxonomy, level).to(own.device)] if states else own)
    active = [states[-1]]
    for (coarse, fine), state in zip(reversed(list(pairwise(taxonomy.levels))), reversed(states[:-1]), strict=True):
        above = parents(taxonomy, fine).to(state.device)
        active.append(torch.logaddexp(state, log_marginal(active[-1], above, taxonomy.size(coarse))))
    empty = active[-1].new_zeros(len(active[-1]), 1)
    total = torch.cat((active[-1], empty), dim=1).logsumexp(dim=1, keepdim=True)
    return torch.cat(active, dim=1) - total


def tree_loss(log_nodes: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of -log Pr(label) over the images with a label of any rank; 0 where none has one.

    Args:
        log_nodes: (N, M), see `log_node_probabilities`.
        labels: (N,) int64 node ids; -1 is unknown.
    """
    return -mean_of_known(scores_of(labels, log_nodes), labels >= 0)


@dataclass
class TreePrediction(Prediction):
    """A prediction of HRNHead, with the input of the tree loss.

    log_nodes: (N, M), see `log_node_probabilities`.
    """

    log_nodes: Tensor = field(kw_only=True)


class HRNHead(Head):
    """For each level a block of convolutions, pooling and fully connected layers; each adds the outputs of those above.

    The leaves have a softmax classifier of their own. The logits of a coarser level are the logarithms of its
    nodes' probabilities in the tree; with `sigmoid_scores`, those of its nodes' own scores. The readout `marginal`
    sums the leaves in place of both. All branches share one pooling. A training batch needs two images or more. A rank
    with one node is a state of the tree like any other ("a bird, but of no order"), so it changes the probabilities.

    Args:
        taxonomy, backbone, pooling, label_smoothing, prior_strength, loss: see Head; of the softmax classifier.
        width: channels and features between the layers of a branch.
        embedding_width: D, the width of a branch's output.
        sigmoid_scores: squeeze the scores into 0 .. 1 before the tree, as the published code does. Then the best score
            weighs e and the worst 1, so all wrong paths together outweigh the right one: with 13 orders, 37 families
            and 200 species the true species gets a probability of at most 0.03 to 0.07, and the loss stays above 2.6
            with almost no gradient. A node's probability in such a tree says how many leaves it has rather than what is
            seen, so a coarse level is answered as published: by the best of its own scores, whatever the other levels
            say. Its probability is the score's share of the level's sum.

    Attributes:
        embedding_size: D; the embedding is the input of the leaves' classifier.

    Raises:
        UsageError: a width below 1.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        backbone: Backbone,
        pooling: PoolingFactory = AveragePooling,
        label_smoothing: float = 0.0,
        prior_strength: float = 0.0,
        width: int = 256,
        embedding_width: int = 512,
        sigmoid_scores: bool = False,
        loss: LossFactory = CrossEntropy,
    ) -> None:
        super().__init__(taxonomy, backbone, pooling, label_smoothing, prior_strength, loss=loss)
        for name, number in (("width", width), ("embedding_width", embedding_width)):
            if number < 1:
                raise UsageError(f"HRNHead: {name} {number}; give 1 or more (usual: 256 to 512)")
        self.embedding_size = embedding_width
        self.sigmoid_scores = sigmoid_scores
        pooled = self.pooling.out_features
        # Lists, because a ModuleDict refuses level names such as "type" or "sub.species".
        self.blocks = nn.ModuleList(_convolutions(backbone.channels, width) for _ in taxonomy.levels)
        self.projections = nn.ModuleList(_layers(pooled, width, embedding_width) for _ in taxonomy.levels)
        self.scorers = nn.ModuleList(nn.Linear(embedding_width, taxonomy.size(level)) for level in taxonomy.levels)
        self.classifier = nn.Linear(embedding_width, taxonomy.num_classes)

    def forward(self, features: Features) -> TreePrediction:
        """Features (map (N, C, h, w)) -> TreePrediction with every level."""
        scores: dict[str, Tensor] = {}
        total = features.map.new_zeros(())
        branches = zip(self.taxonomy.levels, self.blocks, self.projections, self.scorers, strict=True)
        for level, block, project, score in branches:
            total = total + project(self.pooling(block(features.map)))
            seen = total.relu()
            scores[level] = score(seen)
        squeezed = {level: own.sigmoid() for level, own in scores.items()} if self.sigmoid_scores else scores
        log_nodes = log_node_probabilities(squeezed, self.taxonomy)
        if self.sigmoid_scores:
            logits = {level: logsigmoid(own.float()) for level, own in scores.items()}
        else:
            logits = {level: self._of_level(log_nodes, level) for level in self.taxonomy.levels}
        logits[self.taxonomy.leaf_level] = self.classifier(seen)
        return TreePrediction(logits, seen, log_nodes=log_nodes)

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return `tree`, over labels of any rank, and `classes`, the cross-entropy of the images whose leaf is known.

        Args:
            prediction: the answer of `forward`.
            labels: (N,) int64 node ids; -1 is unknown.

        Raises:
            TypeError: the prediction is not this head's.
        """
        if not isinstance(prediction, TreePrediction):
            raise TypeError(f"HRNHead.loss reads its own TreePrediction, not a {type(prediction).__name__}")
        leaf = self.taxonomy.leaf_level
        return {
            "tree": tree_loss(prediction.log_nodes, labels),
            "classes": self.level_loss(prediction.logits[leaf], labels, leaf),
        }

    def _of_level(self, log_nodes: Tensor, level: str) -> Tensor:
        return log_nodes.narrow(1, self.taxonomy.node(level, 0), self.taxonomy.size(level))


def _convolutions(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


def _layers(pooled: int, width: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm1d(pooled), nn.Linear(pooled, width), nn.BatchNorm1d(width), nn.ELU(), nn.Linear(width, out)
    )
