"""How much each view of a method is to count, found on images that it was not trained on.

Shape letters: N images, K leaves, V views.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgvc.files.bars import bar
from fgvc.files.lines import counted
from fgvc.methods.recognizers.base import Recognizer
from fgvc.methods.view_shares import Share, weighed
from fgvc.model_file.model import Model
from fgvc.training.calibration import FEWEST, LIMIT, fit_temperature, halves

ROUNDS = 500
PRIOR = 1.0
"""Images that speak for each view before any is seen: few images leave the weights near equal."""
LEAST = 0.01
"""A view that weighs less is left out."""
FOLDS = 5


class Weighing(NamedTuple):
    """Shares, and their gain in log-likelihood per held-out image over the method's own answer, with its error."""

    shares: dict[str, Share]
    gain: float
    error: float


def fit_shares(views: Mapping[str, Tensor], targets: Tensor) -> dict[str, Share]:
    """Fit a temperature per view (`calibration.fit_temperature`), then the weights of their probabilities.

    The weights are those under which the weighted mean of the probabilities of the true classes is most likely: the
    maximum of a concave function, found by expectation and maximisation (Dempster, Laird, Rubin, "Maximum Likelihood
    from Incomplete Data via the EM Algorithm", 1977), with one image per view as a prior.

    Args:
        views: name -> (N, K) logits.
        targets: (N,) int64 leaves.
    """
    heat = {name: fit_temperature(logits, targets).value for name, logits in views.items()}
    own = targets[:, None]
    chances = torch.cat(
        [(x.double() / heat[name]).log_softmax(dim=1).gather(1, own) for name, x in views.items()], dim=1
    ).exp()
    weights = mixture_weights(chances).tolist()
    kept = {name: weight for name, weight in zip(views, weights, strict=True) if weight >= LEAST}
    return {name: Share(heat[name], min(1.0, weight / sum(kept.values()))) for name, weight in kept.items()}


def mixture_weights(chances: Tensor) -> Tensor:
    """Return (V,), summing to 1: the weights w of the largest sum over images of log(w . p), with a prior.

    Args:
        chances: p, (N, V), of the true class in each view.
    """
    number, views = chances.shape
    weights = torch.full((views,), 1 / views, dtype=chances.dtype)
    for _ in range(ROUNDS):
        mixed = weights * chances.clamp_min(1e-300)
        weights = ((mixed / mixed.sum(dim=1, keepdim=True)).sum(dim=0) + PRIOR) / (number + PRIOR * views)
    return weights


def weigh(views: Mapping[str, Tensor], answer: Tensor, targets: Tensor) -> Weighing:
    """Fit shares, and compare them on held-out fifths with the method's own answer under its own temperature.

    The shares are empty where less than the standard error of the gain is gained, or where there are few images.

    Args:
        views: name -> (N, K) logits.
        answer: (N, K) logits of the method's own answer.
        targets: (N,) int64 leaves, -1 where they are unknown.
    """
    known = targets >= 0
    views, answer, targets = {name: x[known] for name, x in views.items()}, answer[known], targets[known]
    if len(targets) < FEWEST or len(views) < 2:
        return Weighing({}, 0.0, math.inf)
    gains = torch.zeros(len(targets), dtype=torch.float64)
    for fold in range(FOLDS):
        out = torch.arange(len(targets)) % FOLDS == fold
        shares = fit_shares({name: x[~out] for name, x in views.items()}, targets[~out])
        heat = fit_temperature(answer[~out], targets[~out]).value
        rows = targets[out][:, None]
        better = weighed({name: views[name][out] for name in shares}, shares).gather(1, rows)
        gains[out] = (better - (answer[out].float() / heat).log_softmax(dim=1).gather(1, rows))[:, 0].double()
    gain, error = float(gains.mean()), float(gains.std()) / math.sqrt(len(gains))
    return Weighing(fit_shares(views, targets) if gain > error else {}, gain, error)


def weigh_views(model: Model, datamodule: Any, split: str, device: torch.device) -> str:
    """Weigh the views of a model on the half of a split that also fits its temperatures; say in a line what came of it.

    Args:
        model: its recognizer's `view_shares` are set.
        datamodule: the data.
        split: whose images were not trained on.
        device: where the recognizer computes.
    """
    recognizer = model.recognizer
    recognizer.view_shares = {}
    views, answer, targets = _collected(recognizer, datamodule, split, device)
    if len(views) < 2:
        return "views not weighed: the method has one view\n"
    found = weigh(views, answer, targets)
    recognizer.view_shares = found.shares
    why = f"held-out likelihood {found.gain:+.3f} per image, error {found.error:.3f}"
    if not found.shares:
        return f"views not weighed on {counted(len(targets), f'{split} image')}: nothing is gained ({why})\n"
    shown = ", ".join(f"{name} {share.weight:.2f} (T {share.temperature:.2f})" for name, share in found.shares.items())
    return f"views weighed on {counted(len(targets), f'{split} image')}: {shown}; {why}\n"


@torch.inference_mode()
def _collected(
    recognizer: Recognizer, datamodule: Any, split: str, device: torch.device
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Return the leaf logits (N, K) of each view and of the answer, and (N,) leaves, of the fitting half of a split."""
    level = recognizer.taxonomy.leaf_level
    order = torch.randperm(len(datamodule.records(split)), generator=torch.Generator().manual_seed(0))
    rows = order[: max(1, LIMIT // recognizer.taxonomy.num_classes)].sort().values  # those that `collected` reads
    rows = rows[halves(len(rows))[0].sort().values]
    recognizer.to(device).eval()
    views: dict[str, list[Tensor]] = {}
    answers, labels = [], []
    for batch in bar(f"weighing views on {split}", datamodule.whole_split(split, rows.tolist()), unit=" batches"):
        prediction = recognizer(batch.image.to(device))
        for name, view in prediction.views.items():
            views.setdefault(name, []).append(view.logits[level].float().cpu())
        answers.append(prediction.logits[level].float().cpu())
        labels.append(batch.label.cpu())
    joined = {name: torch.cat(parts) for name, parts in views.items()}
    return joined, torch.cat(answers), recognizer.taxonomy.targets(torch.cat(labels), level)
