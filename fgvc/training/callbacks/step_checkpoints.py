"""Save a run in the middle of its epochs, at intervals and when a signal asks it to stop."""

import math
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, Checkpoint

from fgvc.errors import StoppedError, UsageError
from fgvc.files.lines import quoted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GO_ON, _SAVE = 0, 1  # a signal's number is larger


class SignalStop(Callback):
    """Stop in good order on Ctrl-C and SIGTERM: the step under way is finished first. A second signal stops at once.

    This one saves nothing, see `StepCheckpoint`.

    Args:
        minutes: the longest time between two saves.

    Raises:
        StoppedError: a signal came.
    """

    def __init__(self, minutes: float = math.inf) -> None:
        self.minutes = minutes
        self._signal = 0
        self._former: dict[int, Any] = {}
        self._saved_at, self._saved_step = time.monotonic(), 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals after Lightning, whose handlers save nothing and do not set the exit code."""
        self._signal, self._saved_at, self._saved_step = 0, time.monotonic(), trainer.global_step
        if threading.current_thread() is not threading.main_thread():  # only that one may: a notebook's may be another
            return
        self._former = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}

    def on_train_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Give the signals back to Lightning, which gives them back in turn (before it calls `teardown`)."""
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    def on_exception(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Give the signals back after an error, too."""
        self.on_train_end(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time to, or if a signal came."""
        steps_done = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not steps_done or batch_idx + 1 >= trainer.num_training_batches:
            return
        late = time.monotonic() - self._saved_at >= 60 * self.minutes
        if wanted := _agreed(trainer, self._signal or (_SAVE if late else _GO_ON)):
            self._save(trainer)
            self._stop(trainer, wanted)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Stop in the middle of a validation; the run goes on from the last checkpoint.

        Several processes go on to its end: they have different numbers of batches and cannot agree on one.
        """
        if trainer.world_size == 1:
            self._stop(trainer, self._signal)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of an epoch, after its validation."""
        self._save(trainer)
        self._stop(trainer, _agreed(trainer, self._signal))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._signal:
            raise StoppedError(f"stopped at once{self._advice()}", number)
        self._signal = number

    def _save(self, trainer: Trainer) -> None:
        """Save nothing."""

    def _stop(self, trainer: Trainer, wanted: int) -> None:
        if wanted > _SAVE:
            step = f" at epoch {trainer.current_epoch + 1}, step {trainer.global_step}"  # people count from 1
            raise StoppedError(f"{signal.Signals(wanted).name}: stopped{step}{self._advice()}", wanted)

    def _advice(self) -> str:
        return "; nothing is kept, since the run writes no checkpoints"


class StepCheckpoint(SignalStop, Checkpoint):
    """Write `last.ckpt` often and when a signal stops the run.

    The file is written at the end of every epoch, after a training step when `minutes` have passed since the last time,
    and when a signal comes: the step under way is finished first. A second signal stops at once.

    A checkpoint of the middle of an epoch is taken only between optimizer steps (accumulated gradients are not saved)
    and never after the last batch of an epoch, where Lightning would leave out the validation on resuming.

    Args:
        path: the file.
        minutes: the longest time that a kill may cost.

    Raises:
        UsageError: a negative time.
        StoppedError: a signal came; the run is saved.
    """

    def __init__(self, path: Path, minutes: float = 5.0) -> None:
        if not minutes >= 0:  # NaN too
            raise UsageError(f"save_every_minutes: {minutes}; it must be at least 0 (0 saves after every step)")
        super().__init__(minutes)
        self.path = path

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def _advice(self) -> str:
        if not self.path.is_file():
            return "; nothing was saved yet"
        return f"; fgvc fit --resume {quoted(self.path.parent.parent)} goes on after step {self._saved_step}"


def _agreed(trainer: Trainer, wanted: int) -> int:
    """Return what the most urgent process wants: all of them must save and stop after the same step."""
    if trainer.world_size == 1:
        return wanted
    most = trainer.strategy.reduce(torch.tensor(wanted, device=trainer.strategy.root_device), reduce_op="max")
    return int(most)
