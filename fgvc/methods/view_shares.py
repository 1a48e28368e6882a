"""How much each view of a method counts in its answer: a temperature and a weight per view.

Shape letters: N images, C classes of a level, V views.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fgvc.datatypes import Prediction
from fgvc.errors import FgvcError


class Share(NamedTuple):
    """What a view counts. temperature: by which its logits are divided. weight: of its probabilities, 0 or more."""

    temperature: float
    weight: float


Shares = Mapping[str, Share]
"""Name of a view -> its share. Views that are not named count nothing; the weights need not sum to 1."""


def weighed(views: Mapping[str, Tensor], shares: Shares) -> Tensor:
    """Return (N, C): the log of the weighted mean over views of softmax(logits / T), computed in float32.

    Args:
        views: name -> (N, C) logits; those that `shares` names are among them.
        shares: with at least one weight above 0.
    """
    heard = {name: share for name, share in shares.items() if share.weight > 0}
    total = sum(share.weight for share in heard.values())
    rows = [
        (views[name].float() / share.temperature).log_softmax(dim=1) + torch.tensor(share.weight / total).log()
        for name, share in heard.items()
    ]
    return torch.stack(rows).logsumexp(dim=0)


def with_shares(prediction: Prediction, shares: Shares) -> Prediction:
    """Put the weighed views in place of a prediction's logits, at every level that it scores; returns the prediction.

    Raises:
        FgvcError: a view that the prediction does not have.
    """
    if unknown := [name for name in shares if name not in prediction.views]:
        found = ", ".join(prediction.views) or "none"
        raise FgvcError(f"the model weighs the view {unknown[0]!r}, its method has {found}; copy fgvc.json again")
    if shares:
        prediction.logits = {
            level: weighed({name: prediction.views[name].logits[level] for name in shares}, shares)
            for level in prediction.logits
        }
    return prediction
