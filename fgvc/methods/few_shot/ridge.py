"""Ridge regression on one-hot targets, in closed form.

Shape letters: E episodes, W ways, S support images, Q query images, D numbers of a vector.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.methods.few_shot.base import Episode, FewShotClassifier, assignments, check_above_zero, widened
from fgvc.methods.products import ByProducts, Products


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
    dual = solve_dual(torch.bmm(wide, wide.transpose(1, 2)), targets - prior, penalty)
    weights = torch.bmm(wide.transpose(1, 2), dual).to(support.dtype)
    return weights, prior - torch.bmm(middle, weights)


def solve_dual(products: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """Return (E, S, W): (products + penalty)^-1 targets, for products (E, S, S) and targets (E, S, W), both centred."""
    system = products + penalty * torch.eye(products.shape[1], dtype=products.dtype, device=products.device)
    solution: Tensor = torch.linalg.solve(system, targets.to(system.dtype))
    return solution


class RidgeClassifier(FewShotClassifier, ByProducts):
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

    def embed(self, features: Tensor) -> Tensor:
        """Features (N, D) -> vectors about their mean, which the intercept takes up."""
        features = normalize(features, dim=1) if self.normalize else features
        return features - features.mean(dim=0)

    def score_products(self, products: Products) -> Tensor:
        """Products -> scores (E, Q, W)."""
        among = products.among if products.among.device.type == "mps" else products.among.double()
        across = products.across.to(among.dtype)
        to_middle = among.mean(dim=1, keepdim=True)  # of each support image with the mean of all
        centred = among - to_middle - to_middle.transpose(1, 2) + to_middle.mean(dim=2, keepdim=True)
        prior = products.ones.mean(dim=1, keepdim=True)
        dual = solve_dual(centred, products.ones - prior, self.penalty)
        # The columns of the dual sum to 0, so what all support images share of a query's products falls out.
        scores = torch.bmm(across - to_middle, dual) + prior
        return self.scale * scores.to(products.across.dtype)
