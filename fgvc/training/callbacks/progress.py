"""How far a run is, on stderr: bars for a terminal, a line per epoch for a log. Its summary, a result, is on stdout."""

import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm, TQDMProgressBar

from fgvc.files.lines import print_lines, tell
from fgvc.training.plain_time import in_words

SHARES = ("top", "mean_per_class", "macro_", "box", "full_path", "weighted_ap", "inconsistency", "h_", "ece")
"""How the names of numbers begin that are told in percent."""
TREE = ("full_path", "weighted_ap", "inconsistency", "severity", "hd@", "h_")
"""How the names of numbers begin that belong to all levels together."""


class StderrProgressBar(TQDMProgressBar):
    """One bar per epoch and one per evaluation, with the loss of the last batch and the finest accuracy.

    Lightning names sys.stdout when it makes a bar, hence the redirection.
    """

    _outputs: Any = None
    """What the last training step returned."""

    def on_train_epoch_start(self, trainer: Any, *arguments: Any) -> None:
        """Begin the bar of an epoch; for a person the first one is number 1."""
        super().on_train_epoch_start(trainer, *arguments)
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the bar."""
        self._outputs = outputs
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

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
        shown: dict[str, Any] = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        if isinstance(self._outputs, Mapping) and "loss" in self._outputs:
            # Lightning has divided it by the number of batches that make one step
            shown["loss"] = f"{float(self._outputs['loss']) * trainer.accumulate_grad_batches:.3f}"
        return shown | _finest(trainer, pl_module)


class EpochLines(ProgressBar):
    """One line per epoch, for a log: no control characters, and nothing of evaluations, whose results follow."""

    _began = 0.0
    _validated = False
    _shown = True

    def disable(self) -> None:
        """Say nothing; Lightning asks this of every process but the first."""
        self._shown = False

    def enable(self) -> None:
        """Speak again."""
        self._shown = True

    def on_train_start(self, trainer: Any, *_: Any) -> None:
        """Start the clock of an epoch that is resumed in its middle: Lightning does not start it again."""
        self._began = time.perf_counter()

    def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
        """Start the clock."""
        self._began, self._validated = time.perf_counter(), False

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Note that the accuracy is that of this epoch."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Tell how the epoch went."""
        values = trainer.callback_metrics  # in every process: a number that is shared is computed by all of them
        if not self._shown:
            return
        of = f" of {trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        told = [f"loss {float(values['train/loss']):.4f}"] if "train/loss" in values else []
        told += [f"{name} {value}" for name, value in _finest(trainer, pl_module).items() if self._validated]
        told.append(in_words(time.perf_counter() - self._began))
        tell(f"epoch {trainer.current_epoch + 1}{of}: {', '.join(told)}")


def _finest(trainer: Any, pl_module: Any) -> dict[str, str]:
    """Return the number that chooses the best epoch, of the last validation; nothing where none was counted."""
    name = getattr(pl_module, "monitor", "")
    value = trainer.callback_metrics.get(name)
    return {} if value is None else {name: f"{100 * float(value):.2f} %"}


def print_summary(title: str, values: Mapping[str, float], prefix: str) -> None:
    """Print the numbers whose names begin with `prefix` on stdout: shares in percent, the rest as it is.

    Only `top1` and `hd@1` of a view or another way to answer (`test/scale1/species/top1`) are printed.
    """
    lines = [title]
    for name, value in values.items():
        if name.startswith(prefix) and not _is_detail(name.removeprefix(prefix)):
            kind = name.rpartition("/")[2]
            shown = f"{100 * value:.2f} %" if kind.startswith(SHARES) else f"{value:.4f}"
            lines.append(f"  {name:<40} {shown:>9}")
    print_lines(lines)


def _is_detail(name: str) -> bool:
    head, _, kind = name.rpartition("/")
    of_tree = kind.startswith(TREE)
    return kind not in ("top1", "hd@1") and head.count("/") + of_tree > 0 and bool(head)
