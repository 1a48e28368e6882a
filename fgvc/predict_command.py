"""`fgvc predict MODEL INPUT...`: name what is in photographs, as a table on stdout or in a file."""

import argparse
import csv
import io
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

from fgvc import contact_sheet, quiet
from fgvc.contact_sheet import Tile
from fgvc.errors import UsageError
from fgvc.images import ImageError
from fgvc.inputs import Picture, expand, pixels_of
from fgvc.results import Result, open_whole, unencodable, write_csv, writer_for

if TYPE_CHECKING:
    from fgvc.predictor import Predictor

HEADERS = ("name", "class", "label", "species", "taxon", "scientific_name")
"""First cells of a list of classes that name the column and no class; so do the names of the model's levels."""
SHEET_PICTURES = 48
"""How many pictures a contact sheet shows."""


def main(argv: list[str]) -> int:
    """Run the command and return its exit code: 0, or 1 where a picture could not be read.

    Raises:
        FgvcError: see `Predictor`; UsageError for a wrong input or output, before any work starts.
    """
    arguments = _parser().parse_args(argv)
    _check(arguments)
    listed = _listed_in(arguments.allow) if arguments.allow else None
    quiet.libraries()
    from fgvc.predictor import load  # seconds: after what can be refused without it

    predictor = load(arguments.model, arguments.device)
    if listed is not None:
        print(_allow(predictor, arguments.allow, listed), file=sys.stderr)
        if arguments.precision is not None:
            print("--precision was counted without --allow: here it is no promise", file=sys.stderr)
    pictures, total = pictures_of(arguments.inputs)
    asked = (arguments.top_k, arguments.batch_size, arguments.precision)
    results = predictor.predict_iter(pictures, *asked)
    tally = Tally(total)
    _write(arguments, predictor, tally.watched(results))
    written = [str(arguments.output or "stdout")]
    if arguments.sheet and (tiles := _tiles(tally.shown)):
        contact_sheet.save(contact_sheet.contact_sheet(tiles), arguments.sheet)
        written.append(str(arguments.sheet))
    print(tally.summary(written), file=sys.stderr)
    return 1 if tally.failed else 0


