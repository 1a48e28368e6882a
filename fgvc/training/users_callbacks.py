"""Callbacks that a user adds: those that work against the one schedule of a run are refused."""

from collections.abc import Iterable, Mapping
from typing import Any

from pytorch_lightning import callbacks as lightning

from fgvc.errors import UsageError

REFUSED: dict[type, str] = {
    lightning.LearningRateFinder: "the run sets its own rates; give --find_lr",
    lightning.StochasticWeightAveraging: "the run sets its own rates; give --ema 0.999 for averaged weights",
    lightning.BatchSizeFinder: "a batch belongs to the order of the images; give --find_batch_size true",
    lightning.WeightAveraging: "it averages counters and masks, too; give --ema 0.999 for averaged weights",
    lightning.OnExceptionCheckpoint: "a run saves itself when it stops; --resume goes on",
    lightning.GradientAccumulationScheduler: "all steps are of one kind; give --trainer.accumulate_grad_batches",
}
"""Class -> why it does not work here, and what does."""

BETTER_HIGH = ("top1", "top5", "mean_per_class", "full_path", "weighted_ap", "h_precision", "h_recall", "h_f1")
"""The last words of metrics of which more is better."""


def check(callbacks: Iterable[tuple[type, Mapping[str, Any]]]) -> None:
    """Check the callbacks of `trainer.callbacks` before any work.

    Args:
        callbacks: class and arguments of each.

    Raises:
        UsageError: one that changes rates or batches behind the run's back, or watches a metric in the wrong direction.
    """
    for callback, arguments in callbacks:
        for kind, why in REFUSED.items():
            if issubclass(callback, kind) and not callback.__module__.startswith("fgvc."):
                raise UsageError(f"trainer.callbacks: {callback.__name__} does not work here: {why}")
        monitor = str(arguments.get("monitor"))
        if monitor.rpartition("/")[2] in BETTER_HIGH and arguments.get("mode", "min") == "min":
            raise UsageError(
                f"trainer.callbacks: {callback.__name__} watches {monitor}, of which more is better; give mode: max"
            )
