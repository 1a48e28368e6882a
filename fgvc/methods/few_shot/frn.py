"""FRN: the way whose support maps rebuild the query's map best.

Shape letters: E episodes, S support images, Q query images, W ways, C channels, h, w grid, K most images of a way,
R = K h w descriptors of a way, N = Q h w descriptors of all queries.
"""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from fgvc.methods.by_class import stacked_by_class
from fgvc.methods.few_shot.base import Episode, FewShotClassifier, assignments, descriptors
from fgvc.methods.in_parts import in_parts


def rebuilt(query: Tensor, pools: Tensor, ridge: Tensor) -> Tensor:
    """Return (E, W, N, C): each descriptor q as q (P'P + ridge I)^-1 P'P, the ridge regression on the rows P of a way.

    Where a way has few rows the same is computed as q P' (P P' + ridge I)^-1 P. In float32 or better, also under
    autocast.

    Args:
        query: (E, N, C).
        pools: (E, W, R, C); rows of 0 change nothing.
        ridge: (E, W), above 0.
    """
    kind = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        q, rows = query.to(kind).unsqueeze(1), pools.to(kind)
        (n, channels), n_rows = query.shape[1:], pools.shape[2]
        few = n_rows * (2 * n + n_rows) < channels * (n + channels)  # multiplications of the two ways to compute it
        inner = rows @ rows.transpose(2, 3) if few else rows.transpose(2, 3) @ rows
        ridged = inner + torch.diag_embed(ridge.to(kind).unsqueeze(2).expand(-1, -1, inner.shape[2]))
        if few:
            return torch.matmul(q @ rows.transpose(2, 3), torch.linalg.solve(ridged, rows))
        return torch.matmul(q, torch.linalg.solve(ridged, inner))


class FRNClassifier(FewShotClassifier):
    """Minus the mean squared error of the query's descriptors, rebuilt from those of a way's support images.

    Davis Wertheimer, Luming Tang, Bharath Hariharan, "Few-Shot Classification with Feature Map Reconstruction
    Networks", CVPR 2021.

    With r the number of a way's descriptors, the ridge is r / C exp(alpha) + 1e-6, what is rebuilt is multiplied by
    exp(beta), and the error by -gamma. The three are learnt; they start at 0, 0 and 1, which answers without training.
    Ways with different numbers of images have ridges of their own; this does not even out that a way with more images
    rebuilds any map better.

    Args:
        in_channels: C.
        scale_features: divide maps by the square root of C, as published for ResNet-12 and not for Conv-4. The ridge
            then counts for more.

    Attributes:
        alpha, beta, gamma: () parameters.
    """

    takes: ClassVar[Literal["vector", "map"]] = "map"

    def __init__(self, in_channels: int, scale_features: bool = True) -> None:
        super().__init__(in_channels)
        self.factor = 1 / math.sqrt(in_channels) if scale_features else 1.0
        self.alpha, self.beta, self.gamma = (nn.Parameter(torch.tensor(start)) for start in (0.0, 0.0, 1.0))

    def forward(self, episode: Episode) -> Tensor:
        """Maps of an episode -> scores (E, Q, W)."""
        cells = math.prod(episode.query.shape[3:])
        stacked, there = stacked_by_class(descriptors(episode.support) * self.factor, assignments(episode))
        query = (descriptors(episode.query) * self.factor).flatten(1, 2)
        rows = cells * there.sum(dim=2, dtype=self.alpha.dtype)
        ridge = rows / self.in_channels * self.alpha.exp() + 1e-6
        numbers = episode.n_way * query.shape[1] * query.shape[2]
        errors = in_parts(self._errors, numbers, query, stacked.flatten(2, 3), ridge)
        return -self.gamma * torch.unflatten(errors, 2, (-1, cells)).mean(dim=3).transpose(1, 2)

    def _errors(self, query: Tensor, pools: Tensor, ridge: Tensor) -> Tensor:
        """Return (E, W, N), the squared error of each descriptor; the arguments are those of `rebuilt`."""
        off = self.beta.exp() * rebuilt(query, pools, ridge) - query.unsqueeze(1)
        return off.square().sum(dim=3)
