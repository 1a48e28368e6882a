"""Mixup and cutmix: training pictures made of two, and their loss; losses of images that weigh differently.

Shape letters: N images, C channels, H and W their sides.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fgvc.errors import UsageError

Terms = dict[str, Tensor]


class Mixed(NamedTuple):
    """A mixed batch; its loss is lam * loss(labels) + (1 - lam) * loss(labels[permutation]), see `mixed_terms`.

    images: (N, C, H, W).
    permutation: (N,) int64, the partner of each image.
    lam: the share of each image that is its own.
    """

    images: Tensor
    permutation: Tensor
    lam: float


def mix(
    images: Tensor, alpha_mixup: float = 0.0, alpha_cutmix: float = 0.0, generator: torch.Generator | None = None
) -> Mixed:
    """Mix each image of a batch with another one of it, by mixup or by cutmix.

    Where both alphas are above 0 one of the two is drawn with probability 1/2; where both are 0 nothing changes.

    Args:
        images: (N, C, H, W) uint8 or floating. Mixup returns floats in the same range, cutmix the same type.
        alpha_mixup: the share is drawn from Beta(alpha, alpha); 0 is off.
        alpha_cutmix: the same for cutmix.
        generator: the only source of randomness; torch's own where it is None.

    Raises:
        UsageError: an alpha below 0.
    """
    if min(alpha_mixup, alpha_cutmix) < 0:
        raise UsageError(f"mixup {alpha_mixup}, cutmix {alpha_cutmix}: an alpha must be 0 (off) or above")
    if alpha_mixup == 0 and alpha_cutmix == 0:
        return Mixed(images, torch.arange(len(images), device=images.device), 1.0)
    rng = _numpy_generator(generator)
    by_cutmix = rng.random() < 0.5 if alpha_mixup and alpha_cutmix else bool(alpha_cutmix)
    alpha = alpha_cutmix if by_cutmix else alpha_mixup
    lam = float(rng.beta(alpha, alpha))
    permutation = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    if by_cutmix:
        centre_y, centre_x = rng.random(2)
        box = cut_box(lam, (images.shape[2], images.shape[3]), (centre_y, centre_x))
        return Mixed(*cutmix(images, permutation, box))
    return Mixed(mixup(images, permutation, lam), permutation, lam)


def mixup(images: Tensor, permutation: Tensor, lam: float) -> Tensor:
    """Return lam * images + (1 - lam) * images[permutation], floating, (N, C, H, W).

    Source: Zhang, Cisse, Dauphin and Lopez-Paz, mixup: Beyond Empirical Risk Minimization, 2018.

    Args:
        images: (N, C, H, W) uint8 or floating.
        permutation: (N,) int64.
        lam: the share of the first picture.
    """
    own = images if images.is_floating_point() else images.float()
    return own.lerp(own[permutation], 1 - lam)


def cutmix(images: Tensor, permutation: Tensor, box: tuple[int, int, int, int]) -> Mixed:
    """Paste a box of each partner into each image; `lam` is the area that is left of the image itself.

    Source: Yun, Han, Oh, Chun, Choe and Yoo, CutMix: Regularization Strategy to Train Strong Classifiers with
    Localizable Features, 2019.

    Args:
        images: (N, C, H, W) of any type.
        permutation: (N,) int64.
        box: top, bottom, left, right in whole pixels, bottom and right outside.
    """
    top, bottom, left, right = box
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[permutation, :, top:bottom, left:right]
    pasted = (bottom - top) * (right - left) / (images.shape[2] * images.shape[3])
    return Mixed(mixed, permutation, 1 - pasted)


def cut_box(lam: float, size: tuple[int, int], centre: tuple[float, float]) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right of a box with the picture's proportions and 1 - lam of its area.

    The part beyond the edge is cut off, so the box may be smaller.

    Args:
        lam: the share that stays outside the box.
        size: H, W.
        centre: y, x as fractions of the picture.
    """
    side = (1 - lam) ** 0.5
    height, width = (int(length * side) for length in size)
    middle_y, middle_x = (int(length * at) for length, at in zip(size, centre, strict=True))
    top, left = middle_y - height // 2, middle_x - width // 2
    return max(top, 0), min(top + height, size[0]), max(left, 0), min(left + width, size[1])


