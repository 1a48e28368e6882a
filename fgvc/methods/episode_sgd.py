"""Plain SGD on the weights of many small linear classifiers at once, in the span of their images.

Every step adds to a weight a multiple of itself and of the images in the batch. So a weight stays a sum of where it
started and of the support images, and it is enough to keep the coefficients: S + W numbers, where a vector has D.
Nothing is approximated; products of vectors come from their Gram matrix.

Shape letters: E episodes, W ways, S support images, D numbers of a vector.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Schedule(NamedTuple):
    """Of Wei-Yu Chen and others, "A Closer Look at Few-shot Classification", ICLR 2019.

    learning_rate, momentum, dampening, weight_decay: as in `torch.optim.SGD`.
    epochs: passes through the support set.
    batch_size: images of a step; the last of an epoch takes what is left.
    """

    learning_rate: float = 0.01
    momentum: float = 0.9
    dampening: float = 0.9
    weight_decay: float = 0.001
    epochs: int = 100
    batch_size: int = 4


def first_weights(n_way: int, in_channels: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return weights (W, D) and biases (W,) as `nn.Linear` starts with them: uniform within 1 / sqrt(D)."""
    bound = 1 / math.sqrt(in_channels)
    numbers = torch.Generator().manual_seed(seed)
    weights = torch.empty(n_way, in_channels).uniform_(-bound, bound, generator=numbers)
    return weights, torch.empty(n_way).uniform_(-bound, bound, generator=numbers)


def batch_order(images: int, schedule: Schedule, seed: int) -> Iterator[Tensor]:
    """Iterate over the positions of every batch, epoch by epoch, each epoch in a new order."""
    numbers = torch.Generator().manual_seed(seed)
    for _ in range(schedule.epochs):
        order = torch.randperm(images, generator=numbers)
        yield from torch.split(order, schedule.batch_size)


def descend(
    start: tuple[Tensor, ...],
    gradient: Callable[..., tuple[Tensor, ...]],
    batches: Iterator[Tensor],
    schedule: Schedule,
) -> tuple[Tensor, ...]:
    """Return the parameters after a step for each batch, by the rule of `torch.optim.SGD`.

    Args:
        start: parameters of any shapes, or the coefficients that stand for them.
        gradient: (batch, *parameters) -> the gradient of each in the same coefficients, without weight decay.
        batches: positions of images.
        schedule: rates.
    """
    parameters, momenta = start, tuple(torch.zeros_like(one) for one in start)
    fresh = 1.0  # the first gradient is the first momentum, undampened
    for batch in batches:
        found = gradient(batch, *parameters)
        pairs = zip(found, parameters, strict=True)
        gradients = [new + schedule.weight_decay * old for new, old in pairs]
        pairs = zip(momenta, gradients, strict=True)
        momenta = tuple(schedule.momentum * old + fresh * new for old, new in pairs)
        fresh = 1 - schedule.dampening
        pairs = zip(parameters, momenta, strict=True)
        parameters = tuple(old - schedule.learning_rate * step for old, step in pairs)
    return parameters


def gram(support: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Return the products of support images and first weights, and the coefficients of the first weights.

    Args:
        support: (E, S, D).
        start: (W, D).

    Returns:
        (E, S + W, S + W) in float64 where the device has it, and (E, S + W, W): the identity below zeros.
    """
    spanning = torch.cat([support, start.to(support).expand(len(support), -1, -1)], dim=1)
    products = torch.bmm(spanning, spanning.transpose(1, 2))
    products = products if products.device.type == "mps" else products.double()
    own = torch.eye(len(start), dtype=products.dtype, device=products.device)
    zeros = own.new_zeros(support.shape[1], len(start))
    return products, torch.cat([zeros, own]).repeat(len(support), 1, 1)


def score_gradient(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of the mean cross-entropy of a batch by its scores, both (E, B, W)."""
    return (scores.softmax(dim=2) - targets) / scores.shape[1]


def in_span(coefficients: Tensor, support: Tensor, start: Tensor) -> Tensor:
    """Return the weights (E, W, D) that coefficients (E, S + W, W) stand for."""
    own, images = coefficients.to(support.dtype).transpose(1, 2), support.shape[1]
    return torch.bmm(own[:, :, :images], support) + torch.matmul(own[:, :, images:], start.to(support))
