"""`runs/<name>/`: what a run leaves behind, never overwritten unasked."""

import json
import os
import platform
import shutil
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fgvc.errors import FgvcError, UsageError

CONFIG, ENVIRONMENT, CHECKPOINTS, MODEL = "config.yaml", "environment.json", "checkpoints", "model"
_PACKAGES = ("fgvc", "torch", "torchvision", "timm", "pytorch-lightning", "albumentations", "opencv-python-headless")


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
        raise UsageError(f"{folder}: this run exists already; choose another --name, or give --overwrite true")
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
        write(folder / CONFIG, config)
        write(folder / ENVIRONMENT, json.dumps(environment(), indent=1))
        write(folder.parent / "latest", folder.name + "\n")
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
        write(folder / CONFIG, config)
        known = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
        known["resumed"] = [*known.get("resumed", []), environment()]
        write(folder / ENVIRONMENT, json.dumps(known, indent=1))
        write(folder.parent / "latest", folder.name + "\n")
    except (OSError, ValueError) as error:
        raise FgvcError(f"{folder}: cannot be written ({error})") from None


def discard(folder: Path) -> None:
    """Remove a run that failed before its first step, so that its name is free again."""
    if (folder / CONFIG).is_file():
        shutil.rmtree(folder)
    pointer = folder.parent / "latest"
    if pointer.is_file() and pointer.read_text(encoding="utf-8").strip() == folder.name:
        pointer.unlink()


def write(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def environment() -> dict[str, Any]:
    """Return time, versions, machine and command line, without the path of the program: models are shared."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": ["fgvc", *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def resolve(run: Path) -> Path:
    """Return the folder of a run, following the `latest` file.

    Raises:
        UsageError: no run there.
    """
    pointer = run.parent / "latest"
    if run.name == "latest" and pointer.is_file():
        run = run.parent / pointer.read_text(encoding="utf-8").strip()
    if not (run / CONFIG).is_file():
        raise UsageError(f"{run}: no run folder (no {CONFIG} in it); give the folder that `fgvc fit` printed")
    return run
