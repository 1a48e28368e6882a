"""The exponential moving average of the weights as a Lightning callback."""

from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fgvc.errors import UsageError


def ema_decay(updates: int, decay_max: float) -> float:
    """Return the share of the old average that an update keeps: min(decay_max, (1 + n) / (10 + n)).

    A constant 0.999 would still hold 22 % of the starting weights after 1,500 steps; this forgets them at once.

    Args:
        updates: n, the number of updates made so far.
        decay_max: the limit that long runs reach.
    """
    return min(decay_max, (1 + updates) / (10 + updates))


def split_tensors(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters and buffers that may be averaged, and those that must be copied.

    Floating parameters are averaged, and running statistics because they belong to them. Every other buffer is a
    constant or a counter: averaging breaks an integer table and turns a mask of -inf into NaN.
    """
    statistics = {
        id(getattr(module, name, None)) for module in model.modules() for name in ("running_mean", "running_var")
    }
    averaged: list[Tensor] = []
    copied: list[Tensor] = []
    for tensor in chain(model.parameters(), model.buffers()):
        wanted = isinstance(tensor, nn.Parameter) or id(tensor) in statistics
        (averaged if wanted and tensor.is_floating_point() else copied).append(tensor.detach())
    return averaged, copied


class AveragedWeights(AveragedModel):
    """A copy of a model whose weights follow the model's own by an exponential moving average.

    Args:
        model: the model that is trained.
        decay: the largest decay, see `ema_decay`.
        device: where the copy lives.
    """

    def __init__(self, model: nn.Module, decay: float, device: torch.device) -> None:
        super().__init__(model, device=device)
        self.decay = decay
        # The count stays with the processor: reading it must not wait for the accelerator.
        self.n_averaged = self.n_averaged.cpu()

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take one step towards the model's weights; the first one copies them."""
        updates = int(self.n_averaged)
        if updates == 0:
            self.follow(model)
        else:
            averages, copies = split_tensors(self.module)
            weights, others = split_tensors(model)
            weights = [weight.to(average.device) for weight, average in zip(weights, averages, strict=True)]
            get_ema_multi_avg_fn(ema_decay(updates, self.decay))(averages, weights, updates)  # type: ignore[no-untyped-call]
            _copy(others, copies)
        self.n_averaged += 1

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Become a plain copy of the model."""
        _copy(chain(model.parameters(), model.buffers()), chain(self.module.parameters(), self.module.buffers()))


class EMA(WeightAveraging):
    """Validate and save the moving average of the weights instead of their last values.

    Source: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992; the rising decay is
    TensorFlow's.

    Before `start_epoch` the average is the model itself: Lightning would validate and save the untrained weights.

    Args:
        decay: the largest decay, in [0, 1).
        start_epoch: the first epoch (from 0) whose steps are averaged; with phases the first one of the last phase.

    Raises:
        UsageError: a decay outside [0, 1) or a negative epoch.
    """

    def __init__(self, decay: float = 0.999, start_epoch: int = 0) -> None:
        if not 0 <= decay < 1:
            raise UsageError(f"ema.decay: {decay}; it must be at least 0 and below 1 (usual: 0.999)")
        if start_epoch < 0:
            raise UsageError(f"ema.start_epoch: {start_epoch}; epochs are counted from 0")
        super().__init__()
        self.decay = decay
        self.start_epoch = start_epoch

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the average when a fit begins, on the device that will train: the model itself moves there later."""
        if stage == "fit":
            self._average_model = AveragedWeights(pl_module, self.decay, trainer.strategy.root_device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update after every optimizer step, from `start_epoch` on."""
        if trainer.current_epoch >= self.start_epoch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in the model's place."""
        self._follow_until_started(pl_module)
        super().on_validation_epoch_start(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the model."""
        self._follow_until_started(pl_module)
        super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as `state_dict` and the model's own weights, for a resume, as `current_model_state`."""
        if self._average_model is not None:
            self._follow_until_started(pl_module)
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore both sets of weights when a fit resumes; a test or a prediction needs `state_dict` only."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def _follow_until_started(self, pl_module: LightningModule) -> None:
        average = self._average_model
        if isinstance(average, AveragedWeights) and int(average.n_averaged) == 0:
            average.follow(pl_module)


def _copy(sources: Iterable[Tensor], targets: Iterable[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)
