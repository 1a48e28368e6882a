"""HSE, hierarchical semantic embedding: each level's answer guides where the next finer level looks in the map.

Shape letters: N images, C channels, h, w grid, D width of a pooled map, E width of the semantic embedding, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, count

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.heads.base import Head, PoolingFactory
from fgvc.methods.losses.base import LossFactory
from fgvc.methods.losses.cross_entropy import CrossEntropy
from fgvc.methods.module_list import ModuleListOf
from fgvc.methods.pooling.base import Pooling
from fgvc.methods.pooling.native import NativePooling
from fgvc.taxonomy.relatives import parents
from fgvc.taxonomy.tree import Taxonomy


@dataclass
class HSEPrediction(Prediction):
    """A prediction of HSEHead, with the answer of every classifier for its loss.

    classifiers: level name -> the logits (N, K of that level) of its classifiers, whose mean is `logits[level]`.
    """

    classifiers: dict[str, list[Tensor]] = field(default_factory=dict)


class Guide(nn.Module):
    """Attention of a level over the map, guided by the answer of the level above.

    Args:
        parents: number of classes of the level above.
        channels: C of the map.
        embedding_width: E.
        width: of the hidden layer; 1024 in the paper's code.
    """

    def __init__(self, parents: int, channels: int, embedding_width: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(parents, embedding_width)
        # One convolution over [map; embedding] is the sum of one over each, and the embedding is the same everywhere.
        self.of_map = nn.Conv2d(channels, width, 1)
        self.of_embedding = nn.Linear(embedding_width, width, bias=False)
        self.out = nn.Conv2d(width, channels, 1)
        nn.init.normal_(self.embed.weight, std=0.01)
        for layer in (self.of_map, self.of_embedding, self.out):
            nn.init.normal_(layer.weight, std=(2 / layer.weight.shape[0]) ** 0.5)

    def forward(self, seen: Tensor, above: Tensor) -> Tensor:
        """Map (N, C, h, w), probabilities (N, K) of the level above -> guided map (N, C, h, w).

        Its mean over positions is the paper's sum of attention times map.
        """
        semantic = self.of_embedding(self.embed(above))[:, :, None, None]
        looked = self.out(torch.tanh(self.of_map(seen) + semantic)).float()
        attention = looked.flatten(2).softmax(dim=2).view_as(looked)
        return torch.relu(seen.shape[2] * seen.shape[3] * attention * seen).to(seen.dtype)


class Level(nn.Module):
    """The branches of one level.

    Args:
        size: K, the number of its classes.
        raw: the copy of the last stage of the raw branch; None where the branch reads the backbone's map.
        guided: the same for the guided branch.
        guide: see Guide, or None at the coarsest level.
        poolings: gives each branch its own.
        channels: C.
    """

    def __init__(
        self,
        size: int,
        raw: nn.Module | None,
        guided: nn.Module | None,
        guide: Guide | None,
        poolings: Iterator[Pooling],
        channels: int,
    ) -> None:
        super().__init__()
        self.raw, self.guided, self.guide = raw, guided, guide
        self.pool_raw = next(poolings)
        width = self.pool_raw.out_features
        self.name_raw = _classifier(width, size)
        self.width = width if guide is None else 2 * width
        if guide is not None:
            self.pool_guided = next(poolings)
            self.name_guided, self.name_both = _classifier(width, size), _classifier(2 * width, size)

    def forward(self, features: Features, above: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """Features and the probabilities (N, K) of the level above -> logits of each classifier, embedding (N, D)."""
        v_raw = self.pool_raw.pool(self._seen(features, self.raw))
        if self.guide is None:
            return [self.name_raw(v_raw)], v_raw
        v_guided = self.pool_guided(self.guide(self._seen(features, self.guided).map, above))
        both = torch.cat([v_guided, v_raw], dim=1)
        return [self.name_guided(v_guided), self.name_raw(v_raw), self.name_both(both)], both

    def _seen(self, features: Features, stage: nn.Module | None) -> Features:
        return features if stage is None else stage(features.trunk)


class HSEHead(Head):
    """Hierarchical semantic embedding.

    Tianshui Chen, Wenxi Wu, Yuefang Gao, Le Dong, Xiaonan Luo, Liang Lin, "Fine-Grained Representation Learning and
    Recognition by Exploiting Hierarchical Semantic Embedding", ACM MM 2018.

    The coarsest level has one branch. Each finer level has a raw branch and a branch that is guided by the answer of
    the level above; no gradient flows through that answer. Each branch owns a copy of the backbone's last stage; the
    finest raw branch uses that last stage itself. A level's answer is the mean of its classifiers (guided, raw, and
    both side by side).

    Phases of its own: `level1` (the coarsest) ... `levelL` train one level, while the other levels and the trunk stand
    still; the trunk learns in `level1`.

    Args:
        taxonomy, backbone, label_smoothing, prior_strength, loss: see Head.
        pooling: of each branch.
        embedding_width: E; 1024 in the paper's code.
        guide_width: width of the hidden layer between map and attention; 1024 in the paper's code.
        share_last_stage: the light form: all branches read the backbone's map, so it costs no more than a plain head.
        use_parents: whether a level sees the answer of the level above; False is for comparison, all else stays.
        regularisation: weight of the divergence between a level's answer and the scores of its classes' parents.
        temperature: T of that divergence.

    Raises:
        UsageError: a number outside its range, or a backbone whose last stage cannot be copied.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        backbone: Backbone,
        pooling: PoolingFactory = NativePooling,
        label_smoothing: float = 0.0,
        prior_strength: float = 0.0,
        embedding_width: int = 1024,
        guide_width: int = 1024,
        share_last_stage: bool = False,
        use_parents: bool = True,
        regularisation: float = 1.0,
        temperature: float = 4.0,
        loss: LossFactory = CrossEntropy,
    ) -> None:
        super().__init__(taxonomy, backbone, pooling, label_smoothing, prior_strength, loss=loss)
        if min(embedding_width, guide_width) < 1 or regularisation < 0 or temperature <= 0:
            raise UsageError(
                f"HSEHead: embedding_width {embedding_width} and guide_width {guide_width} must be 1 or more, "
                f"regularisation {regularisation} not negative, temperature {temperature} above 0"
            )
        self.phases = tuple(f"level{number + 1}" for number in range(len(taxonomy.levels)))
        self.shared, self.use_parents = share_last_stage, use_parents
        self.regularisation, self.temperature = regularisation, temperature
        sizes = [taxonomy.size(level) for level in taxonomy.levels]
        more = (pooling(backbone.channels).attach(backbone) for _ in count())
        poolings = chain([self.pooling], more)
        self.levels: ModuleListOf[Level] = ModuleListOf()
        for number, size in enumerate(sizes):
            own, finest = not share_last_stage, number == len(sizes) - 1
            guide = Guide(sizes[number - 1], backbone.channels, embedding_width, guide_width) if number else None
            raw = backbone.new_last_stage() if own and not finest else None
            guided = backbone.new_last_stage() if own and number else None
            self.levels.append(Level(size, raw, guided, guide, poolings, backbone.channels))
        del self.pooling  # the first branch has it
        self.embedding_size = self.levels[-1].width
        for number, level in enumerate(taxonomy.levels[1:], start=1):
            self.register_buffer(f"parents{number}", parents(taxonomy, level), persistent=False)

    def forward(self, features: Features) -> HSEPrediction:
        """Features (map (N, C, h, w), trunk) -> HSEPrediction with every level."""
        if features.trunk is None and not self.shared and len(self.levels) > 1:
            raise UsageError(
                "HSEHead: this recognizer hands on no trunk, so the branches cannot have last stages of their own; "
                "set share_last_stage: true"
            )
        classifiers: dict[str, list[Tensor]] = {}
        logits: dict[str, Tensor] = {}
        above: Tensor | None = None
        for name, level in zip(self.taxonomy.levels, self.levels, strict=True):
            classifiers[name], embedding = level(features, above)
            logits[name] = torch.stack(classifiers[name]).mean(dim=0)
            above = logits[name].detach().float().softmax(dim=1).to(embedding.dtype)
            if not self.use_parents:
                above = torch.zeros_like(above)
        return HSEPrediction(logits, embedding, classifiers=classifiers)

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return, for each level of the phase, its cross-entropies and its divergence from the level above.

        Args:
            prediction: the answer of `forward`.
            labels: (N,) int64 node ids; levels that are finer than a label are left out.
        """
        terms: dict[str, Tensor] = {}
        for number, level in enumerate(self.taxonomy.levels):
            if self.phase in self.phases and self.phase != self.phases[number]:
                continue
            own = prediction.classifiers[level] if isinstance(prediction, HSEPrediction) else []
            answers = [*own, prediction.logits[level]] if len(own) > 1 else [prediction.logits[level]]
            terms[level] = torch.stack([self.level_loss(answer, labels, level) for answer in answers]).sum()
            if number and self.regularisation:
                above = prediction.logits[self.taxonomy.levels[number - 1]]
                handed = above.detach()[:, self.get_buffer(f"parents{number}")]
                divergence = regularisation_loss(prediction.logits[level], handed, self.temperature)
                terms[f"{level}_divergence"] = self.regularisation * divergence
        return terms

    def frozen(self, phase: str, backbone: Backbone) -> Iterator[nn.Module]:
        """Iterate over the modules that stand still in a phase of one level."""
        number = self.phases.index(phase)
        for other, level in enumerate(self.levels):
            if other != number:
                yield level
        if number == len(self.levels) - 1 and number:
            yield from backbone.before_last_stage()
        elif number:
            yield backbone


def regularisation_loss(logits: Tensor, handed: Tensor, temperature: float) -> Tensor:
    """Return the mean () over images of KL(softmax(handed / T) || softmax(logits / T)).

    Args:
        logits: (N, K).
        handed: (N, K), the score of each class's parent; no gradient reaches it.
        temperature: T.
    """
    wanted = (handed.float() / temperature).log_softmax(dim=1)
    given = (logits.float() / temperature).log_softmax(dim=1)
    return kl_div(given, wanted.detach(), reduction="batchmean", log_target=True)


def _classifier(width: int, size: int) -> nn.Linear:
    classifier = nn.Linear(width, size)
    nn.init.normal_(classifier.weight, std=0.01)
    nn.init.zeros_(classifier.bias)
    return classifier
