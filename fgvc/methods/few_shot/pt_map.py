"""PT-MAP: power transform, then queries shared out among the ways by optimal transport.

Shape letters: E episodes, S support images, Q query images, W ways, D numbers of a vector.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.errors import UsageError
from fgvc.methods.few_shot.base import Episode, FewShotClassifier, assignments, class_means
from fgvc.methods.sinkhorn import log_transport

EPSILON = 1e-6  # added to each number before the power, as published
MOST_STEPS, TOLERANCE = 1000, 1e-5  # of the transport; the published 1e-6 is below the rounding of float32


def power_transform(vectors: Tensor, power: float) -> Tensor:
    """Return (..., D) of length 1: each number to a power with its sign kept, which makes long tails short."""
    return normalize(vectors.sign() * (vectors.abs() + EPSILON).pow(power), dim=-1)


class PTMAPClassifier(FewShotClassifier):
    """Prototypes that move, step by step, to the mean of their support images and their share of the queries.

    Yuqing Hu, Vincent Gripon, Stephane Pateux, "Leveraging the Feature Distribution in Transfer-based Few-Shot
    Learning", ICANN 2021.

    Every way gets an equal share of the queries, Q / W: where an episode asks more about one way than about another,
    this is wrong. As in the published code, support and query are centred each by its own mean after the power
    transform; the mean of the support is that of the prototypes, so that a way with many images has no more say.
    The power keeps the sign: the paper's vectors come out of a ReLU, those of many networks do not.

    easyfsl leaves out the centring and the length of 1, sets negative numbers to 0 and takes 10 steps.

    Args:
        in_channels: D.
        power: of each number; 1 leaves it as it is.
        centre: whether to subtract the means.
        sharpness: the paper's lambda, the inverse of the transport's regularisation.
        rate: by which part of the way the prototypes move at each step.
        steps: how often they move.

    Raises:
        UsageError: a power, sharpness or rate that is not above 0, a negative number of steps.
    """

    transductive: ClassVar[bool] = True

    def __init__(
        self,
        in_channels: int,
        power: float = 0.5,
        centre: bool = True,
        sharpness: float = 10.0,
        rate: float = 0.2,
        steps: int = 20,
    ) -> None:
        super().__init__(in_channels)
        for name, number in (("power", power), ("sharpness", sharpness), ("rate", rate)):
            if not number > 0:
                raise UsageError(f"PTMAPClassifier: {name} {number}; it must be above 0")
        if steps < 0:
            raise UsageError(f"PTMAPClassifier: steps {steps}; give 0 or more (usual: 20)")
        self.power, self.centre, self.sharpness, self.rate, self.steps = power, centre, sharpness, rate, steps

    def forward(self, episode: Episode) -> Tensor:
        """Vectors of an episode -> scores (E, Q, W), the logarithms of the shares."""
        even = self._transformed(episode)
        ones, prototypes = assignments(even), class_means(even)
        for _ in range(self.steps):
            shares = self._log_shares(even.query, prototypes).exp()
            sums = torch.bmm(ones.transpose(1, 2), even.support) + torch.bmm(shares.transpose(1, 2), even.query)
            means = sums / (ones.sum(dim=1) + shares.sum(dim=1)).unsqueeze(2)
            prototypes = prototypes + self.rate * (means - prototypes)
        return self._log_shares(even.query, prototypes)

    def _transformed(self, episode: Episode) -> Episode:
        """Return the episode with transformed vectors of length 1."""
        support, query = (power_transform(x, self.power) for x in (episode.support, episode.query))
        if self.centre:
            middle = class_means(episode._replace(support=support)).mean(dim=1, keepdim=True)
            support, query = normalize(support - middle, dim=2), normalize(query - query.mean(1, keepdim=True), dim=2)
        return episode._replace(support=support, query=query)

    def _log_shares(self, query: Tensor, prototypes: Tensor) -> Tensor:
        """Return (E, Q, W), the logarithm of how much of each query goes to each way."""
        n_query, n_way = query.shape[1], prototypes.shape[1]
        one, share = query.new_ones(1, n_query), query.new_full((1, n_way), n_query / n_way)
        cost = torch.cdist(query, prototypes).square()
        return log_transport(cost, one, share, 1 / self.sharpness, MOST_STEPS, TOLERANCE)
