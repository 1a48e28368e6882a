from types import SimpleNamespace

import pytest

from fgvc.errors import UsageError
from fgvc.training.callbacks.phases import Phase, PhaseSchedule, phase_at

PHASES = [Phase("attend", 2), Phase("recognise", 1, lr=0.1, weight_decay=0.2), Phase("all", 3)]


def names(phases, epochs, cycle):
    return [phase_at(phases, epoch, cycle).name for epoch in range(epochs)]


def test_the_last_phase_goes_on():
    expected = ["attend", "attend", "recognise", "all", "all", "all", "all", "all"]
    assert names(PHASES, 8, cycle=False) == expected


def test_a_cycle_starts_again():
    once = ["attend", "attend", "recognise", "all", "all", "all"]
    assert names(PHASES, 13, cycle=True) == [*once, *once, "attend"]


@pytest.mark.parametrize("phases", [[], [Phase("all", 0)], [Phase("head", 1), Phase("all", -1)]])
def test_empty_schedules_are_refused(phases):
    with pytest.raises(UsageError, match="at least one phase, each of at least one epoch"):
        PhaseSchedule(phases)


class Listener:
    def __init__(self):
        self.heard = []

    def enter(self, *words):
        self.heard.append(words)

    def check_phase(self, phase):
        if phase == "alll":
            raise UsageError("phase 'alll'")


def test_module_and_data_are_told_the_phase_of_the_epoch():
    module, data = Listener(), Listener()
    schedule = PhaseSchedule(PHASES)
    for epoch in (1, 2, 3):
        schedule.on_train_epoch_start(SimpleNamespace(current_epoch=epoch, datamodule=data), module)
    assert module.heard == [("attend", None, None), ("recognise", 0.1, 0.2), ("all", None, None)]
    assert data.heard == [("attend",), ("recognise",), ("all",)]


def test_a_trainer_without_datamodule_will_do():
    module = Listener()
    PhaseSchedule(PHASES).on_train_epoch_start(SimpleNamespace(current_epoch=0, datamodule=None), module)
    assert module.heard == [("attend", None, None)]


def test_an_unknown_phase_is_refused_before_the_work():
    with pytest.raises(UsageError, match="alll"):
        PhaseSchedule([Phase("all", 1), Phase("alll", 1)]).setup(SimpleNamespace(), Listener(), "fit")


@pytest.mark.parametrize("key", ["lr", "weight_decay"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(key, value):
    with pytest.raises(UsageError, match=rf"^phases: all: {key} {value}; it must be a number of at least 0$"):
        PhaseSchedule([Phase("head", 1, lr=0.0), Phase("all", 1, **{key: value})])
