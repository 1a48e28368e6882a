"""A few training steps that are undone afterwards, to see how a training would go."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl


def trial_trainer(settings: Mapping[str, Any], steps: int, callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
    """Return a trainer of one process that writes, validates and shows nothing.

    Args:
        settings: of the run's trainer; accelerator and precision are taken from it.
        steps: how many it trains.
        callbacks: what watches them.
    """
    return pl.Trainer(
        accelerator=settings["accelerator"],
        devices=1,
        precision=settings["precision"],
        max_steps=steps,
        max_epochs=-1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )


@contextmanager
def undone(model: pl.LightningModule) -> Iterator[None]:
    """Give a model the weights and buffers back that it had, and no gradients, whatever was trained in between."""
    weights = copy.deepcopy(model.state_dict())
    try:
        yield
    finally:
        model.load_state_dict(weights)
        model.zero_grad(set_to_none=True)
