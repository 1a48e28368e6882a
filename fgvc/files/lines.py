"""Lines for a terminal. Names come from the files of others and may hold anything.

They are told by the commands of data (`fgvc.data.inspection`) and of models (`fgvc.report`), so they live below both.
"""

import shlex
import sys
from collections.abc import Iterable


def tell(text: object = "") -> None:
    """Print a message on stderr; its line breaks stay, nothing else in it moves a cursor or changes colours."""
    print("\n".join(map(printable, str(text).split("\n"))), file=sys.stderr)


def printable(text: object) -> str:
    """Return text on one line that any terminal shows: line breaks, bytes that are no text and the like escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def quoted(path: object) -> str:
    """Return a name as a shell takes it, for a command that a person is told to type."""
    return shlex.quote(str(path))


def counted(number: int, noun: str, several: str = "") -> str:
    """Return "1 image", "2 images": a number with its noun, which takes an s where `several` is not given."""
    return f"{number} {noun if number == 1 else several or f'{noun}s'}"


def print_lines(lines: Iterable[str]) -> None:
    """Print lines on stdout, each on one line whatever names it holds."""
    for line in lines:
        print(printable(line))
