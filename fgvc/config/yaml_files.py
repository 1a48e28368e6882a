"""Checks of a config file as YAML: readable, no key twice, every class written as a class; not what the keys mean."""

import re
import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from fgvc.errors import UsageError, did_you_mean
from fgvc.files.shipped import PACKAGE

MAX_NODES = 20_000
"""Of a config, its aliases followed: nine lines of YAML can stand for a thousand million."""
MAX_DEPTH = 50
MAX_BYTES = 10 * 2**20
CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")
SLOTS = ("fgvc.methods.", "fgvc.data.sources.")
"""Where the classes live that are found by their short names."""
_OWN_CLASS = re.compile(r"""(\bclass_path["']?\s*:\s*["']?)(fgvc(?:\.\w+)*)\.(\w+)""")


class _Loader(yaml.SafeLoader):
    """YAML without other programs' tags, and without a key given twice, of which PyYAML would keep only the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping; a key that is written twice is refused with both lines."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                if key.value in lines:
                    said = f"the key {key.value[:60]!r} is given twice, first in line {lines[key.value]}"
                    raise yaml.MarkedYAMLError(problem=said, problem_mark=key.start_mark)
                lines[key.value] = line
        return super().construct_mapping(node, deep)


def check_file(path: Path) -> Path:
    """Return the path of a config that is a mapping in valid YAML.

    Raises:
        UsageError: it cannot be read, is no YAML, holds no keys, a key twice, or a class that is not written as one.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > MAX_BYTES:
        raise UsageError(f"{path}: more than {MAX_BYTES // 2**20} MiB; that is no config")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}: line {line}: not UTF-8 text; save the file as UTF-8") from None
    found = _parsed(path, text)
    if not isinstance(found, dict):
        kind = "nothing" if found is None else f"a {type(found).__name__}"
        raise UsageError(f"{path}: holds {kind}; a config holds keys such as data, model and trainer")
    _Tree(path).check(found, "", 0)
    return path


def read_text(path: Path) -> str:
    """Return the text of a checked config in which every class of fgvc is found by today's modules.

    A run of before stores paths such as `fgvc.recognizers.ra_cnn.RACNN`. Where that module is gone, the short name is
    left: it is found in whatever folder the class lives now. All other paths, also a user's own, stay as they are.
    """

    def renamed(match: re.Match[str]) -> str:
        module = PACKAGE.joinpath(*match[2].split(".")[1:])
        return match[0] if module.with_suffix(".py").is_file() else match[1] + match[3]

    return _OWN_CLASS.sub(renamed, path.read_text(encoding="utf-8-sig"))


def as_word(path: Path) -> str:
    """Return what a parser is given for a checked config: its path, or its text where `read_text` changes it."""
    text = read_text(path)
    return str(path) if text == path.read_text(encoding="utf-8-sig") else f"\n{text}"  # no text begins as a flag does


def with_short_names(text: str) -> str:
    """Return a config in which the parts of a method and the data source stand by their short names.

    Such a config outlives a move of files. A name stays long where a user's own class of the same name is loaded: a
    short one could mean either. Others, of callbacks say, stay long too: nothing imports all modules of their folders.

    Args:
        text: the YAML of a parsed config, so every class in it is loaded.
    """

    def shortened(match: re.Match[str]) -> str:
        own = getattr(sys.modules.get(match[2]), match[3], None)
        short = match[2].startswith(SLOTS) and isinstance(own, type) and _is_unique(own)
        return match[1] + match[3] if short else match[0]

    return _OWN_CLASS.sub(shortened, text)


def _is_unique(own: type) -> bool:
    """Return whether no other class that fits the same slot has the name of this one."""
    queue, seen = [base for base in own.__mro__ if base.__module__.startswith("fgvc.")], set()
    while queue:
        one = queue.pop()
        seen |= {one} if one.__name__ == own.__name__ else set()
        queue += one.__subclasses__()
    return len(seen) == 1


def _parsed(path: Path, text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        tab = "; indent with spaces, not with tabs" if "'\\t'" in str(error.problem) else ""
        raise UsageError(f"{path}: line {line}: no valid YAML ({_short(error.problem)}){tab}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: no valid YAML ({_short(error)})") from None
    except RecursionError:
        raise UsageError(f"{path}: nested too deep for a config") from None
    except (
        ValueError,
        OverflowError,
        TypeError,
        AttributeError,
        KeyError,
        LookupError,
    ) as error:  # of a tag such as !!int
        raise UsageError(f"{path}: no valid YAML (a value is not what its tag says: {_short(error)})") from None


class _Tree:
    """The checks of a file's content."""

    def __init__(self, path: Path) -> None:
        self.path, self.nodes = path, 0

    def check(self, value: Any, where: str, depth: int) -> None:
        """Check a value and all below it; `where` is its dotted key."""
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            raise UsageError(f"{self.path}: {where[:80]}: too many values, or nested too deep, for a config")
        if isinstance(value, str) and ("\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value)):
            raise UsageError(f"{self.path}: {where}: {ascii(value)[:60]}; a text without null or half characters")
        if isinstance(value, list | tuple | set):
            for one in value:
                self.check(one, where, depth + 1)
        if isinstance(value, dict):
            self._mapping(value, where, depth)

    def _mapping(self, value: dict[Any, Any], where: str, depth: int) -> None:
        place = f"{self.path}: {where}: " if where else f"{self.path}: "
        for key in value:
            if not isinstance(key, str) or not key.strip("."):
                raise UsageError(f"{place}the key {str(key)[:60]!r} is no name")
        if "class_path" in value or "init_args" in value:
            for key in value.keys() - set(CLASS_KEYS):
                near = did_you_mean(key, CLASS_KEYS[:2], limit=1) or "; arguments of the class stand below init_args"
                raise UsageError(f"{place}unknown key {key[:60]!r} beside class_path and init_args{near}")
            if not isinstance(value.get("class_path", ""), str):
                raise UsageError(f"{place}class_path: {_shown(value['class_path'])}; it is the name of a class")
            if not isinstance(value.get("init_args") or {}, dict):
                raise UsageError(
                    f"{place}init_args: {_shown(value['init_args'])}; it holds keys, the class's arguments"
                )
        for key, one in value.items():
            self.check(one, f"{where}.{key}".lstrip("."), depth + 1)


def _shown(value: Any) -> str:
    kinds = {dict: "a mapping", list: "a list"}
    kind = next((name for known, name in kinds.items() if isinstance(value, known)), "")
    return kind or ("null" if value is None else _short(value))


def _short(value: Any) -> str:
    return " ".join(str(value).split())[:150]
