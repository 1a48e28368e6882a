"""`fgvc data verify DATA`: decode every photograph and tell what is wrong."""

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jsonargparse

from fgvc.config.data_cli import parse
from fgvc.data.datamodule import FineGrainedData
from fgvc.data.inspection import stats
from fgvc.data.inspection.findings import Findings, write_csv
from fgvc.data.inspection.names import name_of_parent, suspicious_names
from fgvc.data.inspection.problems import Problem, problems
from fgvc.data.inspection.split_records import records_of
from fgvc.errors import UsageError, did_you_mean
from fgvc.files.lines import counted, print_lines, tell
from fgvc.files.whole_files import check_output, check_picture, check_plain
from fgvc.prediction.retrieval.duplicates import LEAST
from fgvc.taxonomy.tree import Taxonomy

if TYPE_CHECKING:
    from fgvc.features.folder import FeatureFolder
    from fgvc.prediction.retrieval.leaks import Leak

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
    _check(options)
    data = open_data()
    records = records_of(data)
    read = _splits(options.splits, records)
    start = time.perf_counter()
    findings = Findings()
    suspicious = list(suspicious_names(data.taxonomy))
    named = [problem for problem in suspicious if problem.problem not in data.source.on_purpose]
    doubts = (Problem(kind, "", "", "folders", told) for kind, told in data.source.doubts.items())
    read_here = problems(records, data.taxonomy, options.min_side, read, data.limits)
    alike: list[Leak] = []
    found = itertools.chain(read_here, _near(options, data, read, alike), named, doubts)
    watched = findings.watched(found)
    if options.output:
        write_csv(watched, options.output)
    else:
        for _ in watched:
            pass
    print_lines(findings.table())
    drawn = options.sheet and _draw(alike, options.sheet, data)
    for split in read:
        print_lines(stats.coarse_labels(split, records[split].labels, data.taxonomy))
    print_lines(_notes(data.taxonomy, [problem for problem in suspicious if problem not in named]))
    if data.source.passed_over is not None and data.source.passed_over.counts:
        tell(data.source.passed_over.line())
    total = sum(len(records[split]) for split in read)
    seconds = time.perf_counter() - start
    count = sum(findings.counts.values())
    summary = f"{total} images of {', '.join(read)}: {counted(count, 'problem')}"
    files = [str(path) for path in (options.output, options.sheet if drawn else None) if path]
    written = f" -> {', '.join(files)}" if files else ""
    tell(f"{summary}, {seconds:.1f} s, {total / max(seconds, 1e-9):.1f} images/s{written}")
    return 1 if count else 0


def _check(options: jsonargparse.Namespace) -> None:
    """Refuse what is wrong at first sight."""
    if options.min_side < 0:
        raise UsageError(f"--min_side {options.min_side}: pixels; it must be at least 0")
    if options.output:
        check_output(options.output, [".csv"], options.overwrite)
    if not -1 <= options.near_duplicates_from <= 1:
        raise UsageError(f"--near_duplicates_from {options.near_duplicates_from:g}: a cosine, from -1 to 1")
    if options.sheet:
        if options.near_duplicates is None:
            raise UsageError(f"--sheet {options.sheet}: it shows near duplicates; give --near_duplicates FEATURES too")
        check_plain(check_picture(options.sheet))
        if options.sheet.exists() and not options.overwrite:
            raise UsageError(f"{options.sheet}: exists already; choose another name, or give --overwrite")


def _near(
    options: jsonargparse.Namespace, data: FineGrainedData, splits: Sequence[str], alike: list["Leak"]
) -> Iterator[Problem]:
    """Yield near duplicates, and keep those that a sheet shows."""
    if options.near_duplicates is None:
        return
    from fgvc.prediction.retrieval.leaks import leaks  # seconds, for timm

    folder = _features(options.near_duplicates, data, splits)
    for leak in leaks(data, splits, folder, options.near_duplicates_from):
        if options.sheet:
            alike.append(leak)
        yield leak.problem


def _features(name: str, data: FineGrainedData, splits: Sequence[str]) -> "FeatureFolder":
    """Open a folder of features; a run or a network of timm computes them, mirror images too."""
    from fgvc.features.embedding import embed
    from fgvc.features.folder import DESCRIPTION, open_features
    from fgvc.features.network import read_network

    if (Path(name) / DESCRIPTION).is_file():
        return open_features(name)
    network = read_network(name)
    data.on_bad_image = "skip"  # told already
    of_what = Path(data.records(splits[0]).root).resolve().name
    folder = Path("features", f"{network.name}-{of_what}-near_duplicates")
    return embed(network, data, folder, views=("whole", "flip"), splits=splits)


def _draw(alike: Sequence["Leak"], target: Path, data: FineGrainedData) -> bool:
    from fgvc.prediction.retrieval.sheet import row_sheet

    nearest = sorted(alike, key=lambda leak: -leak.cosine)
    return row_sheet((leak.row for leak in nearest), 2, target, data.limits)


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
    near = "also tell near-identical photographs in two splits or under two labels, by features that fgvc embed wrote "
    near += "(best in the views whole,flip), or by a run or a network of timm, which computes them"
    parser.add_argument("--near_duplicates", type=str | None, default=None, metavar="FEATURES", help=near)
    least = f"the cosine from which on two photographs are nearly the same (default: {LEAST})"
    parser.add_argument("--near_duplicates_from", type=float, default=LEAST, help=least)
    parser.add_argument("--sheet", type=Path | None, default=None, help="draw near duplicates side by side, .jpg, .png")
    parser.add_argument("--splits", type=str | None, default=None, help="what to read, e.g. train,test (default: all)")


def _splits(asked: str | None, splits: Iterable[str]) -> list[str]:
    available = list(splits)
    words = available if asked is None else [word.strip() for word in asked.split(",")]
    for word in words:
        if word not in available:
            near = did_you_mean(word, available)
            raise UsageError(f"--splits {asked}: no split {word!r}; the data has {', '.join(available)}{near}")
    return [split for split in available if split in words]
