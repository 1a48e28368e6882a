"""The progress bars and the summary of a run, on stderr: stdout belongs to data."""

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm, TQDMProgressBar

from fgvc.files.lines import tell

SHARES = ("top", "mean_per_class", "macro_", "box", "full_path", "weighted_ap", "inconsistency", "h_", "ece")
"""How the names of numbers begin that are told in percent."""
TREE = ("full_path", "weighted_ap", "inconsistency", "severity", "hd@", "h_")
"""How the names of numbers begin that belong to all levels together."""


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

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End the line of the bar, so that the error begins on its own line."""
        bars = (self._train_progress_bar, self._val_progress_bar, self._test_progress_bar)
        if any(bar is not None for bar in bars):  # a bar itself may have no truth
            tell()

    def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
        """Return the numbers behind the bar, without the version number."""
        shown = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        return shown


def print_summary(title: str, values: Mapping[str, float], prefix: str) -> None:
    """Print the numbers whose names begin with `prefix`: accuracies and shares in percent, the rest as they are.

    Only `top1` and `hd@1` of a view or another way to answer (`test/scale1/species/top1`) are printed.
    """
    tell(f"\n{title}")
    for name, value in values.items():
        if name.startswith(prefix) and not _is_detail(name.removeprefix(prefix)):
            kind = name.rpartition("/")[2]
            shown = f"{100 * value:.2f} %" if kind.startswith(SHARES) else f"{value:.4f}"
            tell(f"  {name:<40} {shown:>9}")


def _is_detail(name: str) -> bool:
    head, _, kind = name.rpartition("/")
    of_tree = kind.startswith(TREE)
    return kind not in ("top1", "hd@1") and head.count("/") + of_tree > 0 and bool(head)
