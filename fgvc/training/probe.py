"""A linear probe: what features are worth to a linear classifier, and the classifier.

The penalty is chosen on images that are held out: of the split val, or a stratified tenth of train. One half of them
chooses it and fits the temperature, the other half chose nothing and is counted (see `fgvc.training.calibration`). Then
the classifier is fitted on all of train. The scores on val and test choose nothing.

Shape letters: N images, D width of a feature, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fgvc.data.splitting import name_keys, stratified_split
from fgvc.errors import UsageError
from fgvc.features.folder import FeatureFolder
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.calibration import LIMIT, Calibration, calibrate, halves
from fgvc.training.logistic import Linear, Reached, fit, reached, standardised
from fgvc.training.metrics.accuracy import HierarchyMetrics

PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
"""From the largest down, see `choose`."""
HELD_OUT = 0.1
PATIENCE = 2
"""After so many penalties that are better in nothing, smaller ones are not tried."""
LOOSE = 1e-5
"""The tolerance of a fit that only tells whether its penalty is good, see `fit`."""
AT_ONCE = 1024


class Images(NamedTuple):
    """Images of a split. features: (N, D) float32. labels: (N,) int64 node ids, -1 unknown. paths: N."""

    features: Tensor
    labels: Tensor
    paths: Sequence[str]

    def leaves(self, taxonomy: Taxonomy) -> Tensor:
        """Return the places (M,) int64 of the images whose leaf is known."""
        return ((self.labels >= 0) & (self.labels < taxonomy.num_classes)).nonzero()[:, 0].cpu()


class Tried(NamedTuple):
    """A penalty and what it reached on the images that choose."""

    penalty: float
    reached: Reached


class Scores(NamedTuple):
    """Accuracy on a split. shares: name -> share, see `HierarchyMetrics`. known: level -> images with a class there.

    images: how many there are.
    """

    shares: dict[str, float]
    known: dict[str, int]
    images: int


@dataclass
class Probe:
    """What was fitted.

    linear: the classifier. penalty: its. tried: all penalties, the largest first. held_out: the split that chose, `val`
    or `train`. choosing: how many images chose. fitted: how many images it was fitted on. left_out: images of train
    whose leaf is not known. without: leaves without any image in train. calibration: None where no image is held out.
    scores: by split.
    """

    linear: Linear
    penalty: float
    tried: list[Tried]
    held_out: str
    choosing: int
    fitted: int
    left_out: int
    without: int
    calibration: Calibration | None = None
    scores: dict[str, Scores] = field(default_factory=dict)


def probe(
    folder: FeatureFolder,
    view: str = "whole",
    penalties: Sequence[float] = PENALTIES,
    fraction: float = HELD_OUT,
    device: torch.device = torch.device("cpu"),  # noqa: B008 - a constant
) -> Probe:
    """Fit, calibrate and score a linear classifier of features.

    Args:
        folder: the features; the split train is needed.
        view: see `FeatureFolder.part`.
        penalties: those that are tried.
        fraction: of train that is held out where there is no split val.
        device: where it computes.

    Raises:
        UsageError: maps in place of vectors, no image with a leaf, penalties or a fraction that make no sense, or
            nothing that could choose a penalty.
        FgvcError: features that are no numbers.
    """
    penalties = checked_penalties(penalties)
    taxonomy = folder.taxonomy
    train = images_of(folder, "train", view, device)
    known = train.leaves(taxonomy)
    if not len(known):
        raise UsageError(f"{folder.path}: no photograph of train has a {taxonomy.leaf_level}; there is nothing to fit")
    held, of_held, rest = _divided(folder, view, train, known, fraction)
    choosing = of_held[halves(len(of_held))[0]]
    choosing = choosing[torch.isin(choosing, held.leaves(taxonomy))]
    if len(penalties) > 1 and not len(choosing):
        raise UsageError(
            f"{folder.path}: no photograph can be held out to choose the penalty; give --penalties with one number"
        )
    chosen, tried, weights = choose(train, rest, held, choosing, taxonomy.num_classes, penalties)
    whole = standardised(train.features, train.labels, known)
    linear = whole.folded(fit(whole, taxonomy.num_classes, chosen, weights, doing="fitting all of train"))
    beside = linear if held is not train else standardised(train.features, train.labels, rest).folded(weights)
    counts = torch.bincount(train.labels[known.to(device)].cpu(), minlength=taxonomy.num_classes)
    done = Probe(
        linear=linear,
        penalty=chosen,
        tried=tried,
        held_out="train" if held is train else "val",
        choosing=len(choosing),
        fitted=len(known),
        left_out=len(train.labels) - len(known),
        without=int((counts == 0).sum()),
        calibration=_calibrated(beside, held, of_held, taxonomy),
    )
    for split in (one for one in folder.splits if one != "train"):
        images = images_of(folder, split, view, device)
        done.scores[split] = scores(done.linear, images, taxonomy)
    return done


def choose(
    train: Images, rows: Tensor, held: Images, choosing: Tensor, num_classes: int, penalties: Sequence[float]
) -> tuple[float, list[Tried], Tensor]:
    """Fit with every penalty, from the largest down, each from the weights of the one before; not to the last digit.

    The best is right most often on the images that choose; of equal ones that with the lowest cross-entropy.

    Args:
        train: what is fitted.
        rows: (M,) places in it, of known leaves.
        held: what chooses.
        choosing: (Q,) places in it, of known leaves; 0 of them for a single penalty.
        num_classes: K.
        penalties: falling.

    Returns:
        The best, all that were tried, and the weights (D + 1, K) of the best, see `fit`.
    """
    part = standardised(train.features, train.labels, rows)
    tried: list[Tried] = []
    weights = best = None
    for penalty in penalties:
        weights = fit(part, num_classes, penalty, weights, LOOSE, f"penalty {penalty:g}")
        new = Tried(penalty, reached(part.folded(weights), held.features, held.labels, choosing))
        if best is None or _rank(new) > _rank(best[0]):
            best = new, weights
        tried.append(new)
        if _is_past(tried):
            break
    assert best is not None  # there is at least one penalty
    return best[0].penalty, tried, best[1]


def _rank(one: Tried) -> tuple[float, float]:
    return one.reached.right, -one.reached.loss


def _is_past(tried: Sequence[Tried]) -> bool:
    """Whether the last few are better than what came before neither in right answers nor in cross-entropy."""
    before, last = tried[:-PATIENCE], tried[-PATIENCE:]
    if not before:
        return False
    right, loss = max(one.reached.right for one in before), min(one.reached.loss for one in before)
    return all(one.reached.right < right and one.reached.loss >= loss for one in last)


def checked_penalties(penalties: Sequence[float]) -> list[float]:
    """Return penalties, the largest first.

    Raises:
        UsageError: none, or one that is no number above 0.
    """
    if not penalties or not all(0 < one < float("inf") for one in penalties):
        raise UsageError(f"penalties: {', '.join(map(str, penalties)) or 'none'}; give numbers above 0, e.g. 1e-3,1e-4")
    return sorted(set(penalties), reverse=True)


def images_of(folder: FeatureFolder, split: str, view: str, device: torch.device) -> Images:
    """Return the features of a split.

    Raises:
        UsageError: there are none, or they are maps.
    """
    part = folder.part(split, view)
    if part.features.ndim != 2:
        raise UsageError(
            f"{folder.path}: holds maps, and a probe reads vectors; fgvc embed --take prelogits makes some"
        )
    features = torch.from_numpy(np.require(part.features, np.float32, "W")).to(device)
    return Images(features, torch.from_numpy(part.labels.astype(np.int64)).to(device), part.paths)


def _divided(
    folder: FeatureFolder, view: str, train: Images, known: Tensor, fraction: float
) -> tuple[Images, Tensor, Tensor]:
    """Return what is held out: images, places (Q,) in them; and the places (M,) of train that are fitted beside it.

    Of many more images than calibration holds some are drawn, the same each time.
    """
    held, rest = train, known
    if "val" in folder.splits:
        held = images_of(folder, "val", view, train.features.device)
    if held is not train and len(held.leaves(folder.taxonomy)):
        of_held = torch.arange(len(held.labels))
    else:
        held, (of_held, rest) = train, held_out_rows(train, known, fraction)
    most = max(2, LIMIT // folder.taxonomy.num_classes)
    if len(of_held) > most:
        drawn = torch.randperm(len(of_held), generator=torch.Generator().manual_seed(0))[:most]
        of_held = of_held[drawn.sort().values]
    return held, of_held, rest


def held_out_rows(images: Images, known: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """Divide the places `known` (M,) of images: those that are held out, stratified over the leaves, and the rest.

    Raises:
        UsageError: the fraction is outside [0, 1).
    """
    labels = images.labels.cpu()[known].numpy().astype(np.int32)
    keys = name_keys([images.paths[i] for i in known.tolist()])
    mask = torch.from_numpy(stratified_split(labels, fraction, 0, keys=keys))
    return known[mask], known[~mask]


def _calibrated(linear: Linear, held: Images, rows: Tensor, taxonomy: Taxonomy) -> Calibration | None:
    """Calibrate on rows (Q,) that the classifier was not fitted on; None where there are none."""
    if not len(rows):
        return None
    rows = rows.to(held.features.device)
    logits = torch.cat([linear.logits(held.features[some]).cpu() for some in torch.split(rows, AT_ONCE)])
    return calibrate({taxonomy.leaf_level: logits}, held.labels[rows].cpu(), taxonomy)


def scores(linear: Linear, images: Images, taxonomy: Taxonomy) -> Scores:
    """Return what `fgvc test` says of accuracy: `<level>/top1` and so on; a share that is not known is left out.

    Labels of coarser nodes count at the levels that they name.
    """
    metrics = HierarchyMetrics(taxonomy)
    labels = images.labels.cpu()
    for x, y in zip(torch.split(images.features, AT_ONCE), torch.split(labels, AT_ONCE), strict=True):
        metrics.update(taxonomy.complete({taxonomy.leaf_level: linear.logits(x).cpu()}), y)
    shares = {name: float(value) for name, value in metrics.compute().items() if value == value}
    known = {level: int((taxonomy.targets(labels, level) >= 0).sum()) for level in taxonomy.levels}
    return Scores(shares, known, len(labels))
