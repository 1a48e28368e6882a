"""LaplacianShot: neighbouring queries get the same answer.

Shape letters: E episodes, Q query images, W ways, D numbers of a vector.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.errors import UsageError
from fgvc.methods.few_shot.base import Episode, FewShotClassifier, assignments, class_means
from fgvc.methods.rectification import rectified

SETTLED = 1e-6  # relative change of the bound below which an episode is left as it is, as published


def affinities(query: Tensor, neighbours: int) -> Tensor:
    """Return (E, Q, Q): 1 in row q at the queries nearest to q, itself left out, else 0; not symmetric.

    Args:
        query: (E, Q, D).
        neighbours: how many are near; all others where there are fewer.
    """
    distances = torch.cdist(query, query).diagonal_scatter(query.new_full(query.shape[:2], torch.inf), dim1=1, dim2=2)
    near = distances.topk(min(neighbours, query.shape[1] - 1), dim=2, largest=False).indices
    return torch.zeros_like(distances).scatter(2, near, 1.0)


def bound_updates(distances: Tensor, near: Tensor, weight: float, steps: int) -> Tensor:
    """Return scores (E, Q, W) whose softmax y lowers sum y distances - weight / 2 sum y near y.

    Each step is y = softmax(-distances + weight near y). An episode takes no more of them once its bound, equation 7
    of the paper, changes by less than a millionth.

    Args:
        distances: (E, Q, W) of the queries from the prototypes.
        near: (E, Q, Q), see `affinities`.
        weight: the paper's lambda.
        steps: at most so many.
    """
    scores = -distances
    before = scores.new_full(scores.shape[:1], torch.inf)
    done = torch.zeros_like(before, dtype=torch.bool)
    for step in range(steps):
        pull = weight * torch.bmm(near, scores.softmax(dim=2))
        scores = torch.where(done[:, None, None], scores, pull - distances)
        log_y = scores.log_softmax(dim=2)
        y = log_y.exp()
        bound = (y * (log_y + distances - weight * torch.bmm(near, y))).sum(dim=(1, 2))
        if step > 1:
            done |= (bound - before).abs() <= SETTLED * before.abs()
            if bool(done.all()):
                break
        before = bound
    return scores


class LaplacianShotClassifier(FewShotClassifier):
    """The distance from rectified prototypes, and a pull towards the answers of the nearest queries.

    Imtiaz Masud Ziko, Jose Dolz, Eric Granger, Ismail Ben Ayed, "Laplacian Regularized Few-Shot Learning", ICML 2020.

    The prototypes are rectified as in easyfsl, see `rectified`, with the scale of the published code. Vectors are
    scaled to length 1; the paper subtracts the mean of the base classes before.

    Args:
        in_channels: D.
        neighbours: how many queries pull each; the published knn of 3 counts the query itself and is 2 here.
        weight: of the pull, the paper's lambda.
        steps: at most so many updates.
        scale: of the cosine in the weights of the rectification; easyfsl has 1.

    Raises:
        UsageError: no neighbour, no step, a negative weight or scale.
    """

    transductive: ClassVar[bool] = True

    def __init__(
        self, in_channels: int, neighbours: int = 2, weight: float = 0.7, steps: int = 20, scale: float = 10.0
    ) -> None:
        super().__init__(in_channels)
        for name, number in (("neighbours", neighbours), ("steps", steps)):
            if number < 1:
                raise UsageError(f"LaplacianShotClassifier: {name} {number}; give 1 or more")
        for name, amount in (("weight", weight), ("scale", scale)):
            if not amount >= 0:
                raise UsageError(f"LaplacianShotClassifier: {name} {amount}; give 0 or more")
        self.neighbours, self.weight, self.steps, self.scale = neighbours, weight, steps, scale

    def forward(self, episode: Episode) -> Tensor:
        """Vectors of an episode -> scores (E, Q, W), whose softmax is the soft answer of the paper."""
        unit = episode._replace(support=normalize(episode.support, dim=2), query=normalize(episode.query, dim=2))
        prototypes = rectified(unit.support, assignments(unit), class_means(unit), unit.query, self.scale)
        distances = torch.cdist(unit.query, prototypes).square()
        return bound_updates(distances, affinities(unit.query, self.neighbours), self.weight, self.steps)
