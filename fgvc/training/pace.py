"""How long a training takes, from its first steps; how many epochs a person wants to wait for."""

import math
import statistics
import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from fgvc.training.outline import limited
from fgvc.training.trial import trial_trainer, undone

STEPS = 5
EVALUATED = 0.4
"""The time of an evaluation batch over that of a training step: no gradients, and its images are resized alone."""
PATIENCE = 600.0
"""Seconds that a first training may take where nobody says how long it lasts."""
FEWEST, MOST = 3, 20
"""Epochs: fewer learn too little of a new head, more help a small data set little."""
BATCH, LEAST_BATCH, LEAST_STEPS = 32, 8, 4


class Stopwatch(pl.Callback):
    """Keep the moments at which steps end."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Look at the clock."""
        self.moments.append(time.perf_counter())

    def seconds(self) -> float:
        """Return the median time from the end of one step to the end of the next; the first one warms up."""
        return statistics.median(after - before for before, after in zip(self.moments, self.moments[1:], strict=False))


def seconds_per_step(model: Any, datamodule: Any, settings: Mapping[str, Any]) -> float:
    """Train for a few steps and return what one takes; the model is left as it was.

    Args:
        model: a FineGrainedModule that was not trained yet.
        datamodule: its data.
        settings: of the trainer; accelerator and precision are taken from it. One process measures.
    """
    watch = Stopwatch()
    with undone(model):
        trial_trainer(settings, STEPS, [watch]).fit(model, datamodule=datamodule)
    return watch.seconds()


def seconds_per_epoch(step: float, datamodule: Any, settings: Mapping[str, Any]) -> float:
    """Return what an epoch with its validation takes.

    Args:
        step: seconds of a training step.
        datamodule: the data.
        settings: of the trainer; its limits are asked.
    """
    training = limited(len(datamodule.train_dataloader()), settings["limit_train_batches"])
    held_out = len(datamodule.val_dataloader()) if "val" in datamodule.splits else 0
    return step * (training + EVALUATED * limited(held_out, settings["limit_val_batches"]))


def epochs_for(seconds: float) -> int:
    """Return how many epochs of so many seconds to train: about ten minutes of them, 3 at least and 20 at most."""
    return max(FEWEST, min(MOST, int(PATIENCE / max(seconds, 1e-9))))


def batch_for(images: int) -> int:
    """Return how many images make a batch: 32, and so few of a small data set that an epoch has a few steps."""
    power = 1 << int(math.log2(max(2, images / LEAST_STEPS)))
    return max(2, min(BATCH, max(LEAST_BATCH, power), images))
