"""The flags of Lightning's Trainer: what is refused before any work, in one line that says what to do.

Lightning would accept some of them and fail later, or refuse them in words about its own code.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Union

import torch
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator

from fgvc.errors import UsageError, did_you_mean
from fgvc.training.outline import limited

LEAST: Mapping[str, float] = {
    "accumulate_grad_batches": 1, "check_val_every_n_epoch": 1, "log_every_n_steps": 1, "gradient_clip_val": 0,
    "limit_train_batches": 0, "limit_val_batches": 0, "limit_test_batches": 0, "limit_predict_batches": 0,
    "num_sanity_val_steps": -1, "reload_dataloaders_every_n_epochs": 0, "fast_dev_run": 0, "num_nodes": 1,
    "max_epochs": -1, "min_epochs": 0, "max_steps": -1, "min_steps": 0,
}  # fmt: skip
"""The least value of a number."""
SHARES = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches")
"""Flags that take a share of the batches, 0.0 to 1.0, or a whole number of them."""
WORDS: Mapping[str, tuple[str, ...]] = {
    "gradient_clip_algorithm": ("norm", "value"),
    "profiler": ("simple", "advanced", "pytorch"),
}
REFUSED: Mapping[str, str] = {
    "overfit_batches": "does not go with the order of the images; use limit_train_batches",
    "use_distributed_sampler": "the data share the images among the processes themselves; leave it out",
    "model_registry": "a run sends its model nowhere; it is written to runs/NAME/model; leave it out",
}
"""Flag -> why it may not be set, and what to do."""
BARE = ("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps", "fast_dev_run",
        "detect_anomaly", "profiler", "logger")  # fmt: skip
"""What `barebones` goes without."""
_TIME = re.compile(r"\d+:\d\d?:\d\d?:\d\d?")  # DD:HH:MM:SS
_PACKAGE = re.compile(r"(?:pip install -U ['\"]?|Requirement ')([A-Za-z][\w.<>=!,~-]*)")


def whole_numbers_first(actions: list[Any]) -> None:
    """Let `--trainer.limit_train_batches 1` mean one batch.

    Lightning's types name float first, so the parser would read the number 1 as 1.0, which means all batches.

    Args:
        actions: of the parser; those that take a share or a number are changed.
    """
    for action in actions:
        if action.dest in [f"trainer.{key}" for key in SHARES]:
            action._typehint = Union[int, float, None]  # noqa: UP007 - the parser knows this form


def check(settings: Mapping[str, Any], begins: bool) -> None:
    """Refuse a flag that cannot work, as far as it can be told without data and machine.

    Args:
        settings: of the trainer, parsed.
        begins: whether a new training begins with them.

    Raises:
        UsageError: a flag outside its range, or one that does not go with the others.
    """
    for key, least in LEAST.items():
        number = settings[key]
        if type(number) in (int, float) and not least <= number < math.inf:
            raise UsageError(f"trainer.{key}: {number}; it must be a number of at least {least}")
    for key in SHARES:
        if isinstance(share := settings[key], float) and share > 1 and not share.is_integer():
            raise UsageError(f"trainer.{key}: {share}; a share of at most 1.0, or a whole number of batches")
    for key in ("max_epochs", "max_steps", "limit_train_batches"):
        if begins and settings[key] == 0:
            raise UsageError(f"trainer.{key}: 0 trains nothing; give at least 1")
    for key, why in REFUSED.items():
        if settings[key]:
            raise UsageError(f"trainer.{key}: {why}")
    for key, known in WORDS.items():
        if isinstance(word := settings[key], str) and word not in known:
            raise UsageError(f"trainer.{key}: {word!r}; it takes {' or '.join(known)}{did_you_mean(word, known)}")
    _check_times(settings)
    _check_machine(settings)
    _check_barebones(settings)


def check_batches(settings: Mapping[str, Any], batches: Mapping[str, int]) -> None:
    """Refuse a share of the batches that is none, and a validation that would never come.

    Args:
        settings: of the trainer.
        batches: `train`, `val` or `test` -> how many batches there are.

    Raises:
        UsageError: see above.
    """
    for split, number in batches.items():
        share = settings[f"limit_{split}_batches"]
        if number and share and not limited(number, share):
            least = math.ceil(1000 / number) / 1000
            raise UsageError(
                f"trainer.limit_{split}_batches: {share} of {number} batches is none; give at least {least}, or a "
                "whole number of batches"
            )
    often = settings["val_check_interval"]
    over_all = settings["check_val_every_n_epoch"] is None or settings["limit_val_batches"] == 0
    if type(often) is int and batches.get("val") and not over_all and not settings["fast_dev_run"]:
        count = limited(batches["train"], settings["limit_train_batches"])
        if often > count:
            raise UsageError(
                f"trainer.val_check_interval: {often}, but an epoch has {count} batches; give at most {count}, or "
                "--trainer.check_val_every_n_epoch null to count over all epochs"
            )


def in_one_line(error: Exception, where: str = "trainer") -> str:
    """Return what Lightning refused in one line; of a missing package, the command that installs it.

    The parser tries a list, a single one, true and null in turn, and tells them all: the first that is no matter of
    types says why a callback or a logger could not be made.
    """
    tried = re.split(r"\n\s*- ", str(error).partition("\nGiven value type:")[0])
    wrong = [one for one in tried[1:] if not one.startswith(("Expected", "Not a valid subclass", "a class", "a dict"))]
    reason = " ".join((wrong[0] if wrong else str(error)).split())
    reason = re.sub(r"Problem with given class_path '(?:\w+\.)*(\w+)'", r"\1", reason)
    if package := missing_package(error):
        reason = f"{reason.partition(': ')[0]}: " if wrong and reason[:1].isupper() else ""
        return f"{where}: {reason}needs a package that is not installed: pip install '{package}'"
    return f"{where}: {reason[:400]}"


def missing_package(error: Exception) -> str:
    """Return what must be installed, as pip takes it, or an empty string."""
    found = _PACKAGE.search(" ".join(str(error).split()))
    return found[1].rstrip(".") if found else ""


def _check_times(settings: Mapping[str, Any]) -> None:
    for key in ("max_time", "val_check_interval"):
        if isinstance(time := settings[key], str) and not _TIME.fullmatch(time):
            raise UsageError(f"trainer.{key}: {time!r}; a time is written DD:HH:MM:SS, as in 00:02:00:00 for two hours")
    often = settings["val_check_interval"]
    if isinstance(often, int | float) and not often > 0:
        raise UsageError(f"trainer.val_check_interval: {often}; it must be above 0: a share of an epoch, or batches")
    if isinstance(often, float) and often > 1 and not often.is_integer():
        raise UsageError(f"trainer.val_check_interval: {often}; a share of at most 1.0, or a whole number of batches")


def _check_machine(settings: Mapping[str, Any]) -> None:
    """Check accelerator, devices, strategy and precision, as far as they are words and numbers."""
    accelerator, devices, strategy = (settings[key] for key in ("accelerator", "devices", "strategy"))
    kinds = {"cuda": CUDAAccelerator, "mps": MPSAccelerator}
    found = [name for name, kind in kinds.items() if kind.is_available()]
    if isinstance(accelerator, str):
        known = ["auto", "gpu", "cpu", "cuda", "mps"]
        if accelerator not in known:
            near = did_you_mean(accelerator, known)
            raise UsageError(f"trainer.accelerator: {accelerator!r}; it takes {', '.join(known)}{near}")
        if accelerator not in ("auto", "cpu", *found) and not (accelerator == "gpu" and found):
            raise UsageError(f"trainer.accelerator: {accelerator}, but none is found here; leave it out, or give cpu")
    number = int(devices) if re.fullmatch(r"-?\d+", str(devices)) else None
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not found)
    if number is not None and (number == 0 or number < -1 or (on_cpu and number < 1)):
        raise UsageError(
            f"trainer.devices: {devices}; it must be at least 1, or auto{'' if on_cpu else ', or -1 (all)'}"
        )
    if on_cpu and isinstance(devices, list):
        raise UsageError(f"trainer.devices: {devices}; on the CPU it is the number of processes, e.g. 2")
    if number is not None and accelerator in ("gpu", "cuda") and number > (count := torch.cuda.device_count()):
        raise UsageError(f"trainer.devices: {number}, but {count} are found here; give {count} or less")
    if isinstance(strategy, str) and strategy != "auto" and not strategy.startswith("ddp"):
        raise UsageError(
            f"trainer.strategy: {strategy!r}; a run keeps the whole network in each process: auto or ddp"
            f"{did_you_mean(strategy, ['auto', 'ddp'])}"
        )
    if str(settings["precision"]).startswith("transformer-engine"):
        raise UsageError(f"trainer.precision: {settings['precision']} replaces timm's layers; give bf16-mixed")


def _check_barebones(settings: Mapping[str, Any]) -> None:
    if settings["barebones"] and (asked := [key for key in BARE if settings[key]]):
        raise UsageError(f"trainer.barebones: true goes without {asked[0]}; leave --trainer.{asked[0]} out")
