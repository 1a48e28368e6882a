"""Stop a run whose callbacks watch a number that nobody logs, as soon as that is known."""

from typing import Any

import pytorch_lightning as pl

from fgvc.errors import UsageError, did_you_mean

BUILT_IN = ("epoch", "step")
"""What a ModelCheckpoint may watch besides."""


class KnownMetrics(pl.Callback):
    """Check what EarlyStopping, ModelCheckpoint and the like watch.

    Which numbers a validation logs is known after the check before the training (`num_sanity_val_steps`), those of the
    training after its first epoch. A callback of somebody's own may log at any time: then all is checked after the
    first epoch. It stands before all that watch: Lightning calls them in their order.

    Raises:
        UsageError: a number that is not logged; with those that are.
    """

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Check after the validation, of a few batches or whole."""
        if all(type(one).__module__.startswith(("pytorch_lightning.", "fgvc.")) for one in _callbacks(trainer)):
            self._check(trainer, "val")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Check after an epoch, when everything has been logged once."""
        self._check(trainer, "train")

    def _check(self, trainer: pl.Trainer, after: str) -> None:
        known = {*trainer.callback_metrics, *BUILT_IN}
        validated = not trainer.enable_validation or any(name.startswith("val/") for name in known)
        for one in _callbacks(trainer):
            monitor = getattr(one, "monitor", None)
            if not isinstance(monitor, str) or monitor in known or not getattr(one, "strict", True):
                continue
            of_training = monitor.startswith("train")  # logged at the end of an epoch
            if of_training if after == "val" else not of_training and not validated:
                continue
            names = sorted(known.difference(BUILT_IN))
            told = [name for name in names if name.count("/") < 3 and "/own/" not in name]  # not of views and read-outs
            raise UsageError(
                f"trainer.callbacks: {type(one).__name__} watches {monitor!r}, which is not logged"
                f"{did_you_mean(monitor, names, limit=1)}; there are {', '.join(told)}"
            )


def _callbacks(trainer: pl.Trainer) -> list[Any]:
    every: Any = trainer.callbacks  # type: ignore[attr-defined]
    return list(every)
