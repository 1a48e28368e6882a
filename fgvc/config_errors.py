"""What the config parser says, in one line: the key, what was found, the nearest match."""

import importlib
import inspect
import re
from collections.abc import Iterable

from fgvc.errors import did_you_mean

_CLASS = re.compile(r"class_path '([\w.]+)'|class_path='([\w.]+)'")


def in_one_line(error: Exception, keys: Iterable[str] = (), classes: Iterable[str] = ()) -> str:
    """Return the part of a parser's message that a person can act on.

    Args:
        error: what jsonargparse raised.
        keys: every key that the parser knows, dotted.
        classes: every short class name that a slot takes.
    """
    text = " ".join(str(error).split())
    where = ".".join(re.findall(r'[Pp]arser key "([^"]+)"', text)) or "config"
    if found := re.search(r"unrecognized arguments: (\S+)", text):
        key = found[1].lstrip("-").partition("=")[0]
        return f"{key}: unknown key{did_you_mean(key, keys)}"
    if found := re.search(r"(?:Option|[Kk]ey) '([^']+)' is not (?:accepted|expected)", text):
        allowed = _arguments(text) or list(keys)
        return f"{where}: unknown key {found[1]!r}{did_you_mean(found[1], allowed)}"
    if found := re.search(r"Expected a dot import path string: ([\w.]+)", text):
        return f"{where}: no class {found[1]!r}{did_you_mean(found[1], classes)}"
    if found := re.search(r"Expected an? (.+?)\. Got value: (.+)$", text):
        return f"{where}: {found[2][:80]!r} given, but it takes {_type(found[1])}"
    if found := re.search(r"(?:Required|missing)[^:]*: (.+)$", text):
        return f"{where}: missing {found[1][:200]}"
    return f"{where}: {text[:400]}"


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
        return f"a {found[1]}"
    if found := re.fullmatch(r"typing\.Literal\[(.+)\]", expected):
        return f"one of {found[1]}"
    return expected
