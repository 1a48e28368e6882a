"""argparse with errors in one line."""

import argparse
from typing import NoReturn

from fgvc.errors import UsageError


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are a UsageError, in place of the usage and an exit."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message}; {self.prog} --help says what it takes")
