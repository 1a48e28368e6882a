"""What the config parser says, in one line: the key, what was found, the nearest match."""

import importlib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from fgvc.errors import UsageError, did_you_mean

_CLASS = re.compile(r"class_path '([\w.]+)'|class_path='([\w.]+)'")


def check_file(path: Path) -> Path:
    """Return the path of a config that is a mapping in valid YAML.

    Raises:
        UsageError: it cannot be read, is no YAML, or holds no keys.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UsageError(f"{path}: line {line}: no valid YAML ({error.problem})") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise UsageError(f"{path}: holds {found}; a config holds keys such as data, model and trainer")
    return path


def in_one_line(error: Exception, keys: Iterable[str] = (), classes: Iterable[str] = ()) -> str:
    """Return the part of a parser's message that a person can act on.

    Args:
        error: what jsonargparse raised.
        keys: every key that the parser knows, dotted.
        classes: every short class name that a slot takes.
    """
    text = " ".join(str(error).split())
    where = ".".join(re.findall(r'[Pp]arser key "([^"]+)"', text))
    if key := _unknown_key(text, where):
        return f"{key}: unknown key{did_you_mean(key, keys, limit=1)}"
    if found := re.search(r"(?:Option|[Kk]ey) '([^']+)' is not (?:accepted|expected)", text):
        return f"{where}: unknown key {found[1]!r}{did_you_mean(found[1], _arguments(text))}"
    if found := re.search(r"Expected a dot import path string: ([\w.]*\w)", text):
        return f"{where}: {_no_class(found[1], list(classes))}"
    if found := re.search(r"No module named '([^']+)'", text):
        return f"{where}: no module {found[1]!r}; it must lie in this folder or be installed"
    if found := re.search(r"any of the Union subtypes.* Given value: (.+?)(?:\. Got value: |$)", text):
        types = re.findall(r"- Expected an? (.+?)(?= - Expected| Given value type)", text)
        return f"{where}: {found[1][:80]!r} given, but it takes {' or '.join(dict.fromkeys(map(_type, types)))}"
    if found := re.search(r"Expected an? ([^-]+?)\. Got value: (.+?)(?:\. Got value: |$)", text):
        return f"{where}: {found[2][:80]!r} given, but it takes {_type(found[1])}"
    if found := re.search(r"arguments are required: ([\w., ]+)", text):
        missing = [f"{where}.{name}".lstrip(".") for name in found[1].split(", ")]
        return f"missing {' and '.join(missing)}; give a --config that has it, or the flag --{missing[0]}"
    return f"{where or 'config'}: {text[:400]}"


def _unknown_key(text: str, where: str) -> str | None:
    """Return the dotted key that the parser does not know at all, as opposed to one of a class's arguments."""
    if found := re.search(r"[Uu]nrecognized arguments: (\S+)", text):
        return found[1].lstrip("-").partition("=")[0]
    if found := re.search(r"Group '([^']+)' does not accept option '([^']+)'", text):
        return f"{found[1]}.{found[2]}"
    found = None if where else re.match(r"(?:Option|[Kk]ey) '([^']+)' is not (?:accepted|expected)", text)
    return found[1] if found else None


def _no_class(name: str, classes: list[str]) -> str:
    if name in classes:
        return f"{name} does not belong here"
    return f"no class {name!r}{did_you_mean(name, classes)}"


def _arguments(text: str) -> list[str]:
    """Return the arguments of the innermost class that a message names."""
    named = [first or second for first, second in _CLASS.findall(text)]
    for path in named:
        module, _, name = path.rpartition(".")
        if module.startswith("fgvc."):
            return list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    return []


def _type(expected: str) -> str:
    if found := re.fullmatch(r"<class '([\w.]+)'>", expected):
        return {"NoneType": "null", "int": "an int"}.get(found[1], f"a {found[1]}")
    if found := re.fullmatch(r"typing\.Literal\[(.+)\]", expected):
        return f"one of {found[1]}"
    return expected
