import pickle
from types import SimpleNamespace

import pytest

from fgvc.data.stages import Drawn
from fgvc.errors import UsageError
from fgvc.training.callbacks.phases import Phase, PhaseSchedule, begins_at, phase_at, tell_data

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


class Data(Listener):
    """Knows one stage, and keeps the plan that it is told."""

    plan = None

    def check_drawn(self, drawn):
        if drawn.subsets not in (None, 1, ["clean"]):
            raise UsageError(f"subsets: no stage {drawn.subsets}")

    def follow(self, plan):
        self.plan = plan


DRAWN = [Phase("all", 2, subsets=["clean"], balance="sqrt"), Phase("all", 1, subsets=1), Phase("all", 1)]


def test_the_data_are_told_before_the_training_what_each_epoch_draws():
    for cycle, fifth in ((False, Drawn()), (True, Drawn(["clean"], "sqrt"))):
        data = Data()
        PhaseSchedule(DRAWN, cycle).setup(SimpleNamespace(datamodule=data), Listener(), "fit")
        first = Drawn(["clean"], "sqrt")
        assert [data.plan(epoch) for epoch in range(5)] == [first, first, Drawn(1), Drawn(), fifth]


def test_a_plan_travels_to_other_processes():
    data = Data()
    tell_data(data, DRAWN, cycle=True)
    assert pickle.loads(pickle.dumps(data.plan))(6) == Drawn(1)  # noqa: S301 - our own


def test_phases_that_say_nothing_of_the_data_tell_them_nothing():
    data = Data()
    tell_data(data, PHASES, cycle=False)
    assert data.plan is None


def test_what_the_data_cannot_draw_is_refused_with_the_phase():
    with pytest.raises(UsageError, match=r"^phases: all: subsets: no stage 7$"):
        tell_data(Data(), [*DRAWN, Phase("all", 1, subsets=7)], cycle=False)
    with pytest.raises(UsageError, match=r"^phases: all: subsets and balance need"):
        tell_data(None, DRAWN, cycle=False)


@pytest.mark.parametrize(("cycle", "starts"), [(False, [0, 2, 3]), (True, [0, 2, 3, 6, 8, 9])])
def test_a_phase_begins_once_and_the_last_one_goes_on(cycle, starts):
    assert [epoch for epoch in range(10) if begins_at(PHASES, epoch, cycle)] == starts
    assert [epoch for epoch in range(4) if begins_at([Phase("head", 1)], epoch, cycle)] == (
        [0, 1, 2, 3] if cycle else [0]
    )


class Told(Listener):
    """Also keeps what it is told of classifiers and weights; knows neither if it is asked to refuse."""

    def __init__(self, refuses=False):
        super().__init__()
        self.refuses, self.done = refuses, []

    def reweight(self, on):
        if self.refuses:
            raise UsageError("reweight: no loss of this model defers class weights")
        self.done.append(on)

    def check_new_classifiers(self):
        if self.refuses:
            raise UsageError("HSEHead has no classifier of a row per class")

    def start_classifiers(self):
        self.done.append("new")


TWO = [Phase("all", 1), Phase("head", 2, new_classifiers=True)]
WEIGHED = [Phase("all", 1), Phase("all", 1, reweight=True), Phase("all", 1)]


def test_classifiers_are_made_anew_as_their_phase_begins_and_not_where_an_epoch_goes_on():
    module, schedule = Told(), PhaseSchedule(TWO)
    for epoch in range(4):
        trainer = SimpleNamespace(current_epoch=epoch, datamodule=None)
        schedule.on_train_start(trainer, module)  # an epoch that a resumed run goes on with begins no phase
        assert module.done == ["new"] * (epoch > 1)
        schedule.on_train_epoch_start(trainer, module)
        assert module.done == ["new"] * (epoch > 0)


def test_weights_wait_but_in_the_phases_that_ask_for_them():
    module, schedule = Told(), PhaseSchedule(WEIGHED)
    for epoch in range(3):
        schedule.on_train_epoch_start(SimpleNamespace(current_epoch=epoch, datamodule=None), module)
    schedule.on_train_start(SimpleNamespace(current_epoch=1, datamodule=None), module)
    assert module.done == [False, True, False, True]


@pytest.mark.parametrize(
    ("phases", "message"), [(TWO, "phases: head: HSEHead has no"), (WEIGHED, "phases: all: reweight")]
)
def test_what_a_model_cannot_do_is_refused_before_the_work(phases, message):
    with pytest.raises(UsageError, match=f"^{message}"):
        PhaseSchedule(phases).setup(SimpleNamespace(), Told(refuses=True), "fit")
