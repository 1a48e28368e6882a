"""`fgvc predict MODEL INPUT...`: name what is in photographs, as a table on stdout or in a file."""

import argparse
import os
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fgvc.config import quiet
from fgvc.errors import UsageError
from fgvc.images import contact_sheet
from fgvc.images.contact_sheet import Tile
from fgvc.images.decoding import ImageError
from fgvc.images.pictures import Picture, expand, pixels_of
from fgvc.prediction.allowed_classes import AllowedClasses
from fgvc.prediction.journal import Journal
from fgvc.prediction.output import to_file, to_stdout
from fgvc.prediction.provenance import hashes_of, save
from fgvc.prediction.results import Result
from fgvc.prediction.tables import parquet_table, writers
from fgvc.prediction.tables.columns import LAYOUTS, Columns

SHEET_PICTURES = 48
"""How many pictures a contact sheet shows."""


def main(argv: list[str]) -> int:
    """Run the command and return its exit code: 0, or 1 where a picture could not be read.

    Raises:
        FgvcError: see `Predictor` and `fgvc.prediction.output`; UsageError for a wrong input or output, before
            any work starts; StoppedError for Ctrl-C while answers are kept.
    """
    arguments = _parser().parse_args(argv)
    kind = _check(arguments)
    allowed = AllowedClasses.read(arguments.allow) if arguments.allow else None
    quiet.libraries()
    from fgvc.prediction.predictor import load  # seconds: after what can be refused without it

    predictor = load(arguments.model, arguments.device)
    if allowed is not None:
        print(allowed.restrict(predictor), file=sys.stderr)
        if arguments.precision is not None:
            print("--precision was counted without --allow: here it is no promise", file=sys.stderr)
    pictures, total = pictures_of(arguments.inputs)
    tally = Tally(total)

    def predict(unknown: Iterable[Picture]) -> Iterator[Result]:
        return predictor.predict_iter(unknown, arguments.top_k, arguments.batch_size, arguments.precision)

    predict([])  # a number that is unfit is refused here
    levels, top_k = predictor.taxonomy.levels, min(arguments.top_k, predictor.taxonomy.num_classes)
    columns = Columns(levels, top_k, predictor.has_boxes(), arguments.precision is not None, arguments.layout)
    if arguments.output:
        hashes = hashes_of(arguments.model)
        with Journal(arguments.output, _terms(arguments, hashes, allowed), arguments.overwrite) as journal:
            if journal.found:
                print(f"{arguments.output}: {journal.found} answers of a stopped run are taken over", file=sys.stderr)
            to_file(tally.watched(journal.answered(pictures, predict)), arguments.output, kind, columns, journal)
            tally.taken = journal.taken
            model = {"path": str(arguments.model), "sha256": hashes, "device": str(predictor.device)}
            options = {key: value for key, value in vars(arguments).items() if key not in ("model", "inputs")}
            save(arguments.output, ["predict", *argv], model, options, tally.counts(), journal.started)
    else:
        to_stdout(tally.watched(predict(pictures)), kind, columns)
    written = [str(arguments.output or "stdout")]
    if arguments.sheet and (tiles := _tiles(tally.shown)):
        contact_sheet.save(contact_sheet.contact_sheet(tiles), arguments.sheet)
        written.append(str(arguments.sheet))
    print(tally.summary(written), file=sys.stderr)
    return 1 if tally.failed and not arguments.keep_going else 0


@dataclass
class Tally:
    """What the summary and the sheet need to know of the results that pass by.

    total: how many there will be, where that is known. seen, failed: so far. taken: how many of them an earlier run
    had answered. shown: those for the sheet.
    """

    total: int | None
    seen: int = 0
    failed: int = 0
    taken: int = 0
    first_error: str = ""
    seconds: float = 0.0
    shown: list[Result] = field(default_factory=list)

    def watched(self, results: Iterable[Result], doing: str = "predicting") -> Generator[Result, None, None]:
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

    def counts(self) -> dict[str, int]:
        """Return the numbers by name."""
        return {"pictures": self.seen, "failed": self.failed, "taken_over": self.taken}

    def summary(self, written: list[str]) -> str:
        """Return one line: how many, how many failed and why the first did, how fast, and where the answers are."""
        speed = (self.seen - self.taken) / max(self.seconds, 1e-9)
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
    parser.add_argument(
        "--output",
        type=Path,
        help=".csv, .json, .jsonl or .parquet; without it, CSV goes to stdout. A run that was stopped goes on when the "
        "same command is given again",
    )
    parser.add_argument("--format", choices=writers.WRITERS, help="what to write, whatever the suffix")
    parser.add_argument(
        "--layout", choices=LAYOUTS, default="wide", help="wide: a row per picture; long: a row per picture and guess"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace --output and --sheet where they exist")
    parser.add_argument("--keep_going", action="store_true", help="exit with 0 even where pictures could not be read")
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


def _check(arguments: argparse.Namespace) -> str:
    """Refuse what is wrong at first sight, and return the format of the answers."""
    output: Path | None = arguments.output
    if output and output.is_dir():
        raise UsageError(f"{output}: a folder; give a file in it, e.g. {output / 'predictions.csv'}")
    kind = arguments.format or (writers.kind_of(output) if output else "csv")
    if kind == "parquet":
        if not output:
            raise UsageError("--format parquet: does not go to stdout; give --output FILE.parquet")
        parquet_table.check_installed(str(output))
    if arguments.sheet:
        contact_sheet.check_suffix(arguments.sheet)
    for path in (arguments.output, arguments.sheet):
        if path and path.exists() and not arguments.overwrite:
            raise UsageError(f"{path}: exists already; choose another name, or give --overwrite")
    if arguments.precision is not None and not 0 < arguments.precision < 1:
        raise UsageError(f"--precision {arguments.precision:g}: a share between 0 and 1, e.g. 0.95 for 95 %")
    check_inputs(arguments.inputs)
    return str(kind)


def _terms(arguments: argparse.Namespace, hashes: Mapping[str, str], allowed: AllowedClasses | None) -> dict[str, Any]:
    """Return what an answer depends on, beyond the picture."""
    return {
        "fgvc": version("fgvc"),
        **hashes,
        "--top_k": arguments.top_k,
        "--precision": arguments.precision,
        "--allow": None if allowed is None else allowed.fingerprint,
    }


def check_inputs(inputs: list[str]) -> None:
    """Raise UsageError for a picture or folder that is not there."""
    for name in inputs:
        if name != "-" and not Path(name).exists():
            raise UsageError(f"{name}: no such picture or folder")


def pictures_of(inputs: list[str]) -> tuple[Iterable[Picture], int | None]:
    """Return the pictures of the words of a command line, and how many there are where that can be known beforehand.

    Folders are walked twice, so that their names need not be in memory.
    """
    return _named(inputs), None if "-" in inputs else sum(1 for _ in _named(inputs))


def _named(inputs: list[str]) -> Iterator[Picture]:
    for name in inputs:
        yield from expand(_listed_on_stdin() if name == "-" else name)


def _listed_on_stdin() -> Iterator[Path]:
    for line in sys.stdin.buffer:
        name = os.fsdecode(line.rstrip(b"\r\n"))
        if "\0" in name:
            raise UsageError("stdin: a path with a zero byte; give one path per line (find -print, not -print0)")
        if name:
            yield Path(name)


def _tiles(results: Iterable[Result]) -> list[Tile]:
    tiles = []
    for result in results:
        try:
            tiles.append(Tile(pixels_of(result.path or ""), result.label or "", result.score or 0.0))
        except ImageError:  # gone since it was read
            continue
    return tiles
