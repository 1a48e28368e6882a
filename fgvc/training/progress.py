"""Lightning's progress bar, on stderr: stdout belongs to data."""

import sys
from contextlib import redirect_stdout
from typing import Any

from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm, TQDMProgressBar


class StderrProgressBar(TQDMProgressBar):
    """One bar per epoch and one per evaluation.

    Lightning names sys.stdout when it makes a bar, hence the redirection.
    """

    def init_train_tqdm(self) -> Tqdm:
        """Return the bar of a training epoch."""
        with redirect_stdout(sys.stderr):
            return super().init_train_tqdm()

    def init_validation_tqdm(self) -> Tqdm:
        """Return the bar of a validation epoch."""
        with redirect_stdout(sys.stderr):
            return super().init_validation_tqdm()

    def init_sanity_tqdm(self) -> Tqdm:
        """Return the bar of the check before training."""
        with redirect_stdout(sys.stderr):
            return super().init_sanity_tqdm()

    def init_test_tqdm(self) -> Tqdm:
        """Return the bar of a test."""
        with redirect_stdout(sys.stderr):
            return super().init_test_tqdm()

    def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
        """Return what stands behind the bar: no version number."""
        shown = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        return shown
