"""Losses that teach an attention where to look, as functions of the answers of two scales.

Shape letters: N images, K classes.
"""

import torch
from torch import Tensor

from fgvc.methods.targets import mean_of_known, scores_of

RANKS = {"probability": torch.exp, "log_probability": lambda scores: scores}


def ranking_loss(coarse: Tensor, fine: Tensor, targets: Tensor, margin: float, on: str = "probability") -> Tensor:
    """Return the mean of max(0, p_coarse - p_fine + margin) over images whose class is known; 0 where none is.

    The coarse scale is detached: the loss cannot fall because the coarse scale gets worse.

    Args:
        coarse, fine: (N, K) logits of two scales.
        targets: (N,) int64; -1 is unknown.
        margin: by how much the finer scale is to be better.
        on: compare `probability` (of the true class), as published, or `log_probability`, whose gradient does not
            vanish where an image is wrong or nearly right.
    """
    before, after = (RANKS[on](scores_of(targets, x.float().log_softmax(dim=1))) for x in (coarse.detach(), fine))
    return mean_of_known((before - after + margin).clamp_min(0), targets >= 0)


def evidence(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean log-probability of the true class over images whose class is known; 0 where none is.

    Args:
        logits: (N, K).
        targets: (N,) int64; -1 is unknown.
    """
    return mean_of_known(scores_of(targets, logits.float().log_softmax(dim=1)), targets >= 0)
