"""Similarity transforms: moved, turned and scaled, never mirrored; fitted to points, and pictures warped by them.

Runs in float32 with autocast off. Shape letters: N images, P points, C channels, H, W sides of an image, s side wanted.
"""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from fgvc.images.regions import downscale

FINEST = 1.5
"""Pixels of the image per pixel of a crop above which a smaller copy of the image is read."""


VAGUE = 0.1
"""Share of the least length of a below which the points say nothing of the turn: they all but coincide."""


def fitted_similarity(
    sources: Tensor, targets: Tensor, weights: Tensor, shortest: float = 0.0, longest: float = torch.inf
) -> tuple[Tensor, Tensor]:
    """Return a (..., 2) and b (..., 2), complex numbers: the least squares of w |a z + b - t|^2 over the points.

    As complex numbers, z -> a z + b turns and scales by a, then moves by b; the solution is closed: a is the covariance
    of z and t over the variance of z. Where fewer than two points differ, a is 1: the points are moved alone. Where a
    is far below its least length, its direction is chance and is not followed.

    Args:
        sources: z, (..., P, 2) xy.
        targets: t, (..., P, 2) xy.
        weights: w, (..., P), not negative; points of weight 0 may be NaN.
        shortest, longest: bounds of the length of a, how much is enlarged.
    """
    shares = weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    known = (shares > 0)[..., None]
    z, t = sources.masked_fill(~known, 0), targets.masked_fill(~known, 0)
    middle_z, middle_t = ((shares[..., None] * x).sum(dim=-2, keepdim=True) for x in (z, t))
    z, t = z - middle_z, t - middle_t
    across = (shares * (z * t).sum(dim=-1)).sum(dim=-1)
    turned = (shares * (z[..., 0] * t[..., 1] - z[..., 1] * t[..., 0])).sum(dim=-1)
    spread = (shares * z.square().sum(dim=-1)).sum(dim=-1)
    a = torch.stack((across, turned), dim=-1) / spread.clamp_min(1e-12)[..., None]
    a = torch.where((spread > 1e-9)[..., None], a, a.new_tensor([1.0, 0.0]))
    a = torch.where(a.norm(dim=-1, keepdim=True) < VAGUE * shortest, a.new_tensor([shortest, 0.0]), a)
    length = a.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    a = a * length.clamp(max(shortest, 1e-12), longest) / length
    return a, middle_t[..., 0, :] - times(a, middle_z[..., 0, :])


def times(a: Tensor, b: Tensor) -> Tensor:
    """Return (..., 2): the product of complex numbers (..., 2)."""
    return torch.stack(
        (a[..., 0] * b[..., 0] - a[..., 1] * b[..., 1], a[..., 0] * b[..., 1] + a[..., 1] * b[..., 0]), -1
    )


def misfit(sources: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return (...): the weighted mean square of what the best similarity transform leaves; infinite without two points.

    Args: see `fitted_similarity`.
    """
    a, b = fitted_similarity(sources, targets, weights)
    gaps = (times(a[..., None, :], sources) + b[..., None, :] - targets).square().sum(dim=-1)
    kept = gaps.masked_fill(weights <= 0, 0.0) * weights
    enough = (weights > 0).sum(dim=-1) >= 2
    return torch.where(enough, kept.sum(dim=-1) / weights.sum(dim=-1).clamp_min(1e-12), torch.inf)


def warped(images: Tensor, a: Tensor, b: Tensor, size: int) -> Tensor:
    """Return (N, K, C, s, s) float32: crops whose pixel at the fraction u shows the image at the fraction a u + b.

    Outside the image its edge goes on. A crop that shows many more pixels than it has is read from a smaller copy of
    the image, so that it is not aliased.

    Args:
        images: (N, C, H, W) uint8 or float; square, as fractions are turned.
        a, b: (N, K, 2).
        size: s.
    """
    number, channels, height, _ = images.shape
    count = a.shape[1]
    with torch.autocast(images.device.type, enabled=False):
        steps = (torch.arange(size, device=images.device, dtype=torch.float32) + 0.5) / size
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        places = times(a.float()[:, :, None, None], torch.stack((x, y), dim=-1)) + b.float()[:, :, None, None]
        grid = (2 * places - 1).flatten(1, 2)  # (N, K s, s, 2)
        cut = grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
        cut = cut.view(number, channels, count, size, size).transpose(1, 2)
        if height > size:
            small = grid_sample(downscale(images, size), grid, padding_mode="border", align_corners=False)
            coarse = a.float().norm(dim=-1) * height > FINEST * size
            small = small.view(number, channels, count, size, size).transpose(1, 2)
            cut = torch.where(coarse[..., None, None, None], small, cut)
        return cut.contiguous()


def frames_of(a: Tensor, b: Tensor) -> Tensor:
    """Return (..., 4) xyxy inside 0..1: the box around what a crop shows; see `warped`. a, b: (..., 2)."""
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], device=a.device)
    places = times(a[..., None, :], corners) + b[..., None, :]
    return torch.cat((places.amin(dim=-2), places.amax(dim=-2)), dim=-1).clamp(0, 1)
