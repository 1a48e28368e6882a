"""Readouts: ways to score the leaves and the coarse levels from leaf log-probabilities alone. Nothing is trained.

Shape letters: N images, K leaves, L levels, C classes of a level.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from fgvc.errors import UsageError, did_you_mean
from fgvc.taxonomy.relatives import leaf_ancestors, log_marginal
from fgvc.taxonomy.tree import Taxonomy

Scores = dict[str, Tensor]


def marginal(log_leaf: Tensor, taxonomy: Taxonomy) -> Scores:
    """Score a class by the logarithm of the summed probability of its leaves; the leaves stay as they are.

    The best classes of two levels need not lie on one path.

    Args:
        log_leaf: (N, K) log-probabilities.
        taxonomy: the classes.

    Returns:
        level -> (N, C), higher is better, coarse to fine.
    """
    coarse = {
        level: log_marginal(log_leaf, leaf_ancestors(taxonomy, level).to(log_leaf.device), taxonomy.size(level))
        for level in taxonomy.levels[:-1]
    }
    return {**coarse, taxonomy.leaf_level: log_leaf}


def ancestor(log_leaf: Tensor, taxonomy: Taxonomy) -> Scores:
    """Score a class by the best score among its leaves: the best class of a level is the ancestor of the best leaf.

    So the answers always lie on one path, and a path is right where its leaf is.

    Args:
        log_leaf: (N, K) log-probabilities, or any other scores of the leaves.
        taxonomy: the classes.

    Returns:
        level -> (N, C), higher is better, coarse to fine.
    """
    best = log_leaf.argmax(dim=1)
    coarse = {level: _best_below(log_leaf, best, taxonomy, level) for level in taxonomy.levels[:-1]}
    return {**coarse, taxonomy.leaf_level: log_leaf}


def _best_below(scores: Tensor, best: Tensor, taxonomy: Taxonomy, level: str) -> Tensor:
    above = leaf_ancestors(taxonomy, level).to(scores.device)
    highest = scores.new_full((len(scores), taxonomy.size(level)), -torch.inf)
    highest = highest.scatter_reduce(1, above.expand_as(scores), scores, "amax")
    # Leaves of two classes may be equal. The best leaf, which is the first of them, may lie in the second class; the
    # argmax over classes would then take the first class.
    own = above[best][:, None]
    ahead = highest.gather(1, own)
    lost = highest.argmax(dim=1, keepdim=True) != own
    return highest.scatter(1, own, torch.where(lost, ahead.nextafter(torch.full_like(ahead, torch.inf)), ahead))


def crm(log_leaf: Tensor, taxonomy: Taxonomy) -> Scores:
    """Score a leaf by minus the expected height of the lowest common ancestor that it has with the truth.

    Shyamgopal Karthik, Ameya Prabhu, Puneet K. Dokania, Vineet Gandhi, "No Cost Likelihood Manipulation at Test Time
    for Making Better Mistakes in Deep Networks", ICLR 2021. It relies on the probabilities, so calibrate them first.
    The coarser levels are scored by `ancestor`.

    With D (K, K) the heights, D p needs no table: D[k, j] is the number of levels at which the ancestors of k and j
    differ, so (D p)[k] is the sum over levels of 1 minus the probability of k's ancestor.

    Args:
        log_leaf: (N, K) log-probabilities, normalised.
        taxonomy: the classes.

    Returns:
        level -> (N, C) float64, higher is better, coarse to fine; 0 at most, and minus the number of
        `Taxonomy.dividing_levels` at least.
    """
    # Among unlikely classes the scores differ by less than float32 resolves near L.
    p = (log_leaf if log_leaf.device.type == "mps" else log_leaf.double()).exp()  # Apple GPUs have no float64
    agreement = torch.zeros_like(p)
    for level in taxonomy.dividing_levels:
        above = leaf_ancestors(taxonomy, level).to(p.device)
        sums = p.new_zeros(len(p), taxonomy.size(level)).index_add(1, above, p)
        agreement += sums[:, above]
    return ancestor(agreement - len(taxonomy.dividing_levels), taxonomy)


OWN, MARGINAL = "own", "marginal"
LINEAGE_READOUTS = (OWN, MARGINAL)
"""Where the probabilities of an answer's lineage come from, see `lineage_log_probs`."""


def lineage_log_probs(
    logits: Mapping[str, Tensor],
    taxonomy: Taxonomy,
    temperatures: Mapping[str, float] | None = None,
    readout: str = OWN,
) -> Scores:
    """Return the log-probabilities that an answer is told with: of the best leaf and of each of its ancestors.

    Every answer of fgvc is a leaf with its lineage: the most probable leaf, and what lies above it. Its numbers at the
    coarse levels come from the level's own classifier (`own`, where the head has one) or from the sum over the leaves
    (`marginal`). Which of the two a model takes is chosen on validation images and stored in its file.

    Args:
        logits: level -> (N, C), the leaf level among them.
        taxonomy: the classes.
        temperatures: level -> T.
        readout: `own` or `marginal`.

    Returns:
        level -> (N, C), coarse to fine.
    """
    completed = taxonomy.complete(logits, temperatures)
    return completed if readout == OWN else marginal(completed[taxonomy.leaf_level], taxonomy)


READOUTS: dict[str, Callable[[Tensor, Taxonomy], Scores]] = {"marginal": marginal, "ancestor": ancestor, "crm": crm}


def check(names: Iterable[str]) -> None:
    """Raise UsageError for a name that READOUTS does not have."""
    for name in names:
        if name not in READOUTS:
            raise UsageError(f"model.readouts: {name!r}; there are {sorted(READOUTS)}{did_you_mean(name, READOUTS)}")
