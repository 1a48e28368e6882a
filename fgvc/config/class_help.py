"""`--KEY.help` of a part inside a part: what the class takes that the words choose there."""

import importlib
import inspect
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jsonargparse
import yaml

from fgvc.config.meanings import nearest_argument
from fgvc.config.words import given
from fgvc.data.sources.base import named_sources
from fgvc.errors import UsageError
from fgvc.methods.slots import known_classes


class _Part(NamedTuple):
    """A place for a part: the base of its classes, the class that stands there, how many arguments it is made with."""

    base: type
    chosen: type
    made_with: int = 0


def asked_for(words: Sequence[str], own: Sequence[str]) -> str:
    """Return the key whose help is asked for by a word, or an empty string.

    Args:
        words: of a command line; of a word with a class, `--KEY.help=CLASS`, the parser takes care.
        own: the flags of the parser, of which it answers those of the trainer itself.
    """
    for i, word in enumerate(words):
        key = word.removeprefix("--").removesuffix(".help")
        is_help = word.startswith(("--model.", "--data.")) and word.endswith(".help")
        if is_help and (word not in own or words[i + 1 : i + 2] == [] or words[i + 1].startswith("-")):
            return key
    return ""


def print_help(prog: str, key: str, words: Sequence[str], groups: dict[str, type]) -> None:
    """Print what a part takes, and which other classes fit its place.

    Args:
        prog: the command.
        key: dotted, as `model.recognizer.backbone`, with or without `init_args`.
        words: of the command line, whose configs and flags choose the classes.
        groups: `model` and `data` -> their class.

    Raises:
        UsageError: there is no such key.
    """
    top, *names = [name for name in key.split(".") if name != "init_args"]
    part, path, owner = _Part(groups[top], groups[top]), top, top
    trees = list(_trees(words, top))
    for name in names:
        hints = typing.get_type_hints(part.chosen.__init__)  # type: ignore[misc]
        if name not in hints:
            near = nearest_argument(name, hints)
            raise UsageError(f"{path}.{name}: unknown key of {part.chosen.__name__}{near}")
        trees = [_below(tree, name) for tree in trees]
        default = inspect.signature(part.chosen.__init__).parameters[name].default  # type: ignore[misc]
        path = f"{path}.{name}"
        found = _part(hints[name], default, [*trees, *_typed(words, path)])
        if found is None:  # a number or a text: the class that it belongs to explains it
            break
        part, owner = found, path
    parser = jsonargparse.ArgumentParser(prog=prog, usage=f"{prog} ... [--{owner}.KEY VALUE ...]", add_help=False)
    if not inspect.isabstract(part.chosen):
        linked = {"seed", "image_size", "taxonomy", "class_counts"} if part.chosen in groups.values() else set()
        skip = linked & set(inspect.signature(part.chosen).parameters) if linked else {part.made_with}
        parser.add_class_arguments(part.chosen, owner, skip=skip)
    parser.print_help()
    if others := sorted(name for name, one in _classes().items() if owner != top and issubclass(one, part.base)):
        print(f"\nclasses that fit --{owner}: {', '.join(others)}")


def _classes() -> dict[str, type]:
    return known_classes() | named_sources()


def _part(hint: Any, default: Any, nodes: Sequence[Any]) -> _Part | None:
    """Return the place that an argument is, by its type, its default and what configs and words put there."""
    for one in (hint, *typing.get_args(hint)):
        made_with, made = 0, one
        if typing.get_origin(one) is Callable or getattr(typing.get_origin(one), "__name__", "") == "Callable":
            *_, made = typing.get_args(one)
            made_with = len(typing.get_args(one)[0])
        if isinstance(made, type) and made.__module__.startswith("fgvc."):
            named = [node.get("class_path") if isinstance(node, dict) else node for node in nodes]
            name = next((str(name) for name in reversed(named) if name), "")
            chosen = _class(name) if name else default if isinstance(default, type) else made
            return _Part(made, chosen, made_with)
    return None


def _class(name: str) -> type:
    if name in _classes():
        return _classes()[name]
    module, _, last = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), last)  # type: ignore[no-any-return]
    except (ImportError, AttributeError, ValueError):
        raise UsageError(f"no class {name!r}{nearest_argument(name, _classes())}") from None


def _trees(words: Sequence[str], group: str) -> Iterator[Any]:
    """Yield a group of each config: its path or its text stands among the words."""
    for flag in given(words, "--config", "-c"):
        text = flag.value or ""
        if not text.startswith("\n"):
            text = Path(text).read_text(encoding="utf-8-sig")
        yield {"init_args": yaml.safe_load(text).get(group)}


def _below(tree: Any, name: str) -> Any:
    inner = tree.get("init_args") if isinstance(tree, dict) else None
    return inner.get(name) if isinstance(inner, dict) else None


def _typed(words: Sequence[str], path: str) -> list[str | None]:
    """Return the classes that flags name at a key, with or without `init_args` between its parts."""
    flags = [word for word in words if word.startswith("--") and not word.endswith(".help")]
    names = {flag.partition("=")[0] for flag in flags}
    same = [name for name in names if name.replace(".init_args", "").removesuffix(".class_path") == f"--{path}"]
    return [flag.value for flag in given(words, *same)]
