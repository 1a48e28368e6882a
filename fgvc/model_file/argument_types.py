"""Whether a plain value is what an argument of one of fgvc's classes takes, by the argument's annotation."""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

_WORDS = {int: "an integer", float: "a number", str: "a text", bool: "true or false", type(None): "null"}


def fits(value: Any, hint: Any, known: Mapping[str, type]) -> bool:
    """Say whether a plain value is of the kind that an annotation asks for.

    Args:
        value: plain data; a part is a mapping with `class_path` and `init_args`.
        hint: a resolved annotation; one that is none of those that fgvc's classes use takes nothing.
        known: short name -> class, for the parts.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return not isinstance(value, Mapping) or "class_path" not in value
    if origin in (Union, types.UnionType):
        return any(fits(value, one, known) for one in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is Callable:  # a slot: what it makes must be of the slot
        made = known.get(str(value.get("class_path"))) if isinstance(value, Mapping) else None
        return made is not None and issubclass(made, inner[-1])
    if origin is tuple:
        return _listed(value) and len(value) == len(inner) and all(map(fits, value, inner, [known] * len(inner)))
    if origin in (list, Sequence):
        return _listed(value) and all(fits(one, inner[0], known) for one in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(isinstance(key, str) for key in value) and "class_path" not in value
    if hint is float:
        return type(value) in (int, float)
    return hint in _WORDS and type(value) is hint


def words(hint: Any) -> str:
    """Return an annotation in words: `an integer or null`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(words(one) for one in inner)
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin is Callable:
        return f"the name and arguments of a {inner[-1].__name__}"
    if origin is tuple:
        return f"a list of {len(inner)}"
    if origin in (list, Sequence):
        return f"a list, each {words(inner[0])}"
    return "a mapping" if origin is dict else _WORDS.get(hint, str(hint))


def _listed(value: Any) -> bool:
    return isinstance(value, list | tuple)
