"""The processes that train: their number, before the trainer is built, and what they know together."""

import os
from collections.abc import Mapping
from typing import Any, TypeVar

import torch

Known = TypeVar("Known")


def is_first() -> bool:
    """Say whether this process is the one that writes files."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0 and int(os.environ.get("NODE_RANK", 0)) == 0


def are_several(trainer: Mapping[str, Any]) -> bool:
    """Say whether a trainer's settings ask for plain distributed training.

    Args:
        trainer: `strategy` and `devices` as they were typed.
    """
    devices, strategy = trainer.get("devices"), trainer.get("strategy")
    if strategy == "auto":
        return torch.cuda.device_count() > 1 if devices == "auto" else devices not in (1, "1")
    return bool(strategy == "ddp")


def gathered(value: Known) -> list[Known]:
    """Return the value of each process, in the order of their ranks; every process must ask."""
    if not torch.distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values
