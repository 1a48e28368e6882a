"""Where the answers of `fgvc predict` go: to stdout as they come, or into a file by way of a journal."""

import io
import signal
import sys
from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path

from fgvc.errors import FgvcError, StoppedError
from fgvc.files import streams
from fgvc.files.whole_files import open_whole, unencodable
from fgvc.prediction.journal import Journal
from fgvc.prediction.results import Result
from fgvc.prediction.tables.columns import Columns
from fgvc.prediction.tables.writers import WRITERS


def to_stdout(results: Iterable[Result], kind: str, columns: Columns) -> None:
    """Write each answer as soon as it is known.

    Raises:
        FgvcError: stdout takes no more, e.g. a file on a full disk.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold bytes that are not UTF-8
        sys.stdout.reconfigure(encoding="utf-8", errors=unencodable(kind))
    try:
        WRITERS[kind]((result.to_dict() for result in results), streams.for_data(sys.stdout), columns)
        sys.stdout.flush()
    except BrokenPipeError:  # the entry point knows what to do
        raise
    except OSError as error:
        streams.give_up()
        raise FgvcError(f"stdout: cannot be written ({error.strerror})") from None


def to_file(
    results: Generator[Result, None, None], output: Path, kind: str, columns: Columns, journal: Journal
) -> None:
    """Let the answers come, then write them; the journal stays with its owner.

    Args:
        results: what `Journal.answered` gives, however watched.
        output: the file, in place of what is there.
        kind: of `WRITERS`.
        columns: of the table.
        journal: it holds the answers.

    Raises:
        StoppedError: Ctrl-C; the journal has what was answered.
        FgvcError: the output cannot be written; likewise.
    """
    try:
        with closing(results):
            for _ in results:
                pass
        try:
            with open_whole(output, unencodable(kind)) as file:
                WRITERS[kind](journal, file, columns)
        except FgvcError as error:
            raise FgvcError(f"{error}; {journal.kept}") from None
    except KeyboardInterrupt:
        raise StoppedError(f"interrupted; {journal.kept}", signal.SIGINT) from None
