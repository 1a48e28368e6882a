"""`runs/<name>/`: what a run leaves behind, never overwritten unasked."""

import json
import shutil
from pathlib import Path

from fgvc.errors import FgvcError, UsageError
from fgvc.files.origin import environment
from fgvc.files.whole_files import write_text

CONFIG, ENVIRONMENT, CHECKPOINTS, MODEL = "config.yaml", "environment.json", "checkpoints", "model"
CURVES, ANSWERS, FINAL = "metrics.csv", "predictions_test.csv", "test.json"
CLASSES, CONFUSION = "classes_test.csv", "confusion_test.csv"
LONG_TAIL = "long_tail.csv"
"""The training images that `data.long_tail` kept."""
PHOTOGRAPHS = "photographs"
"""The key of `test.json` under which the folder stands that the paths of `predictions_test.csv` start at."""
READOUT = "readout"
"""The key of `test.json` under which it stands where the probabilities of the answers come from."""


def check(folder: Path, overwrite: bool) -> None:
    """Refuse a run folder that is taken.

    Args:
        folder: `runs/<name>`.
        overwrite: a run that is already there may be replaced.

    Raises:
        UsageError: the folder exists and may not be replaced.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise UsageError(f"{folder}: this run exists already; choose another --name, or give --overwrite")
    if not (folder / CONFIG).is_file():
        raise UsageError(f"{folder}: not a run folder (no {CONFIG}), so it is not overwritten; choose another --name")


def create(folder: Path, config: str) -> None:
    """Make a run folder with its config and a record of the machine, in place of a run that `check` let pass.

    Raises:
        FgvcError: it cannot be written.
    """
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        write_text(folder / CONFIG, config)
        write_text(folder / ENVIRONMENT, json.dumps(environment(), indent=1))
        write_text(folder.parent / "latest", folder.name + "\n")
    except OSError as error:
        raise FgvcError(f"{folder}: cannot be written ({error.strerror})") from None


def checkpoint(folder: Path) -> Path:
    """Return the checkpoint that a run is judged by: the best validation epoch, else the last one."""
    best = folder / CHECKPOINTS / "best.ckpt"
    return best if best.is_file() else last(folder)


def last(folder: Path) -> Path:
    """Return the checkpoint that a run is resumed from: the training state of the last step that was saved."""
    return folder / CHECKPOINTS / "last.ckpt"


def go_on(folder: Path, config: str) -> None:
    """Note in a run folder that the run is resumed, with what settings and on what machine.

    Raises:
        FgvcError: it cannot be written.
    """
    try:
        write_text(folder / CONFIG, config)
        known = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
        known["resumed"] = [*known.get("resumed", []), environment()]
        write_text(folder / ENVIRONMENT, json.dumps(known, indent=1))
        write_text(folder.parent / "latest", folder.name + "\n")
    except (OSError, ValueError) as error:
        raise FgvcError(f"{folder}: cannot be written ({error})") from None


def discard(folder: Path) -> None:
    """Remove a run that failed before its first step, so that its name is free again."""
    if (folder / CONFIG).is_file():
        shutil.rmtree(folder)
    pointer = folder.parent / "latest"
    if pointer.is_file() and pointer.read_text(encoding="utf-8").strip() == folder.name:
        pointer.unlink()


def followed(path: Path) -> Path:
    """Return the newest run where the file `latest` of the folder of all runs is given; any other path as it is."""
    if path.name != "latest" or not path.is_file():
        return path
    return path.parent / path.read_text(encoding="utf-8", errors="replace").strip()


def resolve(run: Path) -> Path:
    """Return the folder of a run, following the `latest` file.

    Raises:
        UsageError: no run there.
    """
    run = followed(run)
    if not (run / CONFIG).is_file():
        raise UsageError(f"{run}: no run folder (no {CONFIG} in it); give the folder that `fgvc fit` printed")
    return run
