"""How well, how consistently and how near the truth a whole tree of classes is named, from counts alone.

Shape letters: N images, K leaves, L levels, C classes of a level, T the leaves looked at (20, or K if fewer).
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric

from fgvc.taxonomy.relatives import parents
from fgvc.taxonomy.tree import Taxonomy

TOP = (1, 5, 20)


def first_classes(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k best classes (N, k) int64, best first, and whether their scores are numbers (N, k) bool.

    Of equal scores the lower class index stands first, and NaN before everything, as in `rank_of_target`: `topk`
    leaves open which of the equal ones it takes.

    Args:
        scores: (N, C), higher is better.
        k: at most C.
    """
    size = scores.shape[1]
    clean = scores.nan_to_num(nan=torch.inf, neginf=-torch.inf)
    values, found = clean.topk(k)
    last = values[:, -1:]
    # Which of those that equal the last is open: take their lowest indices too, as a topk of whole numbers.
    index = torch.arange(size, dtype=torch.int32, device=scores.device)
    equal = size - torch.where(clean == last, size - index, 0).topk(k).values.long()
    found = torch.cat((found.masked_fill(values == last, size), equal), dim=1).sort(dim=1).values
    values = clean.gather(1, found.clamp_max(size - 1)).masked_fill(found == size, -torch.inf)
    best = values.sort(dim=1, descending=True, stable=True).indices[:, :k]
    found = found.gather(1, best)
    return found, ~scores.gather(1, found).isnan()


class TreeMetrics(Metric):
    """Measures of the answers at all levels together, with a few counts as their whole state.

    Sources: full path, weighted precision and inconsistency as in Park et al., "Visually Consistent Hierarchical Image
    Classification", ICLR 2025; severity and distance of the best k as in Bertinetto et al., "Making Better Mistakes",
    CVPR 2020; sets of ancestors as in Kiritchenko et al., "Learning and Evaluation in the Presence of Class
    Hierarchies", 2006.

    The answer at a level is its best class, of equal ones the first; a best score of NaN is wrong, off every path and
    as far from the truth as can be. Heights are those of `Taxonomy.lca_height`. A level of one class changes nothing:
    see `Taxonomy.dividing_levels`. An image counts where its truth is known: at the levels down to its label, and in
    `full_path`, `severity` and `hd@k` only if that is a leaf.

    Args:
        taxonomy: the classes.
    """

    full_state_update = False
    is_differentiable = False

    images: Tensor
    inconsistent: Tensor
    full_paths: Tensor
    known: Tensor
    correct: Tensor
    heights: Tensor
    shared: Tensor
    named: Tensor
    true: Tensor

    def __init__(self, taxonomy: Taxonomy) -> None:
        super().__init__()
        self.taxonomy = taxonomy
        # Not a buffer: a copy of the model made before the first validation would lack it.
        self._is_new = is_new(taxonomy)
        self._sizes = [taxonomy.size(one) if one in taxonomy.dividing_levels else 0 for one in taxonomy.levels]
        depth = len(taxonomy.levels)
        sizes = {"known": (depth,), "correct": (depth,), "heights": (len(TOP),)}
        for name in ("images", "inconsistent", "full_paths", "known", "correct", "heights", "shared", "named", "true"):
            self.add_state(name, torch.zeros(sizes.get(name, ()), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Mapping[str, Tensor], labels: Tensor) -> None:
        """Count a batch.

        Args:
            scores: level -> (N, C) of every level, higher is better; NaN counts as wrong.
            labels: (N,) int64 node ids; an inner node is known down to itself, -1 not at all.
        """
        tree = self.taxonomy
        self._is_new = self._is_new.to(labels.device)
        top, sure = first_classes(scores[tree.leaf_level].detach(), min(max(TOP), tree.num_classes))
        distance = torch.zeros_like(top)
        right_path = on_path = torch.ones_like(labels, dtype=torch.bool)
        known, correct = [], []
        for level in tree.levels:
            target, above = tree.targets(labels, level), tree.targets(top, level)
            best, answer = scores[level].detach().max(dim=1)
            counts, valid = target >= 0, ~best.isnan()
            right = (answer == target) & valid
            known.append(counts.sum())
            correct.append(right.sum())
            if level not in tree.dividing_levels:
                continue
            right_path = right_path & right
            on_path = on_path & (answer == above[:, 0]) & valid
            near = (above == target[:, None]) & sure
            distance += ~near
            own, theirs = (self._is_new[tree.node(level, 0) + nodes] * counts for nodes in (above[:, 0], target))
            self.shared = self.shared + (own * near[:, 0]).sum()
            self.named = self.named + own.sum()
            self.true = self.true + theirs.sum()
        # Not in place: counts that were reset in inference mode could never be added to outside of it.
        self.images = self.images + len(labels)
        self.inconsistent = self.inconsistent + (~on_path).sum()
        self.full_paths = self.full_paths + right_path.sum()
        self.known = self.known + torch.stack(known)
        self.correct = self.correct + torch.stack(correct)
        distance = distance * counts[:, None]
        self.heights = self.heights + torch.stack([distance[:, :k].sum() for k in TOP])

    def compute(self) -> dict[str, Tensor]:
        """Return () float32 each; NaN where no image counts.

        - `full_path`: share of the images that are named right at every level.
        - `weighted_ap`: accuracy of the levels, weighted by their number of classes, over the levels that are known.
        - `inconsistency`: share of all images whose answers lie on no path of the tree.
        - `severity`: mean height over the images with a wrong leaf. More easy mistakes make it smaller: read it
          beside `hd@1` and the accuracy.
        - `hd@k`: mean height of the k best leaves, of all K where k is more.
        - `h_precision`, `h_recall`, `h_f1`: share of the nodes on the best leaf's path that the truth has, of the
          truth's nodes that the path has, and their harmonic mean, over the levels that are known. The root, which
          all leaves share, is not among them. A name that repeats its parent's stands for a missing level and is no
          node; where none is missing the three are equal.
        """
        weights = self.known.new_tensor(self._sizes) * (self.known > 0)
        leaves = self.known[-1]
        return {
            "full_path": self.full_paths / leaves,
            "weighted_ap": (weights * self.correct / self.known.clamp_min(1)).sum() / weights.sum(),
            "inconsistency": self.inconsistent / self.images,
            "severity": self.heights[0] / (leaves - self.correct[-1]),
            **{f"hd@{k}": self.heights[i] / (leaves * min(k, self.taxonomy.num_classes)) for i, k in enumerate(TOP)},
            "h_precision": self.shared / self.named,
            "h_recall": self.shared / self.true,
            "h_f1": 2 * self.shared / (self.named + self.true),
        }


def is_new(taxonomy: Taxonomy) -> Tensor:
    """Return (num_nodes,) int64: 1, or 0 where a node only repeats its parent's name to fill a missing level."""
    found = torch.ones(taxonomy.num_nodes, dtype=torch.int64)
    for upper, level in zip(taxonomy.levels, taxonomy.levels[1:], strict=False):
        above = taxonomy.names(upper)
        start = taxonomy.node(level, 0)
        for i, (name, parent) in enumerate(zip(taxonomy.names(level), parents(taxonomy, level).tolist(), strict=True)):
            found[start + i] = name != above[parent]
    return found
