"""The answers of a search as a table: a row per query and neighbour, or an object per query."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from fgvc.errors import FgvcError, UsageError, did_you_mean
from fgvc.files import streams
from fgvc.files.whole_files import open_whole, unencodable
from fgvc.prediction.retrieval.neighbour import Neighbour
from fgvc.prediction.tables.writers import UnixLines


@dataclass
class Found:
    """What is near a query. path: of the query. error: why nothing was looked for. warning: see `Result`."""

    path: str | None
    neighbours: list[Neighbour] = field(default_factory=list)
    error: str | None = None
    warning: str | None = None


def write_csv(found: Iterable[Found], file: TextIO, metric: str) -> None:
    """Write a row per query and neighbour; a query without any keeps one, with the reason in `error`."""
    writer = csv.writer(UnixLines(file))
    writer.writerow(["query", "rank", "path", "label", "lineage", metric, "warning", "error"])
    for one in found:
        rows: list[list[Any]] = [
            [rank, near.path, near.label, " > ".join(near.lineage.values()), f"{near.value:.6f}"]
            for rank, near in enumerate(one.neighbours, 1)
        ]
        for row in rows or [[None] * 5]:
            writer.writerow([one.path, *row, one.warning, one.error])


def write_json(found: Iterable[Found], file: TextIO, metric: str) -> None:
    """Write one list, an object per query."""
    before = "[\n"
    for line in _lines(found, metric):
        file.write(before + line)
        before = ",\n"
    file.write("\n]\n" if before == ",\n" else "[]\n")


def write_jsonl(found: Iterable[Found], file: TextIO, metric: str) -> None:
    """Write an object per line and query."""
    file.writelines(line + "\n" for line in _lines(found, metric))


WRITERS: dict[str, Callable[[Iterable[Found], TextIO, str], None]] = {
    "csv": write_csv,
    "json": write_json,
    "jsonl": write_jsonl,
}


def kind_of(output: Path | None, asked: str | None) -> str:
    """Return which of `WRITERS` a file or `--format` asks for; csv where neither does.

    Raises:
        UsageError: another suffix.
    """
    if asked is not None or output is None:
        return asked or "csv"
    kind = output.suffix.lower().removeprefix(".")
    if kind not in WRITERS:
        known = [f".{one}" for one in WRITERS]
        near = did_you_mean(output.suffix.lower(), known)
        raise UsageError(f"{output}: neighbours are written as {', '.join(known)}, not {output.suffix!r}{near}")
    return kind


def save(found: Iterable[Found], output: Path | None, kind: str, metric: str) -> None:
    """Write to a file, whole or not at all, or to stdout as they come.

    Raises:
        FgvcError: it cannot be written.
    """
    if output is not None:
        with open_whole(output, unencodable(kind)) as file:
            WRITERS[kind](found, file, metric)
        return
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold bytes that are not UTF-8
        sys.stdout.reconfigure(encoding="utf-8", errors=unencodable(kind))
    try:
        WRITERS[kind](found, streams.for_data(sys.stdout), metric)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        streams.give_up()
        raise FgvcError(f"stdout: cannot be written ({error.strerror or error})") from None


def _lines(found: Iterable[Found], metric: str) -> Iterable[str]:
    for one in found:
        near = [{"rank": rank, **each.to_dict(metric)} for rank, each in enumerate(one.neighbours, 1)]
        plain = {"query": one.path, "neighbours": near, "warning": one.warning, "error": one.error}
        yield json.dumps(plain, ensure_ascii=False, allow_nan=False)
