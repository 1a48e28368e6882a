"""Flags that are on or off: `--overwrite`, `--overwrite true` and `--overwrite=true` are one, in every command."""

from argparse import ArgumentParser
from collections.abc import Collection, Sequence

ON, OFF = ("true", "True", "TRUE"), ("false", "False", "FALSE")


def bare(words: Sequence[str], switches: Collection[str]) -> list[str]:
    """Return the words with each switch alone where it is on, and without it where it is off.

    Args:
        words: of a command line; a word after a switch that is neither true nor false is no part of it.
        switches: flags with their dashes.
    """
    found: list[str] = []
    rest = list(words)
    while rest:
        name, equals, value = rest[0].partition("=")
        del rest[0]
        if name not in switches:
            found.append(f"{name}{equals}{value}")
            continue
        if not equals and rest and rest[0] in (*ON, *OFF):
            value = rest.pop(0)
        found += [] if value in OFF else [name] if not value or value in ON else [f"{name}={value}"]
    return found


def valued(words: Sequence[str], switches: Collection[str]) -> list[str]:
    """Return the words with `=true` behind each switch that stands alone: at the end, or before another flag.

    Args:
        words: of a command line.
        switches: flags with their dashes, which the parser reads with a value.
    """
    following = [*words[1:], "--"]
    return [
        f"{word}=true" if word in switches and after.startswith("--") else word
        for word, after in zip(words, following, strict=True)
    ]


def flags(parser: ArgumentParser) -> set[str]:
    """Return the flags of a parser of typed keys that take true or false, and nothing else but null."""
    on_or_off = [one for one in parser._actions if getattr(one, "_typehint", None) in (bool, bool | None)]
    return {flag for one in on_or_off for flag in one.option_strings}