@dataclass
class Tally:
    """What the summary and the sheet need to know of the results that pass by."""

    total: int | None
    seen: int = 0
    failed: int = 0
    first_error: str = ""
    seconds: float = 0.0
    shown: list[Result] = field(default_factory=list)

    def watched(self, results: Iterable[Result], doing: str = "predicting") -> Iterator[Result]:
        """Pass the results on under a progress bar, counting them and keeping a few for the sheet."""
        start = time.perf_counter()
        for result in tqdm(results, doing, self.total, unit=" images", delay=1, leave=False):
            if result.error:
                self.failed += 1
                self.first_error = self.first_error or result.error
            elif self._is_chosen(self.seen):
                self.shown.append(result)
            self.seen += 1
            yield result
        self.seconds = time.perf_counter() - start

    def _is_chosen(self, index: int) -> bool:
        """Spread the sheet over all pictures: the first ones of sorted folders are all of one class."""
        if self.total is None or self.total <= SHEET_PICTURES:
            return len(self.shown) < SHEET_PICTURES
        return index * SHEET_PICTURES % self.total < SHEET_PICTURES

    def summary(self, written: list[str]) -> str:
        """Return one line: how many, how many failed and why the first did, how fast, and where the answers are."""
        speed = self.seen / max(self.seconds, 1e-9)
        failed = f"{self.failed} failed" + (f" (first: {self.first_error})" if self.failed else "")
        plural = "" if self.seen == 1 else "s"
        return f"{self.seen} picture{plural}, {failed}, {speed:.1f} images/s -> {', '.join(written)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fgvc predict",
        description="Name what is in photographs. A picture that cannot be read keeps its row, with the reason in the "
        "column `error`; the exit code is then 1.",
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="a run folder or a model folder")
    parser.add_argument(
        "inputs", metavar="INPUT", nargs="+", help="pictures, folders, or - for a list of paths on stdin, one per line"
    )
    parser.add_argument("--output", type=Path, help=".csv, .json or .jsonl; without it, CSV goes to stdout")
    parser.add_argument("--overwrite", action="store_true", help="replace --output and --sheet where they exist")
    parser.add_argument("--top_k", type=int, default=5, help="guesses per picture (default: 5)")
    parser.add_argument(
        "--precision",
        type=float,
        help="the share of answers that must be right, e.g. 0.95: adds the deepest name that can be vouched for, or "
        "`unknown`, as the columns answer, answer_level, answer_score",
    )
    parser.add_argument(
        "--allow", type=Path, help="a CSV of the classes that may be answered: names of any level in its first column"
    )
    parser.add_argument("--batch_size", type=int, default=32, help="pictures at once (default: 32)")
    parser.add_argument(
        "--sheet", type=Path, help=f"also draw up to {SHEET_PICTURES} pictures with their guesses, as .jpg or .png"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    if arguments.output:
        writer_for(arguments.output)
    if arguments.sheet:
        contact_sheet.check_suffix(arguments.sheet)
    for path in (arguments.output, arguments.sheet):
        if path and path.exists() and not arguments.overwrite:
            raise UsageError(f"{path}: exists already; choose another name, or give --overwrite")
    if arguments.precision is not None and not 0 < arguments.precision < 1:
        raise UsageError(f"--precision {arguments.precision:g}: a share between 0 and 1, e.g. 0.95 for 95 %")
    check_inputs(arguments.inputs)


def _listed_in(path: Path) -> list[tuple[int, str]]:
    """Return row number, counted from 1, and first cell of each row of a CSV whose first cell is not empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [(number, row[0].strip()) for number, row in enumerate(csv.reader(file), 1) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--allow {path}: cannot be read as UTF-8 CSV ({error})") from None
    return [(number, name) for number, name in rows if name]


def _allow(predictor: "Predictor", path: Path, rows: list[tuple[int, str]]) -> str:
    """Restrict the answers to the listed names and return one line about it; the first row may be a header."""
    headers = {*HEADERS, *(level.lower() for level in predictor.taxonomy.levels)}
    headed = bool(rows) and rows[0][1].lower() in headers
    written: dict[str, str] = {}
    for number, name in rows[headed:]:
        hint = "" if headed or written else f" (no header; that would be {', '.join(HEADERS)} or a level)"
        written.setdefault(name, f"--allow {path}, row {number}{hint}")
    if not written:
        raise UsageError(f"--allow {path}: names no class; write one name per row, in the first column")
    allowed = predictor.allow(written)
    return f"{path}: {len(written)} names allow {allowed} of {predictor.taxonomy.num_classes} classes"


def check_inputs(inputs: list[str]) -> None:
    """Raise UsageError for a picture or folder that is not there."""
    for name in inputs:
        if name != "-" and not Path(name).exists():
            raise UsageError(f"{name}: no such picture or folder")


def pictures_of(inputs: list[str]) -> tuple[Iterable[Picture], int | None]:
    """Return the pictures of the words of a command line, and how many there are where that can be known beforehand."""
    named: Iterator[Picture] = (
        picture for name in inputs for picture in expand(_listed_on_stdin() if name == "-" else name)
    )
    if "-" in inputs:
        return named, None
    found = list(named)
    return found, len(found)


def _listed_on_stdin() -> Iterator[Path]:
    for line in sys.stdin.buffer:
        name = os.fsdecode(line.rstrip(b"\r\n"))
        if "\0" in name:
            raise UsageError("stdin: a path with a zero byte; give one path per line (find -print, not -print0)")
        if name:
            yield Path(name)


def _write(arguments: argparse.Namespace, predictor: "Predictor", results: Iterable[Result]) -> None:
    write = writer_for(arguments.output) if arguments.output else write_csv
    with _opened(arguments.output) as file:
        write(results, file, predictor.taxonomy.levels, min(arguments.top_k, predictor.taxonomy.num_classes))


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    if output:
        with open_whole(output) as file:
            yield file
        return
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold bytes that are not UTF-8
        sys.stdout.reconfigure(encoding="utf-8", errors=unencodable(".csv"))
    yield sys.stdout
    sys.stdout.flush()


def _tiles(results: Iterable[Result]) -> list[Tile]:
    tiles = []
    for result in results:
        try:
            tiles.append(Tile(pixels_of(result.path or ""), result.label or "", result.score or 0.0))
        except ImageError:  # gone since it was read
            continue
    return tiles
