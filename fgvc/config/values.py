"""Checks of a parsed config: values that Lightning would accept and fail on later are refused by their key."""

import importlib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgvc.config import trainer_flags
from fgvc.errors import UsageError
from fgvc.images.sides import check_side

LARGEST_SEED = 2**32 - 1


def check(config: Mapping[str, Any], begins: bool) -> None:
    """Check the values of the run as a whole; each class checks its own arguments.

    Args:
        config: what the parser found: data, model, trainer, seed_everything, name and runs.
        begins: whether a new training begins with it.

    Raises:
        UsageError: a group that holds no keys, or a value outside its range.
    """
    for group in ("data", "model", "trainer", "data.augmentation"):
        if isinstance(found := config[group], str | int | float | list | None):
            raise UsageError(f"{group}: {_shown(found)}; it holds keys, as in --{group}.KEY VALUE")
    seed = config["seed_everything"]
    if type(seed) is int and not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"seed_everything: {seed}; it must be from 0 to {LARGEST_SEED}")
    for key, size in (
        ("model.image_size", config["model"]["image_size"]),
        ("data.source_size", config["data"]["source_size"]),
    ):
        if size is not None:
            check_side(key, size)
    trainer_flags.check(config["trainer"], begins)
    _check_place(config)


def check_nulls(arguments: Mapping[str, Any], owner: type, where: str) -> None:
    """Refuse null where a class takes none: the parser treats null as an argument that was not given.

    Args:
        arguments: of the class, parsed; what is linked to it may still be null.
        owner: the class.
        where: its dotted key.

    Raises:
        UsageError: the key of a null that does not belong there.
    """
    hints = typing.get_type_hints(owner.__init__)  # type: ignore[misc]
    for name, value in arguments.items():
        key = f"{where}.{name}"
        if value is None and name in hints and name != "taxonomy" and not _takes_null(hints[name]):
            kind = getattr(hints[name], "__name__", str(hints[name]))
            wanted = {"str": "text"}.get(kind, kind)
            raise UsageError(f"{key}: null given, but it takes {'an' if wanted[0] in 'aeiou' else 'a'} {wanted}")
        if path := getattr(value, "class_path", None):
            module, _, class_name = path.rpartition(".")
            found = getattr(importlib.import_module(module), class_name)
            check_nulls(vars(value.get("init_args") or types.SimpleNamespace()), found, key)


def _takes_null(hint: Any) -> bool:
    return hint is Any or hint is None or type(None) in typing.get_args(hint)


def _check_place(config: Mapping[str, Any]) -> None:
    """Check that the folder of the run lies in the folder of all runs."""
    for key in ("runs", "name"):
        if "\0" in (config[key] or ""):
            raise UsageError(f"{key}: {ascii(config[key])[:60]}; it holds a null character")
    if not config["runs"]:
        raise UsageError("runs: empty; give the folder of all runs, e.g. runs")
    name = config["name"]
    if name is not None and (
        not name.strip() or Path(name).is_absolute() or {".", ".."} & set(Path(name).parts or "..")
    ):
        raise UsageError(f"name: {name[:80]!r}; give a name for a folder inside {config['runs']}, such as birds")


def _shown(value: Any) -> str:
    return "null" if value is None else " ".join(str(value).split())[:80]
