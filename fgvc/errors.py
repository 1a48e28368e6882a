"""The errors a person sees: one line that says what was asked, what was found and what to do next."""

import difflib
from collections.abc import Iterable


class FgvcError(Exception):
    """Work that failed. Doors print its one line and exit with `exit_code`."""

    exit_code = 1


class UsageError(FgvcError):
    """A wrong flag, config key, path or class name: the user can mend it before any work starts."""

    exit_code = 2


class StoppedError(FgvcError):
    """A signal stopped the work, after it was saved.

    Args:
        message: what was saved and how to go on.
        signal: its number; a shell expects 128 and that as the exit code.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


def did_you_mean(word: str, choices: Iterable[str], limit: int = 3, cutoff: float = 0.6) -> str:
    """Return `; did you mean 'x'?` for the nearest choices, or an empty string when none is near."""
    near = difflib.get_close_matches(word, list(choices), n=limit, cutoff=cutoff)
    return f"; did you mean {' or '.join(repr(match) for match in near)}?" if near else ""
