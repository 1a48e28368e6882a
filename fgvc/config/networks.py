"""The network apart from the method: which config says the backbone, in whatever order the configs stand."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fgvc.config.yaml_files import as_word, read_text
from fgvc.errors import UsageError

KEY = "model.recognizer.backbone"
BELONGS = ("model_args", "mean", "std", "weights")
"""Arguments of a backbone that were chosen for one network and mean nothing for another."""


class Config(NamedTuple):
    """A config among the words: its file, and what it says of the recognizer and of the backbone (empty: nothing)."""

    path: Path
    tree: dict[str, Any]
    recognizer: dict[str, Any]
    backbone: dict[str, Any]

    @property
    def network(self) -> str:
        """The name of the network, or an empty string."""
        return str(_inside(self.backbone, "init_args").get("name") or "")

    @property
    def is_network(self) -> bool:
        """Whether it chooses a network and leaves the method open."""
        arguments = _inside(self.recognizer, "init_args")
        return bool(self.network) and self.recognizer.keys() == {"init_args"} and arguments.keys() == {"backbone"}


def read(path: Path) -> Config:
    """Read a checked config."""
    tree = yaml.safe_load(read_text(path))
    recognizer = _inside(_inside(tree, "model"), "recognizer")
    backbone = _inside(recognizer, "init_args").get("backbone")
    found = {"class_path": backbone} if isinstance(backbone, str) else backbone
    return Config(path, tree, recognizer, found if isinstance(found, dict) else {})


class Combined(NamedTuple):
    """What the parser is given.

    words: for each config its path or text; None for nothing.
    network: the text that goes behind the flag of the method; None where the method is a config.
    told: one line for a person, or an empty string.
    """

    words: list[str | None]
    network: str | None = None
    told: str = ""


def combined(configs: Sequence[Config], has_method: bool) -> Combined:
    """Return what the parser is given for the configs.

    The network of the last config that chooses nothing else stands in place of every other one, whole: a method's
    config keeps its own for when there is none.

    Args:
        configs: in their order.
        has_method: whether a flag names the recognizer.

    Raises:
        UsageError: a network without a method, or one that would get the arguments of another.
    """
    networks = [config for config in configs if config.is_network]
    if not networks:
        return Combined([as_word(config.path) for config in configs], told=_overruled(configs))
    chosen, methods = networks[-1], [config for config in configs if config.recognizer.get("class_path")]
    if not methods and not has_method:
        raise UsageError(
            f"{chosen.path}: a network ({chosen.network}) without a method; give both, e.g. --config "
            f"{chosen.path.stem} --config whole_image"
        )
    backbone = {"class_path": "Backbone", **chosen.backbone}
    words = [
        _text(config, backbone if config in methods else None)
        if config in methods or config in networks
        else as_word(config.path)
        for config in configs
    ]
    alone = {"model": {"recognizer": {"init_args": {"backbone": backbone}}}}
    over = next((config.network for config in networks if config.network != chosen.network), "")
    told = f"network: {chosen.network} of {chosen.path}, not {over}" if over else ""
    return Combined(words, None if methods else f"\n{yaml.safe_dump(alone)}", told)


def check_flag(configs: Sequence[Config], typed: Mapping[str, str | None]) -> None:
    """Refuse the name of a network on the command line where a config holds arguments that were made for another.

    Args:
        configs: in their order.
        typed: argument of the backbone -> its value, of the flags.

    Raises:
        UsageError: see above.
    """
    named = next((config for config in _by_weight(configs) if config.network), None)
    if named is None or typed.get("name") in (None, named.network):
        return
    if left := [key for key in _own(named) if key not in typed]:
        raise UsageError(
            f"--{KEY}.name {typed['name']}: {_were(left, named)} chosen for {named.network}; "
            f"give --{KEY}.{left[0]} too, or another config"
        )


def flags(argument: str) -> list[str]:
    """Return the flags of an argument of the backbone: `init_args` may stand between the parts or not."""
    ways = product(("", ".init_args"), repeat=2)
    return [f"--model.recognizer{outer}.backbone{inner}.{argument}" for outer, inner in ways]


def _overruled(configs: Sequence[Config]) -> str:
    """Return a line where a config overrules the network of an earlier one; refuse it where a part would stay."""
    line, before = "", None
    for config in configs:
        if before is not None and config.network and config.network != before.network:
            mine, other = _inside(config.backbone, "init_args"), before.network
            if left := [key for key in _own(before) if key not in mine]:
                raise UsageError(
                    f"{config.path}: its network is {config.network}, but {_were(left, before)} chosen for {other}; "
                    f"for {other} with this method leave in {before.path}, of the recognizer, its backbone alone"
                )
            line = f"network: {config.network} of {config.path}, not {before.network} of {before.path}"
        before = config if config.network else before
    return line


def _by_weight(configs: Sequence[Config]) -> list[Config]:
    """Return the configs, the one first whose network counts."""
    last_first = list(reversed(configs))
    return [one for one in last_first if one.is_network] + [one for one in last_first if not one.is_network]


def _own(config: Config) -> list[str]:
    arguments = _inside(config.backbone, "init_args")
    return [key for key in BELONGS if not _is_open(arguments.get(key))]


def _were(keys: Sequence[str], config: Config) -> str:
    return f"{' and '.join(keys)} of {config.path} {'was' if len(keys) == 1 else 'were'}"


def _is_open(value: Any) -> bool:
    """Say whether a value fits any network."""
    return value in (None, {}, "pretrained", "none")


def _text(config: Config, backbone: dict[str, Any] | None) -> str | None:
    """Return the text of a config with another backbone, or without one; None where nothing is left."""
    model = dict(config.tree["model"])
    if backbone is None:
        del model["recognizer"]
    else:
        arguments = {**_inside(config.recognizer, "init_args"), "backbone": backbone}
        model["recognizer"] = {**config.recognizer, "init_args": arguments}
    tree = (
        {**config.tree, "model": model} if model else {key: one for key, one in config.tree.items() if key != "model"}
    )
    return f"\n{yaml.safe_dump(tree, sort_keys=False)}" if tree else None


def _inside(tree: Any, key: str) -> dict[str, Any]:
    found = tree.get(key) if isinstance(tree, dict) else None
    return found if isinstance(found, dict) else {}
