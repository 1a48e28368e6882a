"""`fgvc data verify DATA`: decode every photograph and tell what is wrong."""

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import jsonargparse

from fgvc.config.data_cli import parse
from fgvc.data.inspection import stats
from fgvc.data.inspection.findings import Findings, write_csv
from fgvc.data.inspection.names import name_of_parent, suspicious_names
from fgvc.data.inspection.problems import Problem, problems
from fgvc.data.inspection.split_records import records_of
from fgvc.errors import UsageError, did_you_mean
from fgvc.files.lines import counted, print_lines, tell
from fgvc.files.whole_files import check_output
from fgvc.taxonomy.tree import Taxonomy

ABOUT = """Decode every photograph of every split that a training would see, with all cores, and tell what is wrong:
unreadable, damaged, tiny or one-coloured pictures, the same content in two splits or under two labels, missing labels,
classes without training images, suspicious names of classes, nested folders that are probably classes. The exit code is
1 if there is any problem."""


def main(words: list[str]) -> int:
    """Run the command and return its exit code: 1 where there is a problem.

    Raises:
        FgvcError: wrong words, data that cannot be opened, or an output that cannot be written.
    """
    options, open_data = parse("fgvc data verify", ABOUT, words, _options)
    if options.min_side < 0:
        raise UsageError(f"--min_side {options.min_side}: pixels; it must be at least 0")
    if options.output:
        check_output(options.output, [".csv"], options.overwrite)
    data = open_data()
    records = records_of(data)
    read = _splits(options.splits, records)
    start = time.perf_counter()
    findings = Findings()
    suspicious = list(suspicious_names(data.taxonomy))
    named = [problem for problem in suspicious if problem.problem not in data.source.on_purpose]
    doubts = (Problem(kind, "", "", "folders", told) for kind, told in data.source.doubts.items())
    read_here = problems(records, data.taxonomy, options.min_side, read, data.limits)
    found = itertools.chain(read_here, named, doubts)
    watched = findings.watched(found)
    if options.output:
        write_csv(watched, options.output)
    else:
        for _ in watched:
            pass
    print_lines(findings.table())
    for split in read:
        print_lines(stats.coarse_labels(split, records[split].labels, data.taxonomy))
    print_lines(_notes(data.taxonomy, [problem for problem in suspicious if problem not in named]))
    if data.source.passed_over is not None and data.source.passed_over.counts:
        tell(data.source.passed_over.line())
    total = sum(len(records[split]) for split in read)
    seconds = time.perf_counter() - start
    count = sum(findings.counts.values())
    summary = f"{total} images of {', '.join(read)}: {counted(count, 'problem')}"
    written = f" -> {options.output}" if options.output else ""
    tell(f"{summary}, {seconds:.1f} s, {total / max(seconds, 1e-9):.1f} images/s{written}")
    return 1 if count else 0


def _notes(taxonomy: Taxonomy, allowed: Sequence[Problem]) -> Iterator[str]:
    """Yield what is told of names without being a problem: what the source allows, and what uneven trees have."""
    for problem in allowed:
        yield f"note: {problem.label}: {problem.detail} (allowed)"
    if repeated := name_of_parent(taxonomy):
        yield f"note: {len(repeated)} names repeat the one above them, e.g. {repeated[0]}"


def _options(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path | None, default=None, help="every problem as .csv")
    parser.add_argument("--overwrite", action="store_true", help="replace --output where it exists")
    parser.add_argument("--min_side", type=int, default=32, help="a picture with a shorter side below this is tiny")
    parser.add_argument("--splits", type=str | None, default=None, help="what to read, e.g. train,test (default: all)")


def _splits(asked: str | None, splits: Iterable[str]) -> list[str]:
    available = list(splits)
    words = available if asked is None else [word.strip() for word in asked.split(",")]
    for word in words:
        if word not in available:
            near = did_you_mean(word, available)
            raise UsageError(f"--splits {asked}: no split {word!r}; the data has {', '.join(available)}{near}")
    return [split for split in available if split in words]
