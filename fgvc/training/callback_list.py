"""The loggers and callbacks of a run."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback, Checkpoint, EarlyStopping, ModelCheckpoint, ProgressBar
from pytorch_lightning.loggers import TensorBoardLogger

from fgvc.errors import UsageError
from fgvc.files import run_folder
from fgvc.training.callbacks.bad_images import BadImages
from fgvc.training.callbacks.crop_health import CropHealth
from fgvc.training.callbacks.ema import EMA
from fgvc.training.callbacks.finite_loss import FiniteLoss
from fgvc.training.callbacks.known_metrics import KnownMetrics
from fgvc.training.callbacks.phases import Phase, PhaseSchedule, last_phase_start
from fgvc.training.callbacks.progress import EpochLines, StderrProgressBar
from fgvc.training.callbacks.step_checkpoints import SignalStop, StepCheckpoint
from fgvc.training.metrics_file import RunCSVLogger


def loggers(folder: Path) -> list[Any]:
    """Return the loggers that write metrics.csv and TensorBoard's files into a run folder."""
    place: dict[str, Any] = {"save_dir": str(folder), "name": "", "version": ""}
    return [RunCSVLogger(**place), TensorBoardLogger(**place, sub_dir="tensorboard", default_hp_metric=False)]


def watching() -> list[Callback]:
    """Return the callbacks of every command: how far it is, for a terminal or a log, and the health of the crops."""
    return [StderrProgressBar(refresh_rate=1) if sys.stderr.isatty() else EpochLines(), CropHealth()]


def training(
    folder: Path,
    phases: Sequence[Phase] | None,
    cycle: bool,
    ema: float,
    monitor: str | None,
    minutes: float = 5.0,
    patience: int = 0,
) -> list[Callback]:
    """Return the callbacks that only a training has.

    Args:
        folder: of the run; checkpoints go into it.
        phases, cycle: see PhaseSchedule; no phases, no schedule.
        ema: largest decay of averaged weights, 0 for none.
        monitor: the number that chooses the best epoch, or None where nothing is held out.
        minutes: the longest time between two checkpoints of the whole training state.
        patience: epochs without a better `monitor` after which the run stops; 0 for none.

    Raises:
        UsageError: a patience below 0, or without a validation to watch.
    """
    callbacks: list[Callback] = [FiniteLoss(folder), BadImages(folder), KnownMetrics()]
    if phases:
        callbacks.append(PhaseSchedule(list(phases), cycle))
    if ema:
        callbacks.append(EMA(ema, start_epoch=last_phase_start(phases)))
    checkpoints = folder / run_folder.CHECKPOINTS
    if patience < 0 or (patience and not monitor):
        why = "it must be at least 0" if patience < 0 else "it watches the validation, and no image is held out"
        raise UsageError(f"early_stopping: {patience}; {why}")
    if patience and monitor:
        callbacks.append(EarlyStopping(monitor, mode="max", patience=patience, verbose=False))
    if monitor:
        place: dict[str, Any] = {"dirpath": checkpoints, "filename": "best", "enable_version_counter": False}
        callbacks.append(ModelCheckpoint(monitor=monitor, mode="max", **place))
    callbacks.append(StepCheckpoint(run_folder.last(folder), minutes))
    return callbacks


def arranged(theirs: Sequence[Callback], own: Sequence[Callback], settings: Mapping[str, Any]) -> list[Callback]:
    """Return the user's callbacks and those of the run that the user did not replace or switch off.

    Args:
        theirs: the user's; a progress bar among them replaces the run's.
        own: of the run.
        settings: of the trainer; `enable_progress_bar`, `enable_checkpointing` and `barebones` are asked.

    Raises:
        UsageError: a callback of the user's that needs what is switched off.
    """
    off = {key for key in ("enable_progress_bar", "enable_checkpointing") if settings[key] is False}
    off |= {"enable_progress_bar", "enable_checkpointing"} if settings["barebones"] else set()
    kinds = {"enable_progress_bar": ProgressBar, "enable_checkpointing": Checkpoint}
    for key, kind in kinds.items():
        if key in off and (one := next((one for one in theirs if isinstance(one, kind)), None)):
            said = "barebones: true" if settings["barebones"] else f"{key}: false"
            raise UsageError(f"trainer.{said} goes without {type(one).__name__}; leave it out of trainer.callbacks")
    if any(isinstance(one, ProgressBar) for one in theirs):
        off.add("enable_progress_bar")
    kept = [one for one in own if not any(isinstance(one, kinds[key]) for key in off)]
    if "enable_checkpointing" in off and any(isinstance(one, StepCheckpoint) for one in own):
        kept.append(SignalStop())
    first = [one for one in kept if isinstance(one, KnownMetrics)]
    every = [*theirs, *(one for one in kept if one not in first)]
    if settings["barebones"]:  # nothing is logged, so there is nothing to watch
        if watching := next((one for one in every if isinstance(one, EarlyStopping)), None):
            where = "trainer.callbacks: EarlyStopping" if watching in theirs else "early_stopping"
            raise UsageError(f"{where}: watches the validation, and trainer.barebones logs none; leave one of them out")
        return every
    place = next((i for i, one in enumerate(every) if getattr(one, "monitor", None)), len(every))
    return [*every[:place], *first, *every[place:]]


def best_of(trainer: Any) -> dict[str, float]:
    """Return the name and the value of the number that chose the best epoch; an empty dict where none did."""
    checkpoints: list[Any] = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    chosen = [c for c in checkpoints if c.monitor and c.best_model_score is not None]
    return {c.monitor: round(float(c.best_model_score), 6) for c in chosen}
