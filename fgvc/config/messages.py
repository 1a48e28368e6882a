"""The config parser's messages in one line: the key, what was found, the nearest match."""

import importlib
import inspect
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from fgvc.config.meanings import meant_key, nearest_argument, nearest_key
from fgvc.errors import did_you_mean
from fgvc.files.shipped import config_stems

LONGEST = 400  # characters of a message of a kind never seen
NOT_LINKED: Mapping[str, str] = MappingProxyType({})
_CLASS = re.compile(r"class_path '([\w.]+)'|class_path='([\w.]+)'")
_SLOT = re.compile(r"Type collections\.abc\.Callable\[\[[^]]*\], [\w.]+\] expects a function or a callable class: ")
_GOT = r"(?:\. Got value: | - Expected an? |$)"
_NO_CLASS = (  # said of a class that is written in another way than as a name, or as class_path with init_args
    r"Dict must include a class_path|unhashable type|is not iterable|has no attribute 'keys'|Key must be a string"
    r"|expects a function or a callable class|Not a valid subclass"
)
_TYPES = {
    "NoneType": "null", "int": "an int", "float": "a float", "str": "a text", "bool": "true or false", "list": "a list",
    "tuple": "a list",
}  # fmt: skip


def in_one_line(
    error: Exception, keys: Iterable[str] = (), classes: Iterable[str] = (), linked: Mapping[str, str] = NOT_LINKED
) -> str:
    """Return the part of a parser's message that a person can act on.

    Args:
        error: what jsonargparse raised.
        keys: every key that the parser knows, dotted.
        classes: every short class name that a slot takes.
        linked: keys that nobody writes -> the key from which they follow.
    """
    text = _SLOT.sub("", " ".join(str(error).split()))
    where = ".".join(re.findall(r'[Pp]arser key "([^"]+)"', text))
    where = linked.get(where, where)
    known = [key for key in keys if key not in linked and not key.endswith(".help")]
    return (
        _about_flags(text, known)
        or _about_links(text, linked)
        or _about_keys(text, where, known)
        or _about_groups(text, where)
        or _about_classes(text, where, list(classes))
        or _about_types(text, where)
        or _as_it_is(text, where)
    )


def _as_it_is(text: str, where: str) -> str:
    """Return a message of a kind never seen, cut short."""
    return f"{where or 'config'}: {text[:LONGEST]}"


def _about_flags(text: str, keys: list[str]) -> str | None:
    if found := re.search(r"[Uu]nrecognized arguments: (\S+)", text):
        flag = found[1].partition("=")[0]
        key = flag.lstrip("-")
        if key != flag and not flag.startswith(f"--{key}"):
            return f"{flag}: a flag begins with two dashes: --{key}"
        return f"{key}: unknown key{nearest_key(key, keys)}"
    if found := re.search(r"argument (-[^\s:/]+)\S*: expected (?:one|at least one) argument", text):
        what = "name the class" if found[1].endswith(".help") else "give a value"
        return f"{found[1]}: {what} after it"
    return None


def _about_links(text: str, linked: Mapping[str, str]) -> str | None:
    if found := re.search(r'Linked "([^"]+)" must be given via "([^"]+)"', text):
        return f"{found[1]}: follows from {found[2]}; give that"
    if (found := re.search(r"argument \S+ --> (\S+):", text)) and found[1] in linked:
        source = linked[found[1]]
        made = source.startswith("data.")  # not a key but what is built from keys
        return f"{found[1]}: " + (
            f"comes from {source} by itself; leave it out" if made else f"follows from {source}; give that"
        )
    return None


def _about_keys(text: str, where: str, keys: list[str]) -> str | None:
    if found := re.search(r"Group '([^']+)' does not accept option '([^']+)'", text):
        key = f"{found[1]}.{found[2]}"
        return f"{key}: unknown key{nearest_key(key, keys)}"
    if found := re.search(r"(?:Option|[Kk]ey) '([^']+)' is not (?:accepted|expected)", text):
        if where:
            return f"{where}: unknown key {found[1]!r}{nearest_argument(found[1], _arguments(text))}"
        return f"{found[1]}: unknown key{nearest_key(found[1], keys)}"
    if found := re.search(
        r"Union subtypes.*Problem with given class_path '[\w.]+': .*arguments are required: ([\w., ]+?)(?: - |$)", text
    ):
        return f"{where}: an entry lacks {' and '.join(found[1].split(', '))}"
    if found := re.search(r"arguments are required: ([\w., ]+)", text):
        missing = [f"{where}.{name}".lstrip(".") for name in found[1].strip().split(", ")]
        return f"missing {' and '.join(missing)}; give a --config that has it, or the flag --{missing[0]}"
    if found := re.search(r"Unable to load config ['\"](.+?)['\"](?: -|$)", text):
        top = where.partition(".")[0] or "config"
        meant = meant_key(top, keys)
        return f"{top}: {found[1][:80]!r} given, but it holds keys of its own, as in --{top}.KEY VALUE{meant}"
    if re.search("Empty nested key|Unexpected config", text):
        return "config: a key is empty, or holds nothing"
    return None


