"""How densely the photographs of a class lie: a photograph that few others are near is likely to be of something else.

Distances are never held all at once, so a class of 50,000 photographs takes the memory of its vectors and one block.

Shape letters: N photographs of one class, D width of a vector, B rows of a block, k neighbours.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from fgvc.errors import UsageError

Form = Literal["counting", "gaussian", "neighbours"]
FORMS = get_args(Form)

WIDTH = 256
"""Wider vectors are reduced to so many directions of most variance, class by class."""
SHARE = 0.6
"""Where the cut-off lies among the sorted distances."""
BLOCK = 1 << 24
"""Distances held at once: 64 MB."""
LEAST_NEIGHBOURS, NEIGHBOURS = 5, 0.05
"""The neighbour that is looked at: the fifth, and in a class of more than 100 that of 5 %."""

_TOGETHER = 4096

Vectors = npt.NDArray[np.floating[Any]]
Singles = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def density_of(form: str) -> Callable[..., Doubles]:
    """Return the function of a form; raises UsageError for a form that there is none of."""
    functions: dict[str, Callable[..., Doubles]] = {
        "counting": counting,
        "gaussian": gaussian,
        "neighbours": neighbours,
    }
    if form not in functions:
        raise UsageError(f"density {form!r}; it is one of {', '.join(functions)}")
    return functions[form]


def counting(vectors: Vectors, block: int = BLOCK) -> Doubles:
    """Count the photographs nearer than a cut-off, without the photograph itself; the published form.

    The cut-off is the distance at the position of 60 % among all N * N sorted distances, the zeros of the diagonal and
    both triangles included. Source: Sheng Guo, Weilin Huang, Haozhi Zhang, Chenfan Zhuang, Dengke Dong, Matthew R.
    Scott and Dinglong Huang, "CurriculumNet: Weakly Supervised Learning from Large-Scale Web Images", ECCV 2018, and
    their clustering script.

    Args:
        vectors: (N, D) of one class; those wider than 256 are reduced, see `reduced`.
        block: distances held at once.

    Returns:
        (N,) whole numbers.
    """
    narrow = reduced(vectors)
    cut = value_at(lambda: distances(narrow, block), int(SHARE * len(narrow) ** 2))
    return np.concatenate([(some < cut).sum(axis=1) - 1.0 for some in distances(narrow, block)])


def gaussian(vectors: Vectors, block: int = BLOCK) -> Doubles:
    """Return the sum over all photographs of exp(-d^2 / 2) / sqrt(2 pi), d over the largest; the other published form.

    Source: see `counting`. The photograph itself is one of them.

    Args:
        vectors: (N, D) of one class; those wider than 256 are reduced, see `reduced`.
        block: distances held at once.

    Returns:
        (N,), at most N / sqrt(2 pi).
    """
    narrow = reduced(vectors)
    largest = max(float(some.max()) for some in distances(narrow, block)) or 1.0
    sums = [np.exp(-0.5 * (some.astype(np.float64) / largest) ** 2).sum(axis=1) for some in distances(narrow, block)]
    return np.concatenate(sums) / math.sqrt(2 * math.pi)


def neighbours(vectors: Vectors, block: int = BLOCK) -> Doubles:
    """Return how near the k-th nearest photograph is: 1 / (1 + d / the median of d over the class).

    Whoever is in a group of more than k photographs has a near neighbour, however small the group is beside the class:
    a small second mode, such as females or young birds, is as dense as the large one. Of the published forms it is
    thin, as both look at most of the class. A few copies of one photograph do not make each other dense, as k of them
    would have to be copies. k is 5, or 5 % of a class of more than 100.

    Args:
        vectors: (N, D) of one class. The lengths of what `centred_on` returns are not looked at, see there.
        block: distances held at once.

    Returns:
        (N,) in 0..1, about one half in the middle.
    """
    place = min(neighbour(len(vectors)), len(vectors) - 1)
    near = [np.partition(some, place, axis=1)[:, place] for some in distances(vectors, block)]
    found = np.concatenate(near).astype(np.float64)
    middle = float(np.median(found)) or float(found.mean()) or 1.0
    return 1 / (1 + found / middle)


def neighbour(images: int) -> int:
    """Return which neighbour is looked at in a class of so many photographs."""
    return max(LEAST_NEIGHBOURS, round(NEIGHBOURS * images))


def centred_on(features: Vectors, mean: Doubles) -> Singles:
    """Return (N, D) features less the mean (D,) of all classes, each of length 1.

    What all photographs share then counts for nothing, and neither does how strongly a network answers: distances
    follow the angle.
    """
    apart: Singles = np.subtract(features, mean.astype(np.float32), dtype=np.float32)
    lengths = np.linalg.norm(apart, axis=1, keepdims=True)
    apart /= np.where(lengths > 0, lengths, 1)
    return apart


def reduced(vectors: Vectors, width: int = WIDTH) -> Vectors:
    """Return the `width` principal components of vectors (N, D), or the vectors where there are not more of either.

    N vectors lie in N - 1 directions, so of a class of at most `width` photographs the components have the same
    distances as the vectors: there is nothing to reduce.
    """
    images, wide = vectors.shape
    if wide <= width or images <= width:
        return vectors
    mean = vectors.mean(axis=0, dtype=np.float64)
    if images <= wide:  # the smaller of the two products
        apart = vectors - mean
        squares, directions = eigh(apart @ apart.T, subset_by_index=(images - width, images - 1))
        parts: Doubles = directions * np.sqrt(squares.clip(min=0))
        return parts
    square = np.zeros((wide, wide))
    for start in range(0, images, _TOGETHER):
        apart = vectors[start : start + _TOGETHER] - mean
        square += apart.T @ apart
    _, directions = eigh(square, subset_by_index=(wide - width, wide - 1))
    components = np.empty((images, width), dtype=np.float32)
    for start in range(0, images, _TOGETHER):
        components[start : start + _TOGETHER] = (vectors[start : start + _TOGETHER] - mean) @ directions
    return components


def distances(vectors: Vectors, block: int = BLOCK) -> Iterator[Singles]:
    """Yield the Euclidean distances (B, N) of some photographs to all, block by block; 0 to themselves.

    Args:
        vectors: (N, D).
        block: how many numbers a block has at most; it has one row at least.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    apart: Singles = np.subtract(vectors, mean.astype(np.float32), dtype=np.float32)  # smaller numbers round less
    squares = np.einsum("ij,ij->i", apart, apart)
    rows = max(1, block // len(apart))
    for start in range(0, len(apart), rows):
        some = slice(start, start + rows)
        found = squares[some, None] + squares - 2 * (apart[some] @ apart.T)
        np.sqrt(found.clip(min=0, out=found), out=found)
        found[np.arange(len(found)), np.arange(start, start + len(found))] = 0
        yield found


def value_at(blocks: Callable[[], Iterator[Singles]], place: int) -> float:
    """Return the number at a place of the sorted numbers of all blocks, exactly, without holding or sorting them.

    Floats of at least 0 are in the order of their bits. The first pass counts the upper half of the bits, the second
    one the lower half of those numbers that share the upper half with the one that is looked for.

    Args:
        blocks: yields the same numbers of at least 0 each time it is called.
        place: from 0.
    """
    upper = np.zeros(1 << 16, dtype=np.int64)
    for some in blocks():
        upper += np.bincount((_bits(some) >> 16).ravel(), minlength=1 << 16)
    first = int(np.searchsorted(upper.cumsum(), place, side="right"))
    left = place - int(upper[:first].sum())
    lower = np.zeros(1 << 16, dtype=np.int64)
    for some in blocks():
        bits = _bits(some).ravel()
        lower += np.bincount(bits[bits >> 16 == first] & 0xFFFF, minlength=1 << 16)
    second = int(np.searchsorted(lower.cumsum(), left, side="right"))
    return float(np.array(first << 16 | second, dtype=np.uint32).view(np.float32))


def _bits(some: Singles) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray(some).view(np.uint32)
