"""Weights of the members of an ensemble, from what each said of images that none was trained on.

Shape letters: V images, M members, N images of a batch.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from fgvc.datatypes import Sample
from fgvc.errors import UsageError
from fgvc.methods.recognizers.ensemble import Ensemble

Numbers = npt.NDArray[np.float64]
SMALLEST = 1e-3
"""A member below this weight counts nothing."""


def mixture_weights(log_probs: Numbers) -> Numbers:
    """Return the weights for which the mean of the members' probabilities makes the truth most probable.

    The likelihood of a mixture is concave in its weights, so there is one best value; it is looked for as the softmax
    of free numbers, with L-BFGS.

    Args:
        log_probs: (V, M) log-probability that each member gave to the truth.

    Returns:
        (M,) of sum 1; those below `SMALLEST` are 0.

    Raises:
        UsageError: no image.
    """
    images, members = log_probs.shape
    if not images:
        raise UsageError("weights of the members: no image with a known class chooses them; give --weights equal")

    def loss(free: Numbers) -> tuple[float, Numbers]:
        """Return the mean negative log-likelihood and its gradient (M,)."""
        shares = softmax(free)
        joint = log_probs + np.log(np.maximum(shares, 1e-300))
        total = logsumexp(joint, axis=1)
        return float(-total.mean()), shares - np.exp(joint - total[:, None]).mean(axis=0)

    options = {"maxiter": 2000, "ftol": 1e-14, "gtol": 1e-9}
    found = minimize(loss, np.zeros(members), jac=True, method="L-BFGS-B", options=options)
    weights: Numbers = softmax(found.x)
    weights[weights < SMALLEST] = 0.0
    weights /= weights.sum()
    return weights


@torch.inference_mode()
def said_of_truth(ensemble: Ensemble, batches: Iterable[Sample], device: torch.device) -> Numbers:
    """Return (V, M), what `mixture_weights` takes: the log-probability of the true leaf, of images that have one.

    Args:
        ensemble: in evaluation mode; left on the device.
        batches: Samples of N images each.
        device: where it computes.
    """
    ensemble.to(device).eval()
    leaf, rows = ensemble.taxonomy.leaf_level, []
    for batch in batches:
        labels = batch.label.to(device)
        known = (labels >= 0) & (labels < ensemble.taxonomy.num_classes)
        views = ensemble(batch.image.to(device)).views.values()
        truth = [view.logits[leaf][known].gather(1, labels[known][:, None]) for view in views]
        rows.append(torch.cat(truth, dim=1).double().cpu().numpy())
    return np.concatenate(rows) if rows else np.zeros((0, len(ensemble.members)))
