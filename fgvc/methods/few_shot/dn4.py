"""DN4: the way that has the nearest neighbours of the query's local descriptors.

Shape letters: E episodes, S support images, Q query images, W ways, C channels, h, w grid, K most images of a way,
R = K h w descriptors of a way, N = Q h w descriptors of all queries.
"""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.errors import UsageError
from fgvc.methods.by_class import stacked_by_class
from fgvc.methods.few_shot.base import Episode, FewShotClassifier, assignments, descriptors
from fgvc.methods.in_parts import in_parts


def nearest_sums(query: Tensor, pools: Tensor, there: Tensor, neighbours: int) -> Tensor:
    """Return (E, N, W): the sum of the largest cosines of each descriptor with those of each way.

    A way with fewer descriptors than neighbours counts the mean of those it has as often as is missing.

    Args:
        query: (E, N, C) of length 1.
        pools: (E, W, R, C) of length 1.
        there: (E, W, R) bool, false where the way has no such descriptor.
        neighbours: how many are summed.
    """
    alike = torch.unflatten(torch.bmm(query, pools.flatten(1, 2).transpose(1, 2)), 2, there.shape[1:])
    alike = alike.masked_fill(~there.unsqueeze(1), -torch.inf)
    largest = alike.topk(min(neighbours, there.shape[2]), dim=3, sorted=False).values
    known = largest > -torch.inf
    sums = largest.where(known, 0).sum(dim=3)
    return sums * neighbours / known.sum(dim=3)


class DN4Classifier(FewShotClassifier):
    """The sum, over the query's local descriptors, of the cosines with their nearest descriptors of a way.

    Wenbin Li, Lei Wang, Jinglin Xu, Jing Huo, Yang Gao, Jiebo Luo, "Revisiting Local Descriptor based Image-to-Class
    Measure for Few-shot Learning", CVPR 2019.

    A way with more support images has more descriptors to be near to, which is not evened out, as published.

    Args:
        in_channels: C.
        neighbours: how many nearest descriptors of a way are summed.

    Raises:
        UsageError: no neighbour.
    """

    takes: ClassVar[Literal["vector", "map"]] = "map"

    def __init__(self, in_channels: int, neighbours: int = 3) -> None:
        super().__init__(in_channels)
        if neighbours < 1:
            raise UsageError(f"DN4Classifier: neighbours {neighbours}; give 1 or more (usual: 3)")
        self.neighbours = neighbours

    def forward(self, episode: Episode) -> Tensor:
        """Maps of an episode -> scores (E, Q, W)."""
        cells = math.prod(episode.query.shape[3:])
        support, query = (normalize(descriptors(x), dim=3) for x in (episode.support, episode.query))
        stacked, images = stacked_by_class(support, assignments(episode))
        there = images.repeat_interleave(cells, dim=2)
        query, pools = query.flatten(1, 2), stacked.flatten(2, 3)
        sums = in_parts(self._sums, 2 * query.shape[1] * there[0].numel(), query, pools, there)
        return torch.unflatten(sums, 1, (-1, cells)).sum(dim=2)

    def _sums(self, query: Tensor, pools: Tensor, there: Tensor) -> Tensor:
        """Return (E, N, W), see `nearest_sums`."""
        return nearest_sums(query, pools, there, self.neighbours)
