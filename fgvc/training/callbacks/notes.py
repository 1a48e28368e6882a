"""What a person should know before a training is waited for."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl

from fgvc.files.lines import printable, tell
from fgvc.training.outline import outline


class Notes(pl.Callback):
    """Print notes when the training begins: whatever was refused before that stands alone.

    Args:
        notes: one line each.
    """

    def __init__(self, notes: Sequence[str]) -> None:
        self.notes = notes

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Print them once."""
        for note in self.notes if trainer.is_global_zero else ():
            tell(printable(f"note: {note}"))


class Outline(pl.Callback):
    """Print what will be trained on what when the training begins, see `outline`.

    Args:
        datamodule: a FineGrainedData.
    """

    def __init__(self, datamodule: Any) -> None:
        self.datamodule = datamodule

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Print it once."""
        if trainer.is_global_zero:
            tell("\n".join(outline(self.datamodule, pl_module, trainer)))
