"""Boxes of parts: from points, relative to the object, and how likely they are there.

Shape letters: N images, R training photographs, P body parts, M windows, G Gaussians.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fgvc.images.regions import box_iou, fitted
from fgvc.methods.clusters import kmeans_owners

WIDEST = 1e-3
"""Added to the variances of a Gaussian: a part that was annotated at one place only may still lie beside it."""


def box_around(points: Tensor, margin: float = 0.0, side_min: float = 0.0) -> Tensor:
    """Return (..., 4) xyxy inside 0..1: the smallest box around the points (..., P, 2) that are known; NaN for none.

    margin, side_min: see `regions.fitted`.
    """
    known = ~points.isnan().any(dim=-1, keepdim=True)
    low = points.masked_fill(~known, torch.inf).amin(dim=-2)
    high = points.masked_fill(~known, -torch.inf).amax(dim=-2)
    boxes = fitted(torch.cat((low, high), dim=-1).nan_to_num(0, 0, 0), side_min, margin=margin)
    return boxes.masked_fill(~known.any(dim=-2), torch.nan)


def layouts(parts: Tensor, objects: Tensor) -> Tensor:
    """Return (..., 4): centre x, y of a part's box in its object's box, and the logarithms of its sides over those.

    parts, objects: (..., 4) xyxy.
    """
    sides = (objects[..., 2:] - objects[..., :2]).clamp_min(1e-6)
    centres = ((parts[..., :2] + parts[..., 2:]) / 2 - objects[..., :2]) / sides
    return torch.cat((centres, ((parts[..., 2:] - parts[..., :2]).clamp_min(1e-6) / sides).log()), dim=-1)


def placed(layout: Tensor, objects: Tensor) -> Tensor:
    """Return (..., 4) xyxy: the boxes that have the layouts (..., 4) in the objects (..., 4); see `layouts`."""
    sides = objects[..., 2:] - objects[..., :2]
    centres, half = objects[..., :2] + layout[..., :2] * sides, layout[..., 2:].exp() * sides / 2
    return torch.cat((centres - half, centres + half), dim=-1)


def inside_object(windows: Tensor, objects: Tensor, slack: float) -> Tensor:
    """Return (...) bool: whether windows (..., 4) leave their object (..., 4) by no more than a share of its sides."""
    room = slack * (objects[..., 2:] - objects[..., :2])
    return ((windows[..., :2] >= objects[..., :2] - room) & (windows[..., 2:] <= objects[..., 2:] + room)).all(dim=-1)


class LayoutPrior(nn.Module):
    """How likely a part's layout is: a mixture of Gaussians, one for each of G clusters of the training photographs.

    Ning Zhang, Jeff Donahue, Ross Girshick, Trevor Darrell, "Part-based R-CNNs for Fine-grained Category Detection",
    ECCV 2014, delta^MG. Also keeps M of the layouts, which stand in for the proposals of a selective search.

    Args:
        gaussians: G.
        windows: M.
    """

    def __init__(self, gaussians: int = 4, windows: int = 64) -> None:
        super().__init__()
        self.register_buffer("log_weights", torch.zeros(gaussians))
        self.register_buffer("means", torch.zeros(gaussians, 4))
        self.register_buffer("factors", torch.eye(4).repeat(gaussians, 1, 1))
        self.register_buffer("samples", torch.zeros(windows, 4))
        self.log_weights: Tensor
        self.means: Tensor
        self.factors: Tensor
        self.samples: Tensor

    @torch.no_grad()
    def fit(self, seen: Tensor) -> None:
        """Take the layouts (R, 4) of the training photographs; none leaves everything as it is."""
        if not len(seen):
            return
        rows = seen.double().cpu().numpy()
        weights, means, covariances = clustered(rows, len(self.means))
        device = self.means.device
        self.log_weights.copy_(torch.from_numpy(weights).to(device).log())
        self.means.copy_(torch.from_numpy(means).to(device))
        self.factors.copy_(torch.linalg.cholesky(torch.from_numpy(covariances)).to(device))
        drawn = np.random.default_rng(0).choice(len(rows), len(self.samples), replace=len(rows) < len(self.samples))
        self.samples.copy_(torch.from_numpy(rows[drawn]).to(device))

    def log_density(self, layout: Tensor) -> Tensor:
        """Return (...) the logarithm of the density of layouts (..., 4)."""
        gaps = (layout[..., None, :] - self.means)[..., None]  # (..., G, 4, 1)
        reduced = torch.linalg.solve_triangular(self.factors, gaps, upper=False)[..., 0]
        logs = self.factors.diagonal(dim1=1, dim2=2).log().sum(dim=1) + 2 * math.log(2 * math.pi)
        density: Tensor = (self.log_weights - logs - reduced.square().sum(dim=-1) / 2).logsumexp(dim=-1)
        return density


def clustered(
    rows: npt.NDArray[np.float64], number: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return weights (G,), means (G, 4) and covariances (G, 4, 4) of clusters of rows (R, 4) by k-means.

    A cluster without rows weighs next to nothing.
    """
    owner = kmeans_owners(rows / (rows.std(axis=0) + 1e-9), number)
    weights, means = np.full(number, 1e-12), np.zeros((number, 4))
    covariances = np.tile(np.eye(4), (number, 1, 1))
    for cluster in np.unique(owner).tolist():
        own = rows[owner == cluster]
        gaps = own - own.mean(axis=0)
        weights[cluster], means[cluster] = len(own) / len(rows), own.mean(axis=0)
        covariances[cluster] = gaps.T @ gaps / len(own) + WIDEST * np.eye(4)
    return weights / weights.sum(), means, covariances


def best_windows(detected: Tensor, prior: Tensor, allowed: Tensor, strength: float) -> Tensor:
    """Return (N,): which of M windows has the highest log d + strength * log delta among those that are allowed.

    Where none is allowed, all are. Zhang and others, equation 2, of one part: the parts are independent given the
    object's box.

    Args:
        detected: (N, M) log d, the logarithm of the detector's probability.
        prior: (N, M) log delta.
        allowed: (N, M) bool.
        strength: alpha.
    """
    scores = detected + strength * prior
    closed = ~allowed & allowed.any(dim=1, keepdim=True)
    return scores.masked_fill(closed, -torch.inf).argmax(dim=1)


def window_labels(windows: Tensor, known: Tensor, high: float = 0.5, low: float = 0.3) -> Tensor:
    """Return (N, M): 1 where windows (N, M, 4) overlap the part's box (N, 4) by at least `high`, 0 where by less than
    `low`, NaN in between and where the box is NaN.
    """
    overlap = box_iou(windows, known[:, None])
    labels = torch.where(overlap >= high, 1.0, torch.where(overlap < low, 0.0, torch.nan))
    return labels.masked_fill(known.isnan().any(dim=1)[:, None], torch.nan)
