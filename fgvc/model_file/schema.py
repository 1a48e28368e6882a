"""What may stand in `fgvc.json`, and nothing else does: every key, its type and its range. Torch is not loaded.

`fgvc.model_file.architecture`, which knows the classes, says whether its names and arguments are fgvc's own.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from fgvc.confidence.vouching import Vouching
from fgvc.errors import UsageError, did_you_mean
from fgvc.images.sides import MAX_SIDE
from fgvc.model_file.migrations import FORMAT
from fgvc.taxonomy.limits import MAX_LEAVES, MAX_LEVELS, too_large

MAX_DEPTH = 16
"""Of an architecture or of what is told of a model's origin."""
MAX_NUMBER, MAX_LIST = 100_000, 1000
"""Of an argument of an architecture: widths, numbers of blocks."""

Check = Callable[[Any, str], None]
_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # U+DC80 to U+DCFF: bytes of a file name that is no UTF-8


def parse(text: str) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: no JSON, a key that is given twice, or too deep.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except RecursionError:
        raise ValueError("nested too deep") from None


def check(described: Any) -> None:
    """Check a description of today's format.

    Raises:
        UsageError: a key that is missing, unknown, of another type or out of range, with what was found.
    """
    _closed(described, "", _KEYS)
    levels = described["taxonomy"]["levels"]
    for level in described["temperatures"]:
        if level not in levels:
            raise UsageError(f"temperatures.{_key(level)}: no level of the taxonomy; it has {', '.join(levels)}"[:300])


def _closed(value: Any, where: str, checks: Mapping[str, Check]) -> None:
    found = _mapping(value, where or "description")
    prefix = f"{where}." if where else ""
    for key in found:
        if key not in checks:
            raise UsageError(f"{prefix}{_key(key)}: unknown key{did_you_mean(key[:80], checks, limit=1)}")
    for key, one in checks.items():
        if key not in found:
            raise UsageError(f"{prefix}{key}: missing")
        one(found[key], f"{prefix}{key}")


def _text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise UsageError(f"{where}: {shown(value)}; a text")
    if _SURROGATE.search(value):
        raise UsageError(f"{where}: {ascii(value)[:60]}; a text without half characters (lone surrogates)")


def _whole(least: int, most: int) -> Check:
    def checked(value: Any, where: str) -> None:
        if type(value) is not int or not least <= value <= most:
            raise UsageError(f"{where}: {shown(value)}; an integer of {least} to {most}")

    return checked


def _number(above: float, most: float, words: str) -> Check:
    def checked(value: Any, where: str) -> None:
        if type(value) not in (int, float) or not above < value <= most:
            raise UsageError(f"{where}: {shown(value)}; a number {words}")

    return checked


def _one_of(*words: str) -> Check:
    def checked(value: Any, where: str) -> None:
        if value not in words:
            raise UsageError(f"{where}: {shown(value)}; {' or '.join(map(repr, words))}")

    return checked


def _matching(pattern: str, words: str) -> Check:
    def checked(value: Any, where: str) -> None:
        if value is not None and not (isinstance(value, str) and re.fullmatch(pattern, value)):
            raise UsageError(f"{where}: {shown(value)}; {words}, or null")

    return checked


def _by_name(check: Check) -> Check:
    def checked(value: Any, where: str) -> None:
        for name, one in _mapping(value, where).items():
            check(one, f"{where}.{_key(name)}")

    return checked


def _levels(value: Any, where: str) -> None:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_LEVELS:
        raise UsageError(f"{where}: {shown(value)}; a list of 1 to {MAX_LEVELS} names, coarse to fine")
    for i, name in enumerate(value):
        _text(name, f"{where}[{i}]")
    if len(set(value)) < len(value):
        raise UsageError(f"{where}: {shown(value)}; a name appears twice")


def _taxonomy(value: Any, where: str) -> None:
    _closed(value, where, {"levels": _levels, "leaves": lambda value, where: None})
    levels, leaves = value["levels"], value["leaves"]
    if not isinstance(leaves, list) or not 1 <= len(leaves) <= MAX_LEAVES:
        raise UsageError(f"{where}.leaves: {shown(leaves)}; a list of 1 to {MAX_LEAVES} classes")
    if large := too_large(len(levels), len(leaves)):
        raise UsageError(f"{where}: {large}")
    for i, path in enumerate(leaves):
        if not isinstance(path, list) or len(path) != len(levels):
            raise UsageError(f"{where}.leaves[{i}]: {shown(path)}; a list of {len(levels)} names, one per level")
        for name in path:
            _text(name, f"{where}.leaves[{i}]")
    seen = {tuple(path): i for i, path in enumerate(leaves)}
    if len(seen) < len(leaves):
        i = next(i for i, path in enumerate(leaves) if seen[tuple(path)] != i)
        raise UsageError(f"{where}.leaves[{i}]: {shown(' > '.join(leaves[i]))} appears twice")


