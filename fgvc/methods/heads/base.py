"""The base classes of heads: a head reads a backbone's features and scores the classes of one or more levels.

Shape letters: N images, K leaves, C classes of a level, D width of the embedding.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from fgvc.datatypes import Prediction
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.losses.base import ClassLoss, LossFactory, make_losses
from fgvc.methods.losses.cross_entropy import CrossEntropy
from fgvc.methods.module_list import ModuleListOf
from fgvc.methods.pooling.base import Pooling
from fgvc.taxonomy.relatives import leaf_ancestors
from fgvc.taxonomy.tree import Taxonomy

PoolingFactory = Callable[[int], Pooling]


def start_rows(weight: Tensor, bias: Tensor | None, generator: torch.Generator | None = None) -> None:
    """Fill a classifier as it is at the start of a training.

    Args:
        weight: (C, D), filled with normal numbers of deviation 0.01.
        bias: (C,), filled with zeros; or None.
        generator: of the CPU; by default torch's own of the device.
    """
    with torch.no_grad():
        drawn = weight if generator is None else torch.empty(weight.shape, dtype=weight.dtype)
        weight.copy_(nn.init.normal_(drawn, std=0.01, generator=generator))
        if bias is not None:
            bias.zero_()


class Head(nn.Module, ABC):
    """Features -> Prediction, and the loss of that prediction.

    Args:
        taxonomy: the classes.
        backbone: publishes the number of channels.
        pooling: makes the pooling from the number of channels; by default the network's own.
        label_smoothing: share of the target spread evenly over all classes of a level, 0 .. 1.
        prior_strength: tau of the logit adjustment: while training, tau * log(share of the class in the training
            images) is added to the leaf logits, so that rare classes are learnt too (Aditya Krishna Menon and others,
            "Long-tail learning via logit adjustment", ICLR 2021). 0 switches it off.
        loss: makes the loss of a level from the number of its classes.

    Attributes:
        embedding_size: D.
        losses: of each level, coarse to fine.
        phase: the name of the training phase, set by the recognizer; see `Recognizer`.
    """

    phases: tuple[str, ...] = ()
    """Names of the head's own training phases, beside those of the recognizer."""

    def __init__(
        self,
        taxonomy: Taxonomy,
        backbone: Backbone,
        pooling: PoolingFactory,
        label_smoothing: float = 0.0,
        prior_strength: float = 0.0,
        loss: LossFactory = CrossEntropy,
    ) -> None:
        super().__init__()
        self.phase = "all"
        self.taxonomy = taxonomy
        self.pooling = pooling(backbone.channels).attach(backbone)
        self.embedding_size: int = self.pooling.out_features
        self.label_smoothing = label_smoothing
        self.prior_strength = prior_strength
        sizes = [taxonomy.size(level) for level in taxonomy.levels]
        self.losses: ModuleListOf[ClassLoss] = ModuleListOf(
            make_losses(loss, sizes, label_smoothing, type(self).__name__)
        )
        self.register_buffer("log_prior", torch.zeros(taxonomy.num_classes), persistent=False)
        self.log_prior: Tensor

    def set_class_counts(self, counts: Tensor) -> None:
        """Set the number of training images per leaf, (K,), for the logit adjustment and the losses."""
        share = counts.clamp_min(1).float() / counts.clamp_min(1).sum()
        self.log_prior.copy_(share.log() * self.prior_strength)
        for level, loss in zip(self.taxonomy.levels, self.losses, strict=True):
            above = leaf_ancestors(self.taxonomy, level).to(counts.device)
            loss.set_class_counts(counts.new_zeros(self.taxonomy.size(level)).index_add(0, above, counts))

    @abstractmethod
    def forward(self, features: Features) -> Prediction:
        """Features of N images -> Prediction; never needs labels."""

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the named terms, to be summed: here `classes`, see `leaf_loss`.

        Args:
            prediction: the answer of `forward`.
            labels: (N,) int64 node ids; for an inner node any of its leaves is right, -1 leaves the image out.
        """
        return {"classes": self.leaf_loss(self.adjusted(prediction.logits[self.taxonomy.leaf_level]), labels)}

    def frozen(self, phase: str, backbone: Backbone) -> Iterator[nn.Module]:
        """Iterate over the modules of head and backbone that stand still in one of the head's own phases."""
        return iter(())

    def rows(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Iterate over the classifiers that have a row per class: weights (C, D), biases (C,) or None; the leaves last.

        These are what `new_classifiers` of a phase makes anew. A head of another kind has none.
        """
        return iter(())

    def leaf_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss () of leaf logits (N, K) for labels (N,) int64, see `ClassLoss.of_nodes`."""
        return self.losses[-1].of_nodes(logits, labels, self.taxonomy, self.label_smoothing)

    def level_loss(self, logits: Tensor, labels: Tensor, level: str) -> Tensor:
        """Return the mean loss () of one level's own logits.

        Args:
            logits: (N, C) of the level.
            labels: (N,) int64 node ids; labels that are coarser than the level are left out.
            level: its name.
        """
        if level == self.taxonomy.leaf_level:
            logits = self.adjusted(logits)
        loss = self.losses[self.taxonomy.levels.index(level)]
        return loss.of_targets(logits, self.taxonomy.targets(labels, level), self.label_smoothing)

    def adjusted(self, leaf_logits: Tensor) -> Tensor:
        """Return leaf logits (N, K); while training, the logit adjustment is added."""
        return leaf_logits + self.log_prior if self.training else leaf_logits


class LevelHead(Head):
    """Pooling, dropout, one linear classifier per level.

    Args:
        taxonomy, backbone, pooling, label_smoothing, prior_strength, loss: see Head.
        dropout: share of the embedding's entries dropped while training.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        backbone: Backbone,
        pooling: PoolingFactory,
        label_smoothing: float = 0.0,
        prior_strength: float = 0.0,
        dropout: float = 0.0,
        loss: LossFactory = CrossEntropy,
    ) -> None:
        super().__init__(taxonomy, backbone, pooling, label_smoothing, prior_strength, loss)
        self.dropout = nn.Dropout(dropout)
        layers = [nn.Linear(self.pooling.out_features, taxonomy.size(level)) for level in taxonomy.levels]
        for layer in layers:
            start_rows(layer.weight, layer.bias)
        self.classifiers = nn.ModuleList(layers)  # a ModuleDict refuses level names such as "type" or "sub.species"

    def forward(self, features: Features) -> Prediction:
        """Features (map (N, C, h, w)) -> Prediction with every level."""
        embedding = self.pooling.pool(features)
        kept = self.dropout(embedding)
        pairs = zip(self.taxonomy.levels, self.classifiers, strict=True)
        return Prediction({level: classifier(kept) for level, classifier in pairs}, embedding)

    def rows(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Iterate over weights (C, D) and biases (C,) of the levels' classifiers, coarse to fine."""
        return ((layer.weight, layer.bias) for layer in self.classifiers if isinstance(layer, nn.Linear))

    @abstractmethod
    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the named terms, to be summed; labels (N,) int64 node ids."""

    def level_losses(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the loss () of each level by the level's name; see `level_loss`."""
        return {level: self.level_loss(prediction.logits[level], labels, level) for level in self.taxonomy.levels}
