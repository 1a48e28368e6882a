"""Staged recipes: which part trains, for how long, at what rate, on which images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytorch_lightning as pl

from fgvc.data.samplers import Balance
from fgvc.data.stages import Drawn
from fgvc.errors import UsageError


@dataclass(frozen=True)
class Phase:
    """One stage of a recipe.

    Attributes:
        name: what the recognizer is told to train; see `Recognizer.phases`.
        epochs: how long it lasts.
        lr: learning rate in place of the module's, or None.
        weight_decay: in place of the module's, or None.
        subsets: the stages of `data.stages` that are drawn, by name or as a number from the cleanest on; None for all.
        balance: in place of `data.balance`, or None.
        new_classifiers: whether the heads' classifiers are made anew as the phase begins, as for re-training them on
            balanced features (Bingyi Kang and others, "Decoupling Representation and Classifier for Long-Tailed
            Recognition", ICLR 2020).
        reweight: whether class weights act that a loss defers, see `ClassWeights`.
    """

    name: str
    epochs: int
    lr: float | None = None
    weight_decay: float | None = None
    subsets: list[str] | int | None = None
    balance: Balance | None = None
    new_classifiers: bool = False
    reweight: bool = False

    @property
    def drawn(self) -> Drawn:
        """What the phase says of the images that are drawn."""
        return Drawn(self.subsets, self.balance)


def phase_at(phases: Sequence[Phase], epoch: int, cycle: bool) -> Phase:
    """Return the phase of an epoch: a function of the epoch alone, so that resuming needs no state.

    After the last phase the list starts again (`cycle`), or the last phase goes on.
    """
    total = sum(phase.epochs for phase in phases)
    position = epoch % total if cycle else min(epoch, total - 1)
    for phase in phases:
        if position < phase.epochs:
            return phase
        position -= phase.epochs
    return phases[-1]


def begins_at(phases: Sequence[Phase], epoch: int, cycle: bool) -> bool:
    """Whether a phase begins with this epoch; the last phase, which goes on, begins once."""
    total = sum(phase.epochs for phase in phases)
    starts = {sum(phase.epochs for phase in phases[:i]) for i in range(len(phases))}
    return (epoch % total if cycle else epoch) in starts


def last_phase_start(phases: Sequence[Phase] | None) -> int:
    """Return the first epoch of the last phase; 0 where there are no phases."""
    return sum(phase.epochs for phase in (phases or [])[:-1])


def drawn_at(phases: Sequence[Phase], cycle: bool, epoch: int) -> Drawn:
    """Return what an epoch draws."""
    return phase_at(phases, epoch, cycle).drawn


def tell_data(datamodule: Any, phases: Sequence[Phase], cycle: bool) -> None:
    """Tell the data what every epoch will draw, where a phase says anything of it.

    An epoch has the same number of images in every phase, so that the steps of the training are known beforehand.

    Args:
        datamodule: a FineGrainedData, or None.
        phases, cycle: see `PhaseSchedule`.

    Raises:
        UsageError: a phase that the data cannot follow.
    """
    if all(phase.drawn == Drawn() for phase in phases):
        return
    for phase in phases:
        try:
            if datamodule is None and phase.drawn != Drawn():
                raise UsageError("subsets and balance need data.* of a config")
            if datamodule is not None:
                datamodule.check_drawn(phase.drawn)
        except UsageError as error:
            raise UsageError(f"phases: {phase.name}: {error}") from None
    datamodule.follow(partial(drawn_at, phases, cycle))


class PhaseSchedule(pl.Callback):
    """Enter the phase of each training epoch on module and datamodule.

    What a phase draws (`subsets`, `balance`) is a function of the epoch, which the datamodule is told before it loads.

    Args:
        phases: the stages, in order.
        cycle: start again after the last one.

    Raises:
        UsageError: no phase, a phase shorter than one epoch, or a rate below 0.
    """

    def __init__(self, phases: list[Phase], cycle: bool = False) -> None:
        if not phases or any(phase.epochs < 1 for phase in phases):
            raise UsageError("PhaseSchedule: give at least one phase, each of at least one epoch")
        for phase in phases:
            for key, value in (("lr", phase.lr), ("weight_decay", phase.weight_decay)):
                if value is not None and not 0 <= value < math.inf:
                    raise UsageError(f"phases: {phase.name}: {key} {value}; it must be a number of at least 0")
        self.phases = phases
        self.cycle = cycle

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse unknown phase names before any work is done, and tell the datamodule what will be drawn."""
        known: Any = pl_module
        for phase in self.phases:
            known.check_phase(phase.name)
            try:
                if phase.reweight:
                    known.reweight(False)
                if phase.new_classifiers:
                    known.check_new_classifiers()
            except UsageError as error:
                raise UsageError(f"phases: {phase.name}: {error}") from None
        tell_data(getattr(trainer, "datamodule", None), self.phases, self.cycle)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Enter the phase of an epoch that is resumed in its middle: Lightning does not start it again."""
        self._enter(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell module and datamodule what the epoch trains; a phase that begins may begin with new classifiers."""
        module: Any = pl_module
        phase = self._enter(trainer, module)
        if phase.new_classifiers and begins_at(self.phases, trainer.current_epoch, self.cycle):
            module.start_classifiers()

    def _enter(self, trainer: pl.Trainer, module: Any) -> Phase:
        phase = phase_at(self.phases, trainer.current_epoch, self.cycle)
        module.enter(phase.name, phase.lr, phase.weight_decay)
        if any(one.reweight for one in self.phases):
            module.reweight(phase.reweight)
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        if datamodule is not None:
            datamodule.enter(phase.name)
        return phase