def _plain(most: float, longest: int) -> Check:
    """Nested mappings and lists of texts, numbers up to `most`, true, false and null."""

    def _checked(value: Any, where: str, depth: int = 0) -> None:
        if depth > MAX_DEPTH:
            raise UsageError(f"{where[:80]}: nested deeper than {MAX_DEPTH}")
        if isinstance(value, dict):
            for key, one in value.items():
                _text(key, where)
                _checked(one, f"{where}.{_key(key)}", depth + 1)
        elif isinstance(value, list):
            if len(value) > longest:
                raise UsageError(f"{where}: {shown(value)}; at most {longest} entries")
            for i, one in enumerate(value):
                _checked(one, f"{where}[{i}]", depth + 1)
        elif isinstance(value, str):
            _text(value, where)
        elif isinstance(value, int | float) and not abs(value) <= most:  # NaN is refused as well
            raise UsageError(f"{where}: {shown(value)}; a number of at most {most:g}")

    return _checked


def _provenance(value: Any, where: str) -> None:
    """For people, so any plain data; but what `fgvc info` reads of it is what it looks like."""
    _plain(1e300, MAX_LEAVES)(_mapping(value, where), where)
    for key, one in _TOLD.items():
        if key in value:
            one(value[key], f"{where}.{key}")
    calibration = value.get("calibration", {})
    for key, one in _CALIBRATED.items():
        if key in _mapping(calibration, f"{where}.calibration"):
            one(calibration[key], f"{where}.calibration.{key}")


def _score(value: Any, where: str) -> None:
    if value is not None and type(value) not in (int, float):
        raise UsageError(f"{where}: {shown(value)}; a number or null")


def _view(value: Any, where: str) -> None:
    _closed(value, where, {"temperature": _number(0, 1e6, "above 0"), "weight": _number(0, 1, "above 0, at most 1")})


def _vouching(value: Any, where: str) -> None:
    if value is not None:
        Vouching.from_plain(value)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: {shown(value)}; a mapping")
    return value


def shown(value: Any) -> str:
    """Return a value as a message quotes it: short, whatever it is."""
    if isinstance(value, dict | list):
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
    if isinstance(value, str):
        return repr(value[:60])
    return "an integer of many digits" if type(value) is int and abs(value) >= 10**20 else json.dumps(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[\w /-]{1,60}", key) else repr(key[:60])


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twin = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twin[:60]!r} is given twice")
    return found


_side = _whole(1, MAX_SIDE)
_rate = _number(0, 1, "above 0, at most 1")
_errors = _by_name(_score)
_TOLD: dict[str, Check] = {"run": _text, "checkpoint": _text, "metrics": _by_name(_score), "packages": _by_name(_text)}
_CALIBRATED: dict[str, Check] = {
    "split": _text, "images": _whole(0, 2**53), "ece_before": _errors, "ece_after": _errors,
    "gains": _by_name(_plain(MAX_NUMBER, MAX_LIST)), "readout_gain": _plain(1e300, 2),
}  # fmt: skip
_KEYS: dict[str, Check] = {
    "format": _whole(FORMAT, FORMAT),
    "fgvc_version": _text,
    "architecture": _plain(MAX_NUMBER, MAX_LIST),
    "image_size": _side,
    "input": lambda value, where: _closed(
        value,
        where,
        {
            "size": _side,
            "fit": _one_of("crop", "squash"),
            "crop_fraction": _rate,
            "interpolation": _one_of("area", "bilinear", "bicubic"),
        },
    ),
    "taxonomy": _taxonomy,
    "temperatures": _by_name(_number(0, 1e6, "above 0")),
    "views": lambda value, where: _by_name(_view)(value, where),
    "readout": _one_of("own", "marginal"),  # LINEAGE_READOUTS, written out: it would load torch
    "provenance": _provenance,
    "vouching": _vouching,
    "weights_sha256": _matching("[0-9a-f]{64}", "64 hexadecimal digits"),
}
