"""From the description that an older fgvc wrote to today's: a chain of pure functions, one per format number.

A new format is one more function here, one more key in `model_schema` and one more folder in `tests/stored`.
"""

import json
from collections.abc import Callable
from typing import Any

from fgvc.errors import UsageError

Described = dict[str, Any]


def _to_2(old: Described) -> Described:
    """Format 2 counts by which an answer can be vouched for."""
    return {"vouching": None, **old}


def _to_3(old: Described) -> Described:
    """Format 3 knows the hash of its weights, and a metric that is no number is null."""
    new = {"weights_sha256": None, **old}
    if "provenance" in old:
        new["provenance"] = without_nan(old["provenance"])
    return new


def _to_4(old: Described) -> Described:
    """Format 4 says where the probabilities of the coarse levels come from."""
    return {"readout": "own", **old}


def _to_5(old: Described) -> Described:
    """Format 5 names the filter of the evaluation resize, and heads pool as their network does unless they say how."""
    new = {**old}
    if isinstance(old.get("input"), dict):
        new["input"] = {"interpolation": "area", **old["input"]}
    if isinstance(old.get("architecture"), dict):
        new["architecture"] = _with_average(old["architecture"])
    return new


def _with_average(plain: Any) -> Any:
    """Write down what was the default of every part that pools: the mean, and for some recognizers a LinearHead."""
    if not isinstance(plain, dict):
        return plain
    new = {key: _with_average(value) for key, value in plain.items()}
    name, arguments = new.get("class_path"), new.get("init_args", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return new
    average = {"class_path": "AveragePooling"}
    if name in ("WholeImage", "RACNN", "FCAN"):
        head = {"class_path": "LinearHead", "init_args": {"pooling": average}}
        return {**new, "init_args": {"head": head, **arguments}}
    if name.endswith("Head") or name == "SpatialTransformer":
        return {**new, "init_args": {"pooling": average, **arguments}}
    return new


def _to_6(old: Described) -> Described:
    """Format 6 weighs views, and says whether cells lie where the network looks: before, they shared the image."""
    new = {"views": {}, **old}
    if isinstance(old.get("architecture"), dict):
        new["architecture"] = _with_even_cells(old["architecture"])
    return new


def _with_even_cells(plain: Any) -> Any:
    if not isinstance(plain, dict):
        return plain
    new = {key: _with_even_cells(value) for key, value in plain.items()}
    arguments = new.get("init_args", {})
    if new.get("class_path") in ("SCDABox", "FCAN", "WSDAN") and isinstance(arguments, dict):
        return {**new, "init_args": {"true_places": False, **arguments}}
    return new


STEPS: dict[int, Callable[[Described], Described]] = {1: _to_2, 2: _to_3, 3: _to_4, 4: _to_5, 5: _to_6}
"""Format -> what brings a description of it to the next one."""
OLDEST, FORMAT = min(STEPS), max(STEPS) + 1


def migrate(described: Described) -> Described:
    """Return a description as today's fgvc would have written it.

    Raises:
        UsageError: its format number is missing, or none that this fgvc reads.
    """
    number = described.get("format")
    if type(number) is not int:  # True is an int too
        found = "missing" if "format" not in described else repr(number)[:40]
        raise UsageError(f"format: {found}; an integer of {OLDEST} to {FORMAT}: is it an fgvc model description?")
    if number > FORMAT:
        raise UsageError(f"format {number} is newer than this fgvc reads ({OLDEST} to {FORMAT}); update fgvc")
    if number < OLDEST:
        raise UsageError(f"format {number} is older than this fgvc reads ({OLDEST} to {FORMAT}); use an older fgvc")
    for step in range(number, FORMAT):
        described = STEPS[step](described)
    return {**described, "format": FORMAT}


def without_nan(plain: Any) -> Any:
    """Return plain data in which NaN and the infinities, which JSON does not know, are null."""
    return json.loads(json.dumps(plain), parse_constant=lambda name: None)
