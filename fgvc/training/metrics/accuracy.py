"""Accuracy of every level of a taxonomy from counts per class, never from a table of classes by classes.

Shape letters: N images, C classes of a level.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from fgvc.confidence.reliability import BINS
from fgvc.confidence.shot_groups import shot_groups
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.metrics.tree import TreeMetrics


def rank_of_target(scores: Tensor, targets: Tensor) -> Tensor:
    """Return (N,) int64: how many classes stand before the target, 0 when it is the best.

    Of equal scores the lower class index stands first, so ties are decided the same way on every device. A class
    whose score is NaN stands first, and a target whose score is NaN stands last.

    Args:
        scores: (N, C), higher is better.
        targets: (N,) int64 in 0 .. C-1.
    """
    own = scores.gather(1, targets[:, None])
    # not(<=) instead of >: a net that answers NaN must count as wrong.
    ahead = (scores <= own).logical_not_()
    before = torch.arange(scores.shape[1], device=scores.device) < targets[:, None]
    return (ahead | ((scores == own) & before)).sum(dim=1)


class Mean(Metric):
    """The mean of a number over images; exact where processes hold different numbers of them (Lightning's is not)."""

    full_state_update = False

    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("weight", torch.tensor(0, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, value: Tensor, size: int) -> None:
        """Take the mean () over a batch of `size` images."""
        self.total = self.total + value.detach() * size
        self.weight = self.weight + size

    def compute(self) -> Tensor:
        """Return () float32; NaN where there was no image."""
        return (self.total / self.weight).float()


class CalibrationError(Metric):
    """The expected calibration error of `fgvc.confidence.reliability`, from sums per bin that processes add up.

    torchmetrics' keeps every probability, and waits for ever where one of several processes has no image.

    Args:
        bins: how many.
    """

    full_state_update = False

    sums: Tensor
    images: Tensor

    def __init__(self, bins: int = BINS) -> None:
        super().__init__()
        self.bins = bins
        self.add_state("sums", torch.zeros(bins), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, confidence: Tensor, correct: Tensor) -> None:
        """Take probabilities (N,) and whether the answers were right (N,) bool; NaN counts as sure and wrong."""
        sure = confidence.float().nan_to_num(nan=1.0)
        right = (correct & ~confidence.isnan()).float()
        places = (sure * self.bins).long().clamp(0, self.bins - 1)
        self.sums = self.sums.index_add(0, places, right - sure)
        self.images = self.images + len(sure)

    def compute(self) -> Tensor:
        """Return () float32; NaN where there was no image."""
        return self.sums.abs().sum() / self.images


class LevelAccuracy(Metric):
    """Top-1, top-k and mean-per-class accuracy of one level, with three counts per class as its whole state.

    The counts are summed over processes, so the result does not depend on how the images were divided.

    Args:
        num_classes: C, the number of classes of the level.
        top_k: k of the second accuracy; where there are no more classes than that it says nothing and is left out.
        groups: name -> mask (C,) bool of its classes, whose mean accuracy is told too.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    seen: Tensor
    top1_correct: Tensor
    topk_correct: Tensor

    def __init__(self, num_classes: int, top_k: int = 5, groups: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.top_k = top_k
        self.groups = dict(groups or {})
        for name in ("seen", "top1_correct", "topk_correct"):
            self.add_state(name, torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Count a batch.

        Args:
            scores: (N, C), higher is better.
            targets: (N,) int64; -1 is ignored.
        """
        # Weights of 0 instead of a selection: its size would make the processor wait for the accelerator.
        known = (targets >= 0).long()
        targets = targets.clamp_min(0)
        rank = rank_of_target(scores.detach(), targets)
        # Not in place: counts that were reset in inference mode could never be added to outside of it.
        self.seen = self.seen.index_add(0, targets, known)
        self.top1_correct = self.top1_correct.index_add(0, targets, known * (rank < 1))
        self.topk_correct = self.topk_correct.index_add(0, targets, known * (rank < self.top_k))

    def compute(self) -> dict[str, Tensor]:
        """Return `top1`, `top<k>` and `mean_per_class` (over the classes that occur) as () float32 fractions.

        NaN where no image had a known class. Also, by the name of each group of which images occur, the mean accuracy
        of its classes.
        """
        total = self.seen.sum()
        recall = self.top1_correct / self.seen
        of_k = {f"top{self.top_k}": self.topk_correct.sum() / total} if len(self.seen) > self.top_k else {}
        means = {name: recall[mask.to(recall.device)].nanmean() for name, mask in self.groups.items()}
        of_groups = {name: mean for name, mean in means.items() if not mean.isnan()}
        return {"top1": self.top1_correct.sum() / total, **of_k, "mean_per_class": recall.nanmean(), **of_groups}


class HierarchyMetrics(nn.Module):
    """One LevelAccuracy per level of a taxonomy, and TreeMetrics where there is more than one level.

    Args:
        taxonomy: gives the levels and the target of each.
        top_k: k of the second accuracy.
        class_counts: (K,) training images per leaf: where they differ tenfold, the accuracy of the leaves of `many`,
            `medium` and `few` of them is told too, see `shot_groups`.
    """

    def __init__(self, taxonomy: Taxonomy, top_k: int = 5, class_counts: Tensor | None = None) -> None:
        super().__init__()
        self.taxonomy = taxonomy
        masks = {} if class_counts is None else shot_groups(class_counts.cpu().numpy())
        groups = {taxonomy.leaf_level: {name: torch.from_numpy(mask) for name, mask in masks.items()}}
        # A list, because a ModuleDict refuses level names such as "type" or "sub.species".
        self.levels = nn.ModuleList(
            LevelAccuracy(taxonomy.size(level), top_k, groups.get(level)) for level in taxonomy.levels
        )
        self.tree = TreeMetrics(taxonomy) if len(taxonomy.levels) > 1 else None

    def _items(self) -> list[tuple[str, LevelAccuracy]]:
        pairs = zip(self.taxonomy.levels, self.levels, strict=True)
        return [(level, metric) for level, metric in pairs if isinstance(metric, LevelAccuracy)]

    def update(self, scores: Mapping[str, Tensor], labels: Tensor) -> None:
        """Count a batch at every level.

        Args:
            scores: level -> (N, classes of that level), as `Taxonomy.complete` returns them.
            labels: (N,) int64 node ids; -1 where nothing is known.
        """
        for level, metric in self._items():
            metric.update(scores[level], self.taxonomy.targets(labels, level))
        if self.tree is not None:
            self.tree.update(scores, labels)

    def compute(self) -> dict[str, Tensor]:
        """Return `<level>/top1`, `<level>/top<k>`, `<level>/mean_per_class` ..., each () float32; see `LevelAccuracy`.

        More than one level: also what `TreeMetrics.compute` returns.
        """
        levels = self._items()
        found = {f"{level}/{name}": value for level, metric in levels for name, value in metric.compute().items()}
        return found | (self.tree.compute() if self.tree is not None else {})

    def reset(self) -> None:
        """Forget everything that was counted."""
        for _, metric in self._items():
            metric.reset()
        if self.tree is not None:
            self.tree.reset()
