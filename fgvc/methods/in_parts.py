"""Many episodes answered a few at a time, so that memory does not grow with their number."""

from collections.abc import Callable

import torch
from torch import Tensor

BUDGET = 2**25  # numbers held at once, 128 MiB of float32


def in_parts(answer: Callable[..., Tensor], numbers: int, *tensors: Tensor) -> Tensor:
    """Return `answer(*tensors)`, computed on as many episodes at once as fit the budget, at least one.

    Args:
        answer: maps tensors that start with E, the episodes, to one that does; each episode's answer is its own.
        numbers: how many numbers the answer to one episode holds at its peak.
        tensors: each (E, ...).
    """
    at_once = max(1, BUDGET // max(1, numbers))
    parts = zip(*(torch.split(tensor, at_once) for tensor in tensors), strict=True)
    return torch.cat([answer(*part) for part in parts])
