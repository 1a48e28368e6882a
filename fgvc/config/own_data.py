"""`fgvc fit FOLDER`: one word for the data, and a recipe that fits the machine where none is given."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from fgvc.config.switches import bare
from fgvc.config.words import flags_of_data, free_word, given
from fgvc.config.yaml_files import check_file, read_text
from fgvc.errors import UsageError
from fgvc.files.shipped import config_file

SWITCHES = ("-h", "--help", "--print_config")
"""The flags of `fgvc fit` that take no value."""
ON_OR_OFF = ("--overwrite", "--find_lr", "--find_batch_size")
"""Those that may stand alone or before true or false, and are off unless they are typed."""
ON_CPU, ON_GPU = "small", "whole_image"
"""The recipes: stems of shipped configs."""
LENGTH = ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time")
"""Keys that say how long a training lasts."""
SAME_DATA = (
    *("source", "val_fraction", "split_seed", "on_bad_image", "limits"),
    *("long_tail", "noise", "exclude", "relabel"),
)
"""Keys of `data` that say which photographs a run had; the others belong to its method."""


class Start(NamedTuple):
    """What the words of `fgvc fit` come to.

    words: flags alone.
    recipe: the stem of the config that was taken for want of a method; empty where a method or no folder is given.
    chooses_epochs: whether nobody said how long the training lasts, so that the time of a step may decide it.
    chooses_batch: whether nobody said how many images make a batch.
    """

    words: list[str]
    recipe: str = ""
    chooses_epochs: bool = False
    chooses_batch: bool = False


def from_data(words: Sequence[str]) -> Start:
    """Replace the free word of `fgvc fit`, if there is one, by flags, behind a recipe where no method is given.

    What is typed comes last, so it wins. The run is named after the data and the configs.

    Raises:
        UsageError: a word too many, one that names nothing, or two places that say where the data are.
    """
    words = [f"{word}=true" if word in ON_OR_OFF else word for word in bare(words, ON_OR_OFF)]
    place = free_word("fgvc fit", words, SWITCHES)
    if place is None:
        return Start(list(words))
    word, rest = words[place], [*words[:place], *words[place + 1 :]]
    if any(given(rest, "--resume")):
        raise UsageError(f"--resume goes on with the data of its run; leave {word!r} out")
    data, name = _data_of(word)
    configs = {flag.value: _content(flag.value) for flag in given([*data, *rest], "--config", "-c") if flag.value}
    for stem, content in configs.items():
        if stem != word and _value(content, "data.source") is not None:
            raise UsageError(f"fgvc fit: {word!r} and --config {stem} both say where the data are; give one of them")
    typed = {flag.partition("=")[0].removeprefix("--") for flag in rest if flag.startswith("--")}

    def said(*keys: str) -> bool:
        return any(key in typed or any(_value(one, key) is not None for one in configs.values()) for key in keys)

    method = said("model.recognizer", "model.recognizer.class_path")
    recipe = "" if method else (ON_CPU if _on_cpu(rest, configs.values()) else ON_GPU)
    front = ["--config", recipe] if recipe else []
    named = "-".join([name, *(Path(stem).stem for stem in configs if stem != word)])
    own = [] if any(given(rest, "--name")) else ["--name", named]
    epochs = recipe == ON_CPU and not said(*LENGTH, "phases")
    return Start([*own, *front, *data, *rest], recipe, epochs, bool(recipe) and not said("data.batch_size"))


def _data_of(word: str) -> tuple[list[str], str]:
    """Return the flags of the data, and what a run over them is called."""
    flags = flags_of_data(word)
    if flags[0] != "--config":
        return flags, Path(word).resolve().name if Path(word).is_dir() else Path(word).stem
    if flags[1] == word:
        return flags, Path(word).stem
    run = Path(flags[1]).parent
    data = _content(flags[1]).get("data") or {}
    same = {f"--data.{key}": data[key] for key in SAME_DATA if data.get(key) is not None}
    pairs = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in same.items()]
    return [one for pair in pairs for one in pair], f"{run.resolve().name}-again"


def _content(stem_or_path: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(read_text(check_file(config_file(stem_or_path))))
    return content


def _value(content: Any, key: str) -> Any:
    """Return what stands under a dotted key of a config, or None."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    is_part = isinstance(content, dict) and key == "model.recognizer"
    return content.get("class_path") if is_part else content  # a network alone is no method


def _on_cpu(words: Sequence[str], configs: Any) -> bool:
    """Say whether a training runs on the CPU: because it is asked for, or because there is nothing else."""
    asked = [_value(content, "trainer.accelerator") for content in configs]
    asked += [flag.value for flag in given(words, "--trainer.accelerator")]
    last = next((one for one in reversed(asked) if one is not None), "auto")
    return last == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
