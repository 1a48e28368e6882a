"""Runs trained for an epoch on the same coloured pictures, for what takes several models."""

from pathlib import Path

from fakes.tiny_run import CPU, NET, data_flags

from fgvc.__main__ import main


def train(runs: Path, name: str, photos: Path, seed: int = 0, side: int = 32, *words: str) -> Path:
    """Train a run and return its folder.

    Args:
        runs: the folder of all runs.
        name: of the run.
        photos: what `make_photos` wrote.
        seed: of its start and order.
        side: pixels that it sees.
        words: further flags.
    """
    flags = [*NET, *data_flags(photos), *CPU, "--model.image_size", str(side), "--trainer.max_epochs", "1"]
    flags += ["--runs", str(runs), "--name", name, "--seed_everything", str(seed), *words]
    assert main(["fit", *flags]) == 0
    return runs / name
