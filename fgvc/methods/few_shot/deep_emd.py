"""DeepEMD: how cheaply the query's local descriptors are carried onto those of a way.

Shape letters: E episodes, Q query images, W ways, C channels, n = h w local descriptors of a map.
"""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

from fgvc.errors import UsageError
from fgvc.methods.few_shot.base import Episode, FewShotClassifier, class_means, descriptors
from fgvc.methods.in_parts import in_parts
from fgvc.methods.sinkhorn import log_transport

LEAST = 1e-3  # added to the weight of each descriptor, as published


def cross_reference(places: Tensor, others: Tensor) -> Tensor:
    """Return (E, A, B, n), of sum 1: how much each descriptor of A maps resembles the mean of each of B other maps.

    Args:
        places: (E, A, n, C).
        others: (E, B, n, C).
    """
    alike = torch.einsum("eanc,ebc->eabn", places, others.mean(dim=2))
    weights = relu(alike) + LEAST
    return weights / weights.sum(dim=3, keepdim=True)


def similarities(query: Tensor, ways: Tensor) -> Tensor:
    """Return (E, Q, W, n, n): the cosines of query descriptors and those of ways, each less its mean over channels.

    Args:
        query: (E, Q, n, C).
        ways: (E, W, n, C).
    """
    q, p = (normalize(x - x.mean(dim=3, keepdim=True), dim=3).flatten(1, 2) for x in (query, ways))
    both = torch.bmm(q, p.transpose(1, 2)).view(*query.shape[:3], *ways.shape[1:3])
    return both.transpose(2, 3)


class DeepEMDClassifier(FewShotClassifier):
    """The similarity of the query's map and the way's, descriptor by descriptor, under the best transport.

    Chi Zhang, Yujun Cai, Guosheng Lin, Chunhua Shen, "DeepEMD: Few-Shot Image Classification with Differentiable
    Earth Mover's Distance and Structured Classifiers", CVPR 2020 (DeepEMD-FCN).

    Two things are fast forms of the paper's. The transport has an entropy term and is found by Sinkhorn's steps, where
    the paper solves a linear program (training: a quadratic one); the smaller the regularisation, the nearer to it. And
    a way with several images has the mean of their maps, where the paper learns a map by gradient descent from there.

    Args:
        in_channels: C.
        temperature: factor on the similarity, whose largest is 1.
        regularisation: of the transport, whose cost is 1 less the cosine.
        steps: of Sinkhorn.

    Raises:
        UsageError: a temperature or regularisation that is not above 0, no step.
    """

    takes: ClassVar[Literal["vector", "map"]] = "map"

    def __init__(
        self, in_channels: int, temperature: float = 12.5, regularisation: float = 0.05, steps: int = 30
    ) -> None:
        super().__init__(in_channels)
        for name, number in (("temperature", temperature), ("regularisation", regularisation)):
            if not number > 0:
                raise UsageError(f"DeepEMDClassifier: {name} {number}; it must be above 0")
        if steps < 1:
            raise UsageError(f"DeepEMDClassifier: steps {steps}; give 1 or more (usual: 30)")
        self.temperature, self.regularisation, self.steps = temperature, regularisation, steps

    def forward(self, episode: Episode) -> Tensor:
        """Maps of an episode -> scores (E, Q, W)."""
        ways, query = descriptors(class_means(episode)), descriptors(episode.query)
        numbers = 3 * math.prod(query.shape[1:3]) * math.prod(ways.shape[1:3])
        return in_parts(self._scores, numbers, query, ways)

    def _scores(self, query: Tensor, ways: Tensor) -> Tensor:
        """Descriptors of queries (E, Q, n, C) and ways (E, W, n, C) -> scores (E, Q, W)."""
        alike = similarities(query, ways)
        sources = cross_reference(query, ways)
        targets = cross_reference(ways, query).transpose(1, 2)
        cost, sources, targets = (x.flatten(0, 2) for x in (1 - alike, sources, targets))
        plan = log_transport(cost, sources, targets, self.regularisation, self.steps).exp()
        return self.temperature * (plan.view_as(alike) * alike).sum(dim=(3, 4))
