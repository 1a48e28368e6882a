"""Relations in a taxonomy, for losses, metrics and answers: parents, sums over leaves, distances, lineages.

Shape letters: N images, K leaves, L levels, C classes of a level.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from fgvc.errors import UsageError
from fgvc.taxonomy.tree import Taxonomy


def parents(taxonomy: Taxonomy, level: str) -> Tensor:
    """Return (C,) int64: for each class of a level, the index of its parent within the level above.

    Raises:
        UsageError: the level is unknown, or the coarsest.
    """
    depth = taxonomy.depth(level)
    if depth == 0:
        raise UsageError(f"level {level!r} is the coarsest of {list(taxonomy.levels)}: its classes have no parents")
    first = taxonomy.node(level, 0)
    return taxonomy.ancestors[first : first + taxonomy.size(level), depth - 1]


def leaf_ancestors(taxonomy: Taxonomy, level: str) -> Tensor:
    """Return (K,) int64: for each leaf, the index of its ancestor (or itself) within a level."""
    return taxonomy.ancestors[: taxonomy.num_classes, taxonomy.depth(level)]


def log_marginal(log_leaf: Tensor, ancestors: Tensor, size: int) -> Tensor:
    """Sum the leaf probabilities below each class of a level, in logarithms and with a gradient.

    Args:
        log_leaf: (N, K) log-probabilities (or any scores to be summed as exponentials).
        ancestors: (K,) int64, see `leaf_ancestors`; on the device of `log_leaf`.
        size: C, the number of classes of the level.

    Returns:
        (N, C): the logarithm of each class's sum.
    """
    where = ancestors.expand_as(log_leaf)
    start = log_leaf.new_full((len(log_leaf), size), -torch.inf)
    top = start.scatter_reduce(1, where, log_leaf.detach(), "amax").clamp_min(torch.finfo(log_leaf.dtype).min)
    sums = torch.zeros_like(start).scatter_add(1, where, (log_leaf - top.gather(1, where)).exp())
    return sums.clamp_min(torch.finfo(sums.dtype).tiny).log() + top


def below(taxonomy: Taxonomy, labels: Tensor) -> Tensor:
    """Return (N, K) bool: which leaves lie below (or are) each label's node; all of them for a label of -1.

    Args:
        taxonomy: the classes.
        labels: (N,) int64 node ids; -1 where nothing is known.
    """
    rows = taxonomy.ancestors_on(labels.device)
    own = rows[labels.clamp_min(0)]
    depth = (own >= 0).sum(dim=1) - 1  # of the node; its class at that depth determines all classes above
    columns = rows[: taxonomy.num_classes].T[depth]
    return (columns == own.gather(1, depth[:, None])) | (labels < 0)[:, None]


def heights(taxonomy: Taxonomy, leaves: Tensor) -> Tensor:
    """Return (N, K) int64: the height of the lowest common ancestor of each leaf (N,) and every leaf.

    It is 0 for the leaf itself and the number of `Taxonomy.dividing_levels` for leaves that share none of these. The
    table is N x K, never K x K.
    """
    rows = taxonomy.ancestors_on(leaves.device)
    every, total = rows[: taxonomy.num_classes], torch.zeros(len(leaves), taxonomy.num_classes, dtype=torch.int64)
    total = total.to(leaves.device)
    for depth in map(taxonomy.depth, taxonomy.dividing_levels):
        total += every[:, depth] != rows[leaves, depth, None]
    return total


def leaves_below(taxonomy: Taxonomy, nodes: Iterable[int]) -> Tensor:
    """Return (K,) bool: the leaves that lie below (or are) one of these nodes."""
    leaves = torch.zeros(taxonomy.num_classes, dtype=torch.bool)
    for node in nodes:
        leaves |= below(taxonomy, torch.tensor([node]))[0]
    return leaves


def ancestors_of(taxonomy: Taxonomy, leaves: Tensor) -> dict[str, Tensor]:
    """Return level -> (C,) bool: the classes that have one of these leaves, (K,) bool, below them."""
    ancestors = {level: torch.zeros(taxonomy.size(level), dtype=torch.bool) for level in taxonomy.levels}
    for level, classes in ancestors.items():
        classes[leaf_ancestors(taxonomy, level)[leaves]] = True
    return ancestors


def lineage_scores(log_probs: Mapping[str, Tensor], taxonomy: Taxonomy) -> Tensor:
    """Return (N, L), coarse to fine: the probability of the most probable leaf and of each of its ancestors.

    Args:
        log_probs: level -> (N, C), as `Taxonomy.complete` returns them from calibrated logits.
        taxonomy: the classes.
    """
    leaf = log_probs[taxonomy.leaf_level].argmax(dim=1)
    above = taxonomy.ancestors_on(leaf.device)[leaf]
    scores = log_probs[taxonomy.leaf_level].new_empty(above.shape)
    for depth, level in enumerate(taxonomy.levels):
        scores[:, depth] = log_probs[level].gather(1, above[:, depth, None])[:, 0]
    return scores.exp().clamp_max(1)


def lineage_correct(leaf: Tensor, labels: Tensor, taxonomy: Taxonomy) -> Tensor:
    """Return (N, L) bool: whether a leaf's ancestor at each level is the label or an ancestor of it.

    Args:
        leaf: (N,) int64, the most probable leaves.
        labels: (N,) int64 node ids; levels finer than a label, and all levels of -1, are False.
        taxonomy: the classes.
    """
    rows = taxonomy.ancestors_on(leaf.device)
    return (rows[leaf] == rows[labels.clamp_min(0)]) & (labels >= 0)[:, None]
