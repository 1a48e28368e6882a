"""argparse with errors in one line."""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from fgvc.config import switches
from fgvc.errors import UsageError, did_you_mean


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are a UsageError, in place of the usage and an exit.

    A switch may be followed by true or false, as in `fgvc fit`.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse, each switch in either form."""
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args(switches.bare(words, self._flags(nargs=0)), namespace)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        found = re.match(r"unrecognized arguments: (--\w[\w-]*)", message)
        near = did_you_mean(found[1], self._flags(), limit=1) if found else ""
        raise UsageError(f"{message}; {self.prog} --help says what it takes{near}")

    def _flags(self, **wanted: Any) -> list[str]:
        """Return the flags whose action has such attributes."""
        fit = [one for one in self._actions if all(getattr(one, key) == value for key, value in wanted.items())]
        return [flag for one in fit for flag in one.option_strings]
