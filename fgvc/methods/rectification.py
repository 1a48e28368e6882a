"""Prototypes moved towards the queries of the episode, as BD-CSPN does.

Jinlu Liu, Liang Song, Yongqiang Qin, "Prototype Rectification for Few-Shot Learning", ECCV 2020.

Shape letters: E episodes, S support images, Q query images, W ways, D numbers of a vector.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot


def cosines(vectors: Tensor, prototypes: Tensor) -> Tensor:
    """Return (E, N, W), the cosine of each of the vectors (E, N, D) with each of the prototypes (E, W, D)."""
    return torch.bmm(normalize(vectors, dim=2), normalize(prototypes, dim=2).transpose(1, 2))


def rectified(support: Tensor, ones: Tensor, prototypes: Tensor, query: Tensor, scale: float) -> Tensor:
    """Return (E, W, D): prototypes as weighted means of the support images and the queries that are nearest to each.

    The queries are first shifted by the mean of the prototypes less the mean of the queries. Then each counts for the
    way to whose prototype it has the largest cosine. In a way, the weight of an image is in proportion to
    exp(scale times its cosine to the way's prototype).

    Args:
        support: (E, S, D).
        ones: (E, S, W), 1 at the way of each support image, else 0.
        prototypes: (E, W, D), the means of the ways.
        query: (E, Q, D).
        scale: 0 weighs all images of a way the same.
    """
    shifted = query + prototypes.mean(dim=1, keepdim=True) - query.mean(dim=1, keepdim=True)
    near = cosines(shifted, prototypes)
    belongs = torch.cat([ones.bool(), one_hot(near.argmax(dim=2), ones.shape[2]).bool()], dim=1)
    likeness = scale * torch.cat([cosines(support, prototypes), near], dim=1)
    weights = likeness.masked_fill(~belongs, -torch.inf).softmax(dim=1)
    return torch.bmm(weights.transpose(1, 2), torch.cat([support, shifted], dim=1))
