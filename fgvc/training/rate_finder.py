"""A learning rate from a short sweep: rates rise step by step until the loss does.

Source: L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", 2017.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl

from fgvc.errors import UsageError
from fgvc.files.lines import tell
from fgvc.training.trial import trial_trainer, undone

LOWEST, HIGHEST = 1e-6, 1.0
STEPS = 100
SMOOTHING = 0.9  # share of the mean loss that a step keeps
DIVERGED = 4.0  # times the least mean loss
SKIPPED = 10  # steps at both ends that say nothing: the mean is young, or the loss is on its way up


class RateSweep(pl.Callback):
    """Train each step at a higher rate than the one before, and keep the losses.

    rates, losses: of the steps that were trained; the losses are running means without the bias of their beginning.
    """

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._mean = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Choose the rate of the step."""
        share = trainer.global_step / (STEPS - 1)
        pl_module.rates.fixed = LOWEST * (HIGHEST / LOWEST) ** share
        self.rates.append(pl_module.rates.fixed)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the loss; stop where it is no number or far above the least one."""
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * float(outputs["loss"])
        self.losses.append(self._mean / (1 - SMOOTHING ** len(self.rates)))
        if not math.isfinite(self.losses[-1]) or self.losses[-1] > DIVERGED * min(self.losses):
            trainer.should_stop = True


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the rate at which the loss falls fastest over the logarithm of the rate; None where it never falls.

    Args:
        rates: rising.
        losses: one per rate.
    """
    number = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    inner = slice(SKIPPED, number - SKIPPED)
    if len(range(number)[inner]) < 3:
        return None
    slopes = np.gradient(np.asarray(losses[:number])[inner], np.log(np.asarray(rates[:number])[inner]))
    return float(rates[:number][inner][int(slopes.argmin())]) if slopes.min() < 0 else None


def find_rate(model: Any, datamodule: Any, settings: Mapping[str, Any]) -> float:
    """Return the learning rate that a sweep of 100 steps suggests; the model is left as it was.

    Args:
        model: a FineGrainedModule that was not trained yet.
        datamodule: its data.
        settings: of the trainer; accelerator and precision are taken from it. One process sweeps.

    Raises:
        UsageError: the loss fell at no rate.
    """
    sweep = RateSweep()
    tell(f"sweep of the learning rate, at most {STEPS} steps")
    with undone(model):
        trial_trainer(settings, STEPS, [sweep]).fit(model, datamodule=datamodule)
    model.rates.fixed = None
    rate = steepest(sweep.rates, sweep.losses)
    if rate is None:
        raise UsageError("--find_lr: the loss fell at no learning rate; look at the data, or give --model.lr")
    return float(f"{rate:.2g}")
