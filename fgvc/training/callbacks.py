"""The loggers and callbacks of a run: what it shows, what it keeps, and how its stages follow one another."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from fgvc.training import run_folder
from fgvc.training.crop_health import CropHealth
from fgvc.training.ema import EMA
from fgvc.training.phases import Phase, PhaseSchedule, last_phase_start
from fgvc.training.progress import StderrProgressBar


def loggers(folder: Path) -> list[Any]:
    """Return the loggers that write metrics.csv and TensorBoard's files into a run folder."""
    place: dict[str, Any] = {"save_dir": str(folder), "name": "", "version": ""}
    return [CSVLogger(**place), TensorBoardLogger(**place, sub_dir="tensorboard", default_hp_metric=False)]


def watching() -> list[Callback]:
    """Return what every command wants: the progress bar, and a look at the crops."""
    return [StderrProgressBar(refresh_rate=1 if sys.stderr.isatty() else 50), CropHealth()]


def training(
    folder: Path, phases: Sequence[Phase] | None, cycle: bool, ema: float, monitor: str | None
) -> list[Callback]:
    """Return what training wants beside that.

    Args:
        folder: of the run; checkpoints go into it.
        phases, cycle: see PhaseSchedule; no phases, no schedule.
        ema: largest decay of averaged weights, 0 for none.
        monitor: the number that chooses the best epoch, or None where nothing is held out.
    """
    found: list[Callback] = []
    if phases:
        found.append(PhaseSchedule(list(phases), cycle))
    if ema:
        found.append(EMA(ema, start_epoch=last_phase_start(phases)))
    place: dict[str, Any] = {"dirpath": folder / run_folder.CHECKPOINTS, "enable_version_counter": False}
    found.append(ModelCheckpoint(filename="last", save_top_k=1, **place))
    if monitor:
        found.append(ModelCheckpoint(filename="best", monitor=monitor, mode="max", **place))
    return found


def best_of(trainer: Any) -> dict[str, float]:
    """Return the name and the value of what chose the best epoch; nothing where nothing did."""
    chosen = [c for c in trainer.checkpoint_callbacks if c.monitor and c.best_model_score is not None]
    return {c.monitor: round(float(c.best_model_score), 6) for c in chosen}
