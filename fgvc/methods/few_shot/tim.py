"""TIM: prototypes tuned until the answers to the queries are sure each and even together.

Shape letters: E episodes, S support images, Q query images, N images, W ways, D numbers of a vector.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.errors import UsageError, did_you_mean
from fgvc.methods.few_shot.base import Episode, FewShotClassifier, assignments, class_means

DISTANCES = ("euclidean", "cosine")
DECAYS, EPSILON = (0.9, 0.999), 1e-8  # of Adam, its usual ones
TINY = 1e-12  # keeps the logarithm of a probability finite, as published


def slopes(support: Tensor, query: Tensor, ones: Tensor, weights: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    """Return the derivatives of TIM's loss by the scores of support (E, S, W) and query (E, Q, W).

    The loss of an episode is w1 CE(support) - w2 H(mean answer to the queries) + w3 mean H(answer to a query), with
    H the entropy. Written out, because under inference mode torch has no derivatives to give.

    Args:
        support: (E, S, W) scores.
        query: (E, Q, W) scores.
        ones: (E, S, W), 1 at the way of each support image, else 0.
        weights: w1, w2, w3.
    """
    by_support = weights[0] * (support.softmax(dim=2) - ones) / support.shape[1]
    p = query.softmax(dim=2)
    by_p = weights[1] * (p.mean(dim=1, keepdim=True) + TINY).log() - weights[2] * (p + TINY).log()
    return by_support, p * (by_p - (p * by_p).sum(dim=2, keepdim=True)) / query.shape[1]


class TIMClassifier(FewShotClassifier):
    """Prototypes that gradient descent tunes, episode by episode, to the most information about the queries.

    Malik Boudiaf, Ziko Imtiaz Masud, Jerome Rony, Jose Dolz, Pablo Piantanida, Ismail Ben Ayed, "Transductive
    Information Maximization For Few-Shot Learning", NeurIPS 2020 (TIM-GD).

    It favours answers that name every way equally often: where an episode asks more about one way than about another,
    this is wrong. Vectors are scaled to length 1. All episodes are tuned at once; Adam acts on each number by itself,
    so that none knows of the others. The scores carry no gradient back to the vectors.

    The paper takes 1000 steps, its code 150 unless told. easyfsl: cosine, temperature 10, 50 steps, support weight 1.

    Args:
        in_channels: D.
        distance: `euclidean`, minus half the squared distance, as published, or `cosine`.
        temperature: factor on it.
        steps: of Adam; 0 leaves the prototypes where they are.
        lr: its learning rate.
        support_weight: of the cross-entropy of the support images.
        marginal_weight: of the entropy of the mean answer, which is made large.
        conditional_weight: of the mean entropy of an answer, which is made small.

    Raises:
        UsageError: another distance, a temperature or lr that is not above 0, a negative weight or number of steps.
    """

    transductive: ClassVar[bool] = True

    def __init__(
        self,
        in_channels: int,
        distance: Literal["euclidean", "cosine"] = "euclidean",
        temperature: float = 15.0,
        steps: int = 150,
        lr: float = 1e-4,
        support_weight: float = 0.1,
        marginal_weight: float = 1.0,
        conditional_weight: float = 0.1,
    ) -> None:
        super().__init__(in_channels)
        if distance not in DISTANCES:
            hint = did_you_mean(distance, DISTANCES)
            raise UsageError(f"TIMClassifier: distance {distance!r}; give one of {', '.join(DISTANCES)}{hint}")
        for name, number in (("temperature", temperature), ("lr", lr)):
            if not number > 0:
                raise UsageError(f"TIMClassifier: {name} {number}; it must be above 0")
        weights = (support_weight, marginal_weight, conditional_weight)
        for name, number in zip(("support_weight", "marginal_weight", "conditional_weight"), weights, strict=True):
            if not number >= 0:
                raise UsageError(f"TIMClassifier: {name} {number}; give 0 (off) or more")
        if steps < 0:
            raise UsageError(f"TIMClassifier: steps {steps}; give 0 or more (usual: 150 to 1000)")
        self.distance, self.temperature, self.steps, self.lr, self.weights = distance, temperature, steps, lr, weights

    @torch.no_grad()
    def forward(self, episode: Episode) -> Tensor:
        """Vectors of an episode -> scores (E, Q, W)."""
        images = normalize(torch.cat([episode.support, episode.query], dim=1), dim=2)
        n_support = episode.support.shape[1]
        ones = assignments(episode)
        prototypes = class_means(episode._replace(support=images[:, :n_support]))
        mean, spread = torch.zeros_like(prototypes), torch.zeros_like(prototypes)
        for step in range(1, self.steps + 1):
            scores = self._scores(images, prototypes)
            by_scores = slopes(scores[:, :n_support], scores[:, n_support:], ones, self.weights)
            slope = self._chained(torch.cat(by_scores, dim=1), images, prototypes)
            mean.lerp_(slope, 1 - DECAYS[0])
            spread.lerp_(slope.square(), 1 - DECAYS[1])
            root = (spread / (1 - DECAYS[1] ** step)).sqrt_().add_(EPSILON)
            prototypes = prototypes - self.lr / (1 - DECAYS[0] ** step) * mean / root
        return self._scores(images[:, n_support:], prototypes)

    def _scores(self, vectors: Tensor, prototypes: Tensor) -> Tensor:
        """Return (E, N, W) of unit vectors (E, N, D) and prototypes (E, W, D)."""
        if self.distance == "cosine":
            return self.temperature * torch.bmm(vectors, normalize(prototypes, dim=2).transpose(1, 2))
        inner = torch.bmm(vectors, prototypes.transpose(1, 2))
        return self.temperature * (inner - prototypes.square().sum(dim=2).unsqueeze(1) / 2 - 0.5)

    def _chained(self, by_scores: Tensor, vectors: Tensor, prototypes: Tensor) -> Tensor:
        """Return the derivative by the prototypes (E, W, D), given that by the scores (E, N, W) of `_scores`."""
        pull = torch.bmm(by_scores.transpose(1, 2), vectors)
        if self.distance == "cosine":
            unit = normalize(prototypes, dim=2)
            aside = pull - (pull * unit).sum(dim=2, keepdim=True) * unit
            lengths: Tensor = torch.linalg.vector_norm(prototypes, dim=2, keepdim=True)
            return self.temperature * aside / lengths
        return self.temperature * (pull - by_scores.sum(dim=1).unsqueeze(2) * prototypes)
