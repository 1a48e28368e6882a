"""Ridge regression on one-hot targets, in closed form.

Shape letters: E episodes, W ways, S support images, Q query images, D numbers of a vector.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.methods.few_shot.base import Episode, FewShotClassifier, assignments, check_above_zero, widened


def ridge(support: Tensor, targets: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Return the weights (E, D, W) and the intercept (E, 1, W) that minimise |Y - XB - b|^2 + penalty |B|^2.

    The system is as large as the support set, not as the vectors: B = X^T (X X^T + penalty)^-1 Y of centred X, Y.

    Args:
        support: (E, S, D) X.
        targets: (E, S, W) Y.
        penalty: above 0; the intercept is free of it.
    """
    middle, prior = support.mean(dim=1, keepdim=True), targets.mean(dim=1, keepdim=True)
    centred = support - middle
    # A small penalty vanishes in float32, and the large coefficients that it leads to cancel in the weights.
    wide = centred if centred.device.type == "mps" else centred.double()
    system = torch.bmm(wide, wide.transpose(1, 2))
    system.diagonal(dim1=1, dim2=2).add_(penalty)
    dual = torch.linalg.solve(system, (targets - prior).to(system.dtype))
    weights = torch.bmm(wide.transpose(1, 2), dual).to(support.dtype)
    return weights, prior - torch.bmm(middle, weights)


class RidgeClassifier(FewShotClassifier):
    """Least squares from features to one-hot ways with a squared penalty; nothing to learn before an episode.

    The base learner of Luca Bertinetto, Joao F. Henriques, Philip H. S. Torr, Andrea Vedaldi, "Meta-learning with
    Differentiable Closed-form Solvers", ICLR 2019 (R2-D2), with a penalty and a scale that are arguments. Gradients
    reach the features. Ways with more images have a larger intercept.

    Args:
        in_channels: D.
        penalty: weight of the squared weights against the sum of squared errors; with `normalize` features have length
            1, and 1 is the size of one image.
        normalize: whether features are brought to length 1 first.
        scale: factor on scores, which lie about 0 and 1; matters for probabilities and training, not for the order.

    Raises:
        UsageError: a penalty or a scale that is not above 0.
    """

    def __init__(self, in_channels: int, penalty: float = 1.0, normalize: bool = True, scale: float = 1.0) -> None:
        super().__init__(in_channels)
        check_above_zero(penalty=penalty, scale=scale)
        self.penalty = penalty
        self.normalize = normalize
        self.scale = scale

    def forward(self, episode: Episode) -> Tensor:
        """Vectors of an episode -> scores (E, Q, W)."""
        with torch.autocast(episode.support.device.type, enabled=False):
            episode = widened(episode)
            support, query = episode.support, episode.query
            length = query.norm(dim=2, keepdim=True).clamp_min(1e-12) if self.normalize else 1.0
            weights, intercept = ridge(
                normalize(support, dim=2) if self.normalize else support, assignments(episode), self.penalty
            )
            return self.scale * (torch.bmm(query, weights) / length + intercept)
