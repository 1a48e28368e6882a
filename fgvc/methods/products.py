"""Episodes as products of vectors: many episodes of the same images at the price of one product matrix.

A method that looks at vectors only through their products need not read D numbers of each image in each episode. The
products of all N images are taken once, (N, N); an episode then reads S + Q by S numbers of them.

Shape letters: E episodes, W ways, S support images, Q query images, D numbers of a vector, N images.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor


class Products(NamedTuple):
    """What `ByProducts` methods take of episodes.

    among: (E, S, S) products of the support images with each other.
    across: (E, Q, S) of the query images with the support images.
    squares: (E, Q, 1) of the query images with themselves.
    ones: (E, S, W) 1 at the way of each support image.
    """

    among: Tensor
    across: Tensor
    squares: Tensor
    ones: Tensor


class ByProducts(ABC):
    """A classifier that can also score products."""

    @abstractmethod
    def embed(self, features: Tensor) -> Tensor:
        """Return the vectors (N, D) that products are taken of, for features (N, D) of all images of all episodes."""

    @abstractmethod
    def score_products(self, products: Products) -> Tensor:
        """Return the scores (E, Q, W) that `forward` gives for the same episodes, up to rounding."""


def products_of_rows(matrix: Tensor, support: Tensor, query: Tensor, ones: Tensor) -> Products:
    """Return the products of episodes whose images are rows of a matrix of all products.

    Args:
        matrix: (N, N), contiguous.
        support: (E, S) int64 rows.
        query: (E, Q) int64 rows.
        ones: (E, S, W) 1 at the way of each support image.
    """
    flat, images, columns = matrix.view(-1), len(matrix), support.unsqueeze(1)
    among, across = (flat.take(rows.unsqueeze(2) * images + columns) for rows in (support, query))
    return Products(among, across, matrix.diagonal()[query].unsqueeze(2), ones.to(matrix.dtype))


def nearness_to_means(products: Products, distance: str) -> Tensor:
    """Return the negative squared distances (`euclidean`) or the cosines (E, Q, W) of queries to the ways' means."""
    shares = products.ones / products.ones.sum(dim=1, keepdim=True)
    across = torch.bmm(products.across, shares)
    squares = (torch.bmm(products.among, shares) * shares).sum(dim=1, keepdim=True)
    if distance == "cosine":
        return across / (squares.clamp_min(1e-24).sqrt() * products.squares.clamp_min(1e-24).sqrt())
    return 2 * across - squares - products.squares
