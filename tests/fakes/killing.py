"""Runs that die as SIGKILL would end them, at a chosen checkpoint."""

from fgvc.training.callbacks.step_checkpoints import StepCheckpoint


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it."""


def kill_after(monkeypatch, saves):
    """Kill the run right after its n-th checkpoint; a list of n makes it die again each time it is resumed."""
    original, left = StepCheckpoint._save, list(saves)

    def save(self, trainer):
        original(self, trainer)
        if left:
            left[0] -= 1
            if left[0] == 0:
                left.pop(0)
                raise Killed

    monkeypatch.setattr(StepCheckpoint, "_save", save)
