"""The three streams of a process, whatever the shell made of them: closed, full, read by nobody, or a terminal."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

from fgvc.errors import FgvcError, UsageError
from fgvc.files.lines import printable


def open_all() -> None:
    """Put something in place of the streams that were closed (`<&-`), and let no message fail a command.

    Python has None for a closed stream, and the next file that is opened gets its number, so that whatever is printed
    would go into that file. What is read from closed input or written to closed output fails, as it does for other
    programs. Messages that cannot be written are dropped: the work goes on.

    Of the streams that are put in place, reading stdin raises UsageError, writing stdout FgvcError.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)  # takes the lowest free number: this one
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(_Closed()))
    out, talk = sys.stdout or io.TextIOWrapper(io.FileIO(1, "w", closefd=False)), sys.stderr
    if type(out) is io.TextIOWrapper:  # the process's own, not one that a program put in its place
        made = io.BufferedWriter(io.FileIO(1, "w", closefd=False))  # beside the former one, which others may hold
        sys.stdout = _Data(
            made, encoding=out.encoding, errors=out.errors, line_buffering=out.line_buffering or out.isatty()
        )
    if talk is None or type(talk) is io.TextIOWrapper:
        made = io.BufferedWriter(io.FileIO(2, "w", closefd=False))
        encoding = "utf-8" if talk is None else talk.encoding
        sys.stderr = _Talk(made, encoding=encoding, errors="backslashreplace", line_buffering=True)


def give_up() -> None:
    """Let what stdout still holds go nowhere: Python's exit must not fail on it."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def for_data(stream: TextIO) -> TextIO:
    """Return a stream for data; where it is a terminal, control characters are shown and not sent to it."""
    return cast(TextIO, _Shown(stream)) if stream.isatty() else stream


class _Closed(io.RawIOBase):
    """Input that is closed: it can be asked for, and says so."""

    def readable(self) -> bool:
        """Return true, or nothing would be read."""
        return True

    def readinto(self, buffer: object) -> int:
        """Raise UsageError."""
        raise UsageError("stdin: closed; there is nothing to read on it")


class _Data(io.TextIOWrapper):
    """Output of data: where it cannot be written, one line says why."""

    def write(self, text: str) -> int:
        """Write; raises FgvcError, or BrokenPipeError where nobody reads on."""
        with _one_line():
            return super().write(text)

    def flush(self) -> None:
        """Flush; raises as `write` does."""
        with _one_line():
            super().flush()


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up()
        raise FgvcError(f"stdout: cannot be written ({error.strerror or error})") from None


class _Talk(io.TextIOWrapper):
    """Messages: one that cannot be written is dropped."""

    def write(self, text: str) -> int:
        """Write, or not."""
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or not."""
        with suppress(OSError):
            super().flush()


class _Shown:
    """What is written is seen on a terminal, and nothing of it moves the cursor or changes colours."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write with control characters escaped, but for the ends of lines."""
        return self._stream.write("\n".join(map(printable, text.replace("\r\n", "\n").split("\n"))))

    def flush(self) -> None:
        """Flush."""
        self._stream.flush()
