"""What `fgvc info` prints: the facts of a model as lines of at most 80 characters."""

import shlex
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from fgvc.files.lines import printable
from fgvc.report.run import answer_words

WIDTH = 80
SCORES = 12
"""How many scores are shown; a table of all is in the run folder."""


def page(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines.

    Args:
        found: see `fgvc.report.model_facts.about`, and `weights`.
    """
    yield printable(found["model"])
    yield from _section("what it is", _is(found))
    yield from _section("what it knows", _knows(found["levels"]))
    yield from _section("how good it is", _scores(found))
    yield from _section("where it came from", _came(found))


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    yield ""
    yield title
    yield from lines


def _is(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _tree("", found["architecture"], 2)
    how, weights = found["input"], found["weights"]
    unlike = _unlike_inputs(found["architecture"])
    part = "" if how["crop_fraction"] == 1 else f"{100 * how['crop_fraction']:g} % of "
    cut = f"{part}its centred square" if how["fit"] == "crop" else f"{part or 'all of '}it, squashed to a square"
    seen = "" if how["size"] == found["image_size"] else f", seen at {found['image_size']} px"
    one = f"{cut}, {how['size']} px{seen}, {how['interpolation']}"
    yield from _fact("photograph", f"as each member asks for it: {unlike}" if unlike else one)
    yield from _fact("answer", printable(answer_words(found["readout"], [*found["levels"]])))
    yield from _fact(
        "weights",
        f"{_many(weights['numbers'])} numbers in {weights['tensors']} tensors ({', '.join(weights['types'])}), "
        f"{_size(weights['bytes'])}",
    )
    unchecked = "" if weights["sha256_checked"] else f" (format {found['format']} stored none to compare with)"
    yield from _fact("sha256", f"{weights['sha256']}{unchecked}")
    yield from _fact("format", f"{found['format']}, written by fgvc {printable(found['fgvc_version'])}")


def _unlike_inputs(plain: Any) -> str:
    """Return in words how the members of an ensemble see a photograph; "" where all see it alike, or for one model."""
    given = plain.get("init_args") if isinstance(plain, dict) else None
    inputs = given.get("inputs") if isinstance(given, dict) else None
    if not isinstance(inputs, list) or not all(isinstance(one, dict) for one in inputs):
        return ""
    told = list(
        dict.fromkeys(" ".join(f"{value}{' px' * (key == 'size')}" for key, value in one.items()) for one in inputs)
    )
    return printable("; ".join(told)) if len(told) > 1 else ""


def _tree(name: str, part: Any, indent: int) -> Iterator[str]:
    """Yield a class with its plain arguments, and its parts below it."""
    given = part.get("init_args") if isinstance(part, dict) else None
    arguments = given if isinstance(given, dict) else {}
    plain = [f"{key}={_value(one)}" for key, one in arguments.items() if one is not None and not _parts(key, one)]
    head = f"{name}: " if name else ""
    title = part.get("class_path") if isinstance(part, dict) else part
    yield from _wrapped(printable(f"{head}{title}({', '.join(plain)})"), indent, indent + 4)
    for key, one in arguments.items():
        for part_name, below in _parts(key, one):
            yield from _tree(part_name, below, indent + 2)


def _is_part(value: Any) -> bool:
    return isinstance(value, dict) and "class_path" in value


def _parts(name: str, value: Any) -> list[tuple[str, Any]]:
    """Return the parts that an argument is, with a name each; none where it is plain data."""
    if isinstance(value, list) and value and all(map(_is_part, value)):
        return [(f"{name} {i}", one) for i, one in enumerate(value, start=1)]
    return [(name, value)] if _is_part(value) else []


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def _knows(levels: Mapping[str, Any]) -> Iterator[str]:
    for level, one in levels.items():
        more = ", ..." if one["classes"] > len(one["first"]) else ""
        names = ", ".join(printable(name) for name in one["first"]) + more
        yield from _fact(printable(level), f"{one['classes']}: {names}")
    yield "  all of them: fgvc info MODEL --classes"


def _scores(found: Mapping[str, Any]) -> Iterator[str]:
    told = False
    for title, scores in (("when it was trained", found["metrics"]), ("on the test images", found["test"])):
        if scores:
            told = True
            yield f"  {title}"
            for name, score in list(scores.items())[:SCORES]:
                number = "not a number" if score is None else format(score, ".4f")
                yield from _wrapped(f"{printable(name):<40} {number:>12}", 4, 8)
            if len(scores) > SCORES:
                yield f"    and {len(scores) - SCORES} more: fgvc info MODEL --json"
    calibration = found["calibration"]
    if calibration:
        told = True
        images, split = calibration.get("images", "?"), printable(calibration.get("split", "?"))
        before, after = calibration.get("ece_before", {}), calibration.get("ece_after", {})
        how = f"calibrated on {images} {split} images, too few to measure the error"
        if before:
            how = f"calibration error, before and after calibrating on {images} {split} images, on the held-out half"
        yield from _wrapped(how, 2, 4)
        for level, error in before.items():
            yield from _wrapped(f"{printable(level):<40} {_digits(error)} -> {_digits(after.get(level))}", 4, 8)
    if found["vouched"]:
        told = True
        yield "  what can be vouched for (fgvc predict --precision)"
        for one in found["vouched"]:
            asked = f"{100 * one['precision']:g} % right"
            if one["answered"] is None:
                yield f"    {asked}: not with these {one['images']} calibration images"
            else:
                share = f"{100 * one['answered']:.1f} % of {one['images']} images answered"
                yield from _wrapped(f"{asked}: {share} (probability {one['probability']:.3f} or more)", 4, 8)
    if not told:
        yield "  nothing is known: no scores, no calibration"


def _came(found: Mapping[str, Any]) -> Iterator[str]:
    provenance = found["provenance"]
    for key in ("run", "checkpoint"):
        if key in provenance:
            yield from _fact(key, printable(provenance[key]))
    yield from _members(provenance)
    if found["data"]:
        yield from _fact("data", printable(found["data"]))
    date = provenance.get("date")
    yield from _fact("trained" if date else "file dated", printable(str(date or found["written"])))
    packages = provenance.get("packages", {})
    versions = [f"{name} {packages[name]}" for name in ("fgvc", "torch", "timm") if name in packages]
    if "python" in provenance:
        versions.append(f"Python {provenance['python']}")
    if versions:
        yield from _fact("made with", printable(", ".join(versions)))
    if "platform" in provenance:
        yield from _fact("on", printable(provenance["platform"]))
    command = provenance.get("command")
    if isinstance(command, list):
        yield from _fact("command", printable(shlex.join(map(str, command))))


def _members(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each model that an ensemble or a soup was made of."""
    made = provenance.get("soup")
    members = made.get("members") if isinstance(made, dict) else provenance.get("members")
    for one in members if isinstance(members, list) else []:
        if isinstance(one, dict):
            metrics = one.get("metrics")
            scores = metrics if isinstance(metrics, dict) else {key: one[key] for key in one if key.endswith("/top1")}
            told = [f"{name} {_digits(score)}" for name, score in scores.items() if isinstance(score, int | float)][:1]
            left = "" if one.get("kept", True) else " (left out)"
            yield from _fact("member", printable(f"{one.get('path')}{left} {' '.join(told)}"))


def _fact(name: str, text: str) -> Iterator[str]:
    yield from _wrapped(f"{name:<11} {text}", 2, 14)


def _wrapped(text: str, first: int, rest: int) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=" " * first, subsequent_indent=" " * rest, break_on_hyphens=False)


def _many(number: int) -> str:
    return f"{number / 1e6:.1f} million" if number >= 1e6 else f"{number:,}"


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"


def _digits(error: float | None) -> str:
    return "unknown" if error is None else f"{error:.3f}"