def _about_groups(text: str, where: str) -> str | None:
    """Return what is wrong with keys that stand together and may be left out together, such as `data.episodes`."""
    if not re.search(r"Subtypes: \[<class 'fgvc\.[\w.]+'>, <class 'NoneType'>\]", text):
        return None
    if found := re.search(r"Parser key \"[^\"]+\": Expected an? (<class '\w+'>)\. Got value: (.+?) - Expected", text):
        return f"{where}: {_quoted(found[2], [found[1]])} given, but it takes {_type(found[1])}"
    if found := re.search(r"Subtypes: \[(<class '\w+'>), <class 'NoneType'>\].*?Given value: (.+?) - Expected", text):
        return f"{where}: {_quoted(found[2], [found[1]])} given, but it takes {_type(found[1])} or null"
    given = text.rpartition("Given value: ")[2]
    return f"{where}: {_quoted(given, [])} given, but it holds keys of its own, as in --{where}.KEY VALUE"


def _about_classes(text: str, where: str, classes: list[str]) -> str | None:
    if found := re.search(r"No module named '([^']+)'", text):
        return f"{where}: no module {found[1]!r}; it must lie in this folder or be installed"
    if found := re.search(rf"(?:dot import path string|import path format): (.+?){_GOT}", text):
        name = found[1].rstrip(".")[:80]
        if name in classes:
            return f"{where}: {name} does not belong here"
        return f"{where}: no class {name!r}{_instead(where, name, classes)}"
    if found := re.search(rf"Expected an import path or a subclass spec, but got (.+?){_GOT}", text):
        return f"{where}: {found[1][:80]} given, but it takes the name of a class, or class_path with init_args"
    if re.search(_NO_CLASS, text):
        return f"{where}: no class; write class_path: NAME and, below init_args, its arguments"
    return None


def _instead(where: str, name: str, classes: list[str]) -> str:
    """Return what to write in place of a class that is none: a method's config, a class, the key of a network."""
    here = where == "model.recognizer"
    if here and name.lower() in config_stems():
        return f"; did you mean --config {name.lower()}?"
    return did_you_mean(name, classes) or (meant_key("network", [where]) if here else "")


def _about_types(text: str, where: str) -> str | None:
    if found := re.search(r"any of the Union subtypes.* Given value: ?(.*?)(?:\. Got value: |$)", text):
        types = re.findall(r"- Expected an? (.+?)(?=\. Got value: | - Expected| Given value type|$)", text)
        return f"{where}: {_quoted(found[1], types)} given, but it takes {_either(types)}"
    if found := re.search(rf"Expected an? ([^-]+?)\. Got value: ?(.*?){_GOT}", text):
        return f"{where}: {_quoted(found[2], [found[1]])} given, but it takes {_type(found[1])}"
    return None


def _arguments(text: str) -> list[str]:
    """Return the arguments of the innermost class that a message names."""
    named = [first or second for first, second in _CLASS.findall(text)]
    for path in named:
        module, _, name = path.rpartition(".")
        if module.startswith("fgvc."):
            return list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    return []


def _quoted(value: str, types: list[str]) -> str:
    """Return what was given; as a text, unless a text would have been taken or it is a list or a mapping."""
    plain = any("'str'" in one for one in types) or value[:1] in ("[", "{")
    return value[:80] if plain else repr(value[:80])


def _either(types: list[str]) -> str:
    return " or ".join(dict.fromkeys(map(_type, types)))


def _type(expected: str) -> str:
    if found := re.fullmatch(r"<class '([\w.]+)'>", expected):
        return _TYPES.get(found[1], f"a {found[1].rpartition('.')[2]}")
    if found := re.fullmatch(r"typing\.Literal\[(.+)\]", expected):
        return f"one of {found[1]}"
    return re.sub(r"tuple with (\d+) elements", r"a list of \1", expected)
