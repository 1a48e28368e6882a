"""`fgvc data audit FEATURES --output audit.csv`: which labels are probably wrong."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fgvc.config.one_line_parser import OneLineParser
from fgvc.data.reading.table_file import read_rows
from fgvc.errors import UsageError, did_you_mean
from fgvc.features.folder import FeatureFolder, open_features
from fgvc.features.labels import confident, suspects
from fgvc.features.labels.answered import disputed
from fgvc.features.labels.table_labels import labels_of_table, places_of
from fgvc.files.answer_table import read_answers
from fgvc.files.lines import counted, print_lines, quoted, tell
from fgvc.files.whole_files import check_free, check_output, check_picture, write_rows
from fgvc.methods.devices import device_of
from fgvc.prediction.retrieval.sheet import row_sheet
from fgvc.report import label_page
from fgvc.taxonomy.names import written_names
from fgvc.training.out_of_fold import FOLDS, OutOfFold, out_of_fold
from fgvc.training.probe import PENALTIES, Images, checked_penalties, images_of

ABOUT = """Name the labels that are probably wrong. Linear classifiers of features that fgvc embed wrote answer each
photograph without having seen it, and the labels that their answers contradict are written to a table, the most
suspicious first, for --data.exclude or --data.relabel of a training. A table of answers (out_of_fold.csv of fgvc fit
--folds, or predictions_test.csv) may stand in place of FEATURES."""
TYPICAL = 2
"""Photographs of a class that are shown beside a suspect."""


class Audit(NamedTuple):
    """What was found of features. images: of the split. found: the suspects; their places are in `answered.rows`."""

    folder: FeatureFolder
    images: Images
    answered: OutOfFold
    labels: npt.NDArray[np.int64]
    found: list[suspects.Suspect]

    def path(self, place: int) -> str:
        """Return the path of a photograph that was judged."""
        return self.images.paths[int(self.answered.rows[place])]


def main(argv: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        UsageError: words, features or tables that do not fit.
        FgvcError: features that are no numbers, or a file that cannot be written.
    """
    options = _parse(argv)
    _check(options)
    if Path(options.features).suffix.lower() == ".csv":
        return _of_answers(options)
    folder = open_features(options.features)
    audit = _audited(folder, options)
    paths = [audit.path(place) for place in range(len(audit.labels))]
    rows = suspects.table(audit.found, paths, folder.taxonomy)
    write_rows(options.output, rows)
    lines = _told(audit, options)
    for line in lines:
        tell(line)
    print_lines(_kinds(rows))
    _draw(audit, options, lines)
    _next(options.output)
    return 0


def _audited(folder: FeatureFolder, options: argparse.Namespace) -> Audit:
    images = images_of(folder, options.split, options.view, device_of(options.device))
    if options.labels:
        given = images.labels.cpu().numpy()
        others = torch.from_numpy(labels_of_table(options.labels, images.paths, given, folder.taxonomy))
        images = images._replace(labels=others.to(images.labels))
    groups = _groups(options.groups, images) if options.groups else None
    penalties = checked_penalties(options.penalties)
    answered = out_of_fold(images, folder.taxonomy.num_classes, options.folds, penalties, groups)
    labels = images.labels.cpu().numpy()[answered.rows]
    judged = np.flatnonzero(answered.judged)
    found = suspects.suspects(answered.probabilities[judged], labels[judged], folder.taxonomy, options.rule)
    return Audit(folder, images, answered, labels, [one._replace(place=int(judged[one.place])) for one in found])


def _groups(table: str, images: Images) -> npt.NDArray[np.int64]:
    """Return (N,) numbers of groups; a photograph that the table does not name is a group of its own."""
    rows = read_rows(table, ["path", "group"])
    numbers = {name: number for number, name in enumerate(dict.fromkeys(rows.cells["group"]))}
    groups = np.arange(len(images.paths), dtype=np.int64) + len(numbers)
    groups[places_of(rows, images.paths)] = [numbers[name] for name in rows.cells["group"]]
    return groups


def _told(audit: Audit, options: argparse.Namespace) -> list[str]:
    """Return what was done and how much seems wrong."""
    answered = audit.answered
    judged, labels = answered.probabilities[answered.judged], audit.labels[answered.judged]
    total, left_out = len(labels), len(audit.images.labels) - int(answered.judged.sum())
    lines = [
        f"{counted(total, 'photograph')} answered out of sample, {options.folds} folds, penalty {answered.penalty:g}: "
        f"{100 * answered.right:.1f} % as labelled"
    ]
    if left_out:
        lines.append(f"{counted(left_out, 'photograph')} not judged: no {audit.folder.taxonomy.leaf_level} as label, "
                     "or the only photograph of its class")  # fmt: skip
    at_random = 100 * confident.share_at_random(judged, labels)
    by_joint = 100 * confident.share_of_joint(*confident.joint(judged, labels))
    lines.append(f"about {at_random:.1f} % of {total:,} labels look wrong: they say nothing of the photograph")
    lines.append(
        f"about {by_joint:.1f} % by the confident joint: wrong relatives count too, and what the features confuse"
    )
    number = len(audit.found)
    lines.append(f"suspects by rule {options.rule}: {number:,} -> {options.output}")
    return lines


