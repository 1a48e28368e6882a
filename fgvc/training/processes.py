"""How many processes train, as far as it can be told before the trainer stands."""

import os
from collections.abc import Mapping
from typing import Any

import torch


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