def mixed_terms(
    owner: nn.Module, loss: Callable[[Tensor], Terms], labels: Tensor, mixed: Mixed, weights: Tensor | None = None
) -> Terms:
    """Return the terms of a mixed batch, of images that may weigh differently; see `shared_terms`.

    Args:
        owner, loss: see `shared_terms`.
        labels: (N,) int64 node ids.
        mixed: the batch.
        weights: (N,) above 0, what each image counts; None where all count the same.
    """
    parts = by_weight(labels, weights)
    if mixed.lam != 1:
        other = by_weight(labels[mixed.permutation], None if weights is None else weights[mixed.permutation])
        parts = [(some, mixed.lam * share) for some, share in parts]
        parts += [(some, (1 - mixed.lam) * share) for some, share in other]
    return shared_terms(owner, loss, parts)


def by_weight(labels: Tensor, weights: Tensor | None) -> list[tuple[Tensor, float]]:
    """Return for each different weight the labels (N,) of its images, -1 for the others, and the share of its loss.

    A loss is a mean over the images whose label is known. The weighted mean is then the sum of the means of each weight
    times its share: the weight times the number of its images over the sum of all weights. Where a term knows fewer
    images, as that of the species does of one known to the genus, its share is still that of the batch.

    Args:
        labels: (N,) int64 node ids, -1 unknown.
        weights: (N,) above 0, or None. Where all images with a label weigh the same, nothing is divided.
    """
    known = labels >= 0
    different = [] if weights is None else sorted(set(weights[known].tolist()), reverse=True)
    if weights is None or len(different) < 2:
        return [(labels, 1.0)]
    total = float(weights[known].sum(dtype=torch.float64))
    chosen = [known & (weights == weight) for weight in different]
    return [
        (torch.where(some, labels, -1), weight * int(some.sum()) / total)
        for weight, some in zip(different, chosen, strict=True)
    ]


def shared_terms(owner: nn.Module, loss: Callable[[Tensor], Terms], parts: Sequence[tuple[Tensor, float]]) -> Terms:
    """Return the terms of a batch that a loss sees with several sets of labels, each with its share.

    A loss may keep what it has seen, such as class centres or a running mean, and move it at each call. Here it is
    called several times for one batch. All calls find the buffers of `owner` as they were before, and each moves them
    by its share: the step of a buffer is the sum of share * (its step with these labels). A buffer of whole numbers,
    such as a count of batches, takes the step of the greatest share. No loss needs to know of this, as long as it keeps
    its state in buffers.

    Args:
        owner: the module that holds all buffers which the loss may move.
        loss: labels (N,) -> named terms ().
        parts: labels (N,) int64 node ids, and a share; the shares sum to 1. A single part is a plain call.
    """
    if len(parts) == 1:
        return loss(parts[0][0])
    calls = [(*_called(owner, loss, labels), share) for labels, share in parts]
    greatest = max(calls, key=lambda call: call[2])
    with torch.no_grad():
        for name, buffer in owner.named_buffers():
            if not any(name in moved for _, moved, _ in calls):  # not written to: a layer may need it for its gradient
                continue
            if buffer.is_floating_point():
                steps = [share * (moved.get(name, buffer) - buffer) for _, moved, share in calls]
                buffer.add_(reduce(add, steps))
            else:
                buffer.copy_(greatest[1].get(name, buffer))
    return {name: reduce(add, [share * terms[name] for terms, _, share in calls]) for name in calls[0][0]}


def _called(owner: nn.Module, loss: Callable[[Tensor], Terms], labels: Tensor) -> tuple[Terms, dict[str, Tensor]]:
    """Call a loss on copies of all buffers; return its terms, and by name the copies that it moved."""
    kept = dict(owner.named_buffers())
    copies = {name: buffer.clone() for name, buffer in kept.items()}
    unmoved = {name: copy._version for name, copy in copies.items()}
    try:
        _place(owner, copies)
        terms = loss(labels)
        after = dict(owner.named_buffers())
    finally:
        _place(owner, kept)
    # A loss writes into a buffer, which counts up its version, or puts another tensor into its place.
    return terms, {name: new for name, new in after.items() if new is not copies[name] or new._version != unmoved[name]}


def _place(owner: nn.Module, buffers: dict[str, Tensor]) -> None:
    for name, tensor in buffers.items():
        path, _, last = name.rpartition(".")
        setattr(owner.get_submodule(path), last, tensor)


def _numpy_generator(generator: torch.Generator | None) -> np.random.Generator:
    # torch has no public Beta draw that takes a generator, so one of its integers seeds numpy's.
    device = generator.device if generator is not None else "cpu"
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator, device=device)))
