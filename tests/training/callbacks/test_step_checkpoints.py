import signal
from types import SimpleNamespace

import pytest

from fgvc.errors import StoppedError, UsageError
from fgvc.training.callbacks import step_checkpoints
from fgvc.training.callbacks.step_checkpoints import StepCheckpoint


class Strategy:
    """Several processes, of which another one wants `other`."""

    root_device = "cpu"

    def __init__(self, other):
        self.other = other

    def reduce(self, wanted, reduce_op):
        assert reduce_op == "max"
        return max(int(wanted), self.other)


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(step_checkpoints.time, "monotonic", lambda: now.seconds)
    return now


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "runs" / "birds" / "checkpoints"
    folder.mkdir(parents=True)
    return folder / "last.ckpt"


def trainer(path, accumulate=1, processes=1, other=0):
    saved = []

    def save(target):
        assert target == path
        path.touch()
        saved.append(made.global_step)

    made = SimpleNamespace(
        accumulate_grad_batches=accumulate, num_training_batches=6, world_size=processes, current_epoch=4,
        global_step=0, save_checkpoint=save, strategy=Strategy(other), saved=saved,
    )  # fmt: skip
    return made


def epoch(callback, made, clock=None, seconds=0.0):
    """Let one epoch of six batches pass, each taking some seconds."""
    for batch in range(6):
        if clock:
            clock.seconds += seconds
        made.global_step += (batch + 1) % made.accumulate_grad_batches == 0 or batch == 5
        callback.on_train_batch_end(made, None, None, None, batch)
    callback.on_train_epoch_end(made, None)


@pytest.mark.parametrize(
    ("minutes", "accumulate", "saved"),
    [
        (0, 1, [1, 2, 3, 4, 5, 6]),  # never after the last batch, always at the epoch's end
        (0, 2, [1, 2, 3]),
        (2, 1, [2, 4, 6]),  # a minute each
        (2, 4, [1, 2]),
        (100, 1, [6]),
    ],
)
def test_it_saves_between_steps_when_it_is_time_and_at_the_end(path, clock, minutes, accumulate, saved):
    callback, made = StepCheckpoint(path, minutes), trainer(path, accumulate)
    callback.on_train_start(made, None)
    epoch(callback, made, clock, 60)
    callback.on_train_end(made)
    assert made.saved == saved


def test_all_processes_save_after_the_step_at_which_one_wants_to(path):
    callback, made = StepCheckpoint(path), trainer(path, processes=2, other=1)
    epoch(callback, made)
    assert made.saved == [1, 2, 3, 4, 5, 6]


def test_all_processes_stop_after_the_step_at_which_one_is_told_to(path):
    callback, made = StepCheckpoint(path), trainer(path, processes=2, other=int(signal.SIGTERM))
    said = r"^SIGTERM: stopped at epoch 5, step 1; fgvc fit --resume .*runs/birds goes on after step 1$"
    with pytest.raises(StoppedError, match=said) as caught:
        epoch(callback, made)
    assert caught.value.exit_code == 143
    assert made.saved == [1]


def test_a_second_signal_stops_at_once_and_says_what_there_is(path):
    callback, made = StepCheckpoint(path), trainer(path)
    former = signal.getsignal(signal.SIGINT)
    callback.on_train_start(made, None)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(StoppedError, match=r"^stopped at once; nothing was saved yet$") as caught:
        signal.raise_signal(signal.SIGINT)
    assert caught.value.exit_code == 130
    path.touch()
    with pytest.raises(StoppedError, match=r"^stopped at once; fgvc fit --resume .*runs/birds goes on after step 0$"):
        signal.raise_signal(signal.SIGTERM)
    callback.on_exception(made)
    assert signal.getsignal(signal.SIGINT) is former


def test_several_processes_do_not_stop_inside_a_validation(path):
    callback = StepCheckpoint(path)
    callback._on_signal(signal.SIGINT, None)
    callback.on_validation_batch_end(trainer(path, processes=2))
    with pytest.raises(StoppedError, match="SIGINT: stopped at epoch 5, step 0; nothing was saved yet"):
        callback.on_validation_batch_end(trainer(path))


def test_a_negative_time_is_refused(path):
    with pytest.raises(UsageError, match=r"^save_every_minutes: -1; it must be at least 0 "):
        StepCheckpoint(path, -1)
    with pytest.raises(UsageError, match=r"^save_every_minutes: nan; "):
        StepCheckpoint(path, float("nan"))
