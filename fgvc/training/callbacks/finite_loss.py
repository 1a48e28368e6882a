"""Stop a run whose loss is not finite, and name the images of that batch."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from fgvc.errors import FgvcError
from fgvc.files import run_folder
from fgvc.files.lines import quoted

LISTED = 3
"""How many files the message names; the rest stand in the list."""


class FiniteLoss(Callback):
    """Check the loss of every training step.

    On an accelerator the check comes one step late, so that nothing waits for it. A checkpoint is never written before
    the check (`settle`).

    Args:
        folder: of the run; the files of the batch are listed there.

    Raises:
        FgvcError: the loss is infinite or no number.
    """

    LIST = "not_finite.txt"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._waiting: tuple[Tensor, Tensor, int, int] | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the step before; on the processor, this one too."""
        self.settle(trainer, pl_module)
        loss = outputs["loss"].detach()
        self._waiting = (torch.isfinite(loss), batch.index, trainer.current_epoch, trainer.global_step)
        if loss.device.type == "cpu":
            self.settle(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Check the last step first: spoilt weights must not replace good ones."""
        self.settle(trainer, pl_module)

    def settle(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise FgvcError if the loss of the step that waits for its check was not finite."""
        waiting, self._waiting = self._waiting, None
        if waiting is None or bool(waiting[0]):
            return
        _, index, epoch, step = waiting
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        records = datamodule.records("train")
        files = [records[int(i)].path for i in index]
        place = self.folder / self.LIST
        place.write_text("\n".join(files) + "\n", encoding="utf-8", errors="surrogateescape")
        more = f" and {len(files) - LISTED} more" if len(files) > LISTED else ""
        hparams: Any = pl_module.hparams
        saved = run_folder.last(self.folder).is_file()
        go_on = (
            f"fgvc fit --resume {quoted(self.folder)} goes on from the last checkpoint"
            if saved
            else "nothing was saved yet"
        )
        raise FgvcError(
            f"the loss is not finite at epoch {epoch + 1}, step {step}; the batch: {', '.join(files[:LISTED])}{more} "
            f"({place}); lower --model.lr (now {hparams.lr:g}), give --trainer.gradient_clip_val 1, or train in "
            f"--trainer.precision 32-true; {go_on}"
        )