def _kinds(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a line per kind."""
    kinds = [row[3] for row in rows[1:]]
    return [f"{kinds.count(kind):6d} {kind}: {words}" for kind, words in suspects.KINDS.items() if kind in kinds]


def _draw(audit: Audit, options: argparse.Namespace, facts: Sequence[str]) -> None:
    """Draw the sheet and the page that are asked for."""
    if not (options.sheet or options.page) or not audit.found:
        return
    folder = options.images or Path(audit.folder.description["records"][options.split]["root"])
    names = written_names(audit.folder.taxonomy)
    places = [one.place for one in audit.found]
    judged = audit.answered.probabilities
    best = suspects.typical(judged, audit.labels, places, TYPICAL)
    rows = []
    for one in audit.found[: options.most]:
        of_label, of_likely = ([audit.path(place) for place in best.get(leaf, [])] for leaf in (one.label, one.likely))
        label, likely = names[one.label], names[one.likely]
        title = f"{label}?" if one.kind == "stranger" else f"{label}, or {likely}?"
        note = (
            f"{one.kind}: {suspects.KINDS[one.kind]}. Probability of {label} {100 * one.probability:.1f} %, of "
            f"{likely} {100 * one.likely_probability:.1f} %; common ancestor: {one.ancestor or 'the root'}"
        )
        rows.append(label_page.Row(audit.path(one.place), title, note, label, likely, of_label, of_likely))
    if options.page:
        failed = label_page.write_page(options.page, f"Suspicious labels of {audit.folder.path}", facts, rows, folder)
        tell(f"page: {options.page}{f' ({failed})' if failed else ''}")
    if options.sheet:
        row_sheet((_row(row, folder) for row in rows), 1 + 2 * TYPICAL, options.sheet)
        tell(f"sheet: {options.sheet}")


def _row(row: label_page.Row, folder: Path) -> list[tuple[str, str]]:
    typical = [(one, row.label) for one in row.of_label] + [(one, row.likely) for one in row.of_likely]
    return [(str(folder / one), text) for one, text in [(row.path, f"is it {row.label}?"), *typical]]


def _of_answers(options: argparse.Namespace) -> int:
    for flag in ("labels", "groups", "sheet", "page"):
        if getattr(options, flag):
            raise UsageError(f"--{flag}: for FEATURES; a table of answers does without")
    answers = read_answers(Path(options.features))
    rows = disputed(answers)
    known = int(answers.known.sum())
    write_rows(options.output, rows)
    share = 100 * (len(rows) - 1) / max(1, known)
    tell(
        f"{len(rows) - 1} of {counted(known, 'label')} ({share:.1f} %) are confidently contradicted -> {options.output}"
    )
    print_lines(_kinds(rows))
    _next(options.output)
    return 0


def _next(output: Path) -> None:
    tell(f"next:  look at it, then fgvc fit ... --data.exclude {quoted(output)} (or --data.relabel)")


def _check(options: argparse.Namespace) -> None:
    check_output(options.output, [".csv"], options.overwrite)
    if options.sheet:
        check_free(check_picture(options.sheet), options.overwrite)
    if options.page:
        if options.page.suffix.lower() != ".html":
            raise UsageError(f"--page {options.page}: it is written as .html")
        check_free(options.page, options.overwrite)
    if options.rule not in confident.RULES:
        near = did_you_mean(options.rule, confident.RULES)
        raise UsageError(f"--rule {options.rule}: it is one of {', '.join(confident.RULES)}{near}")
    if options.most < 1:
        raise UsageError(f"--most {options.most}: give 1 or more")
    if options.images and not options.images.is_dir():
        raise UsageError(f"--images {options.images}: no such folder; the paths of the features start there")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = OneLineParser(prog="fgvc data audit", description=ABOUT)
    add: Any = parser.add_argument
    add("features", metavar="FEATURES", help="a folder that fgvc embed wrote, or a table of answers, .csv")
    add("--output", "--out", type=Path, required=True, metavar="AUDIT", help="the table of suspects, .csv")
    rules = "random (default): as many as say nothing of their photograph; class, noise_rate: the two of confident "
    rules += "learning; both: what these agree on, for wrong relatives, where the features are good"
    add("--rule", default="random", help=rules)
    add("--most", type=int, default=500, help="suspects in sheet and page at most; the table has all (default: 500)")
    add("--sheet", type=Path, metavar="PICTURE", help="draw the first suspects beside typical photographs, .jpg, .png")
    add("--page", type=Path, metavar="PAGE", help="the same as a page with numbers, .html")
    add("--labels", metavar="TABLE", help="labels in place of those of the features: columns path and label")
    add("--groups", metavar="TABLE", help="photographs that stay together (a site, a burst): columns path and group")
    add("--split", default="train", help="whose labels (default: train)")
    add("--view", default="whole", help="whole, flip or box, as embedded (default: whole)")
    add("--folds", type=int, default=FOLDS, help=f"of the classifiers (default: {FOLDS})")
    add("--penalties", type=_numbers, default=PENALTIES, metavar="P,P", help="tried once, see fgvc probe")
    add("--images", type=Path, metavar="FOLDER", help="where the photographs are (default: where they were embedded)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--overwrite", action="store_true", help="replace files that are there")
    return parser.parse_args(argv)


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",") if word.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: give numbers, e.g. 1e-1,1e-2") from None
