"""`fgvc curriculum FEATURES --output stages.csv`: which photographs of each class are clean, noisy, highly noisy."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fgvc.config.one_line_parser import OneLineParser
from fgvc.data.stages import STAGES
from fgvc.errors import UsageError
from fgvc.features.folder import Part, open_features
from fgvc.features.labels.curriculum import LEAST, Curriculum, curriculum, write_stages
from fgvc.features.labels.density import FORMS
from fgvc.features.labels.stage_sheet import write_sheets
from fgvc.features.labels.table_labels import labels_of_table
from fgvc.files.lines import counted, print_lines, quoted, tell
from fgvc.files.whole_files import check_output
from fgvc.images.decoding import Limits
from fgvc.images.pictures import add_limits
from fgvc.taxonomy.tree import Taxonomy

ABOUT = """Divide the photographs of each class into clean, noisy and highly noisy ones by how densely they lie among
features that fgvc embed computed (CurriculumNet), and write the stages as a table for fgvc fit --config curriculum
--data.stages. Noise inside a genus is often as dense as what it lies among: look at the sheets."""


def main(argv: list[str]) -> int:
    """Divide, write, print the sizes and return the exit code.

    Raises:
        UsageError: words or features that do not fit, or a table that is there.
        FgvcError: features that are no numbers, or an output that cannot be written.
    """
    options = _parse(argv)
    check_output(options.output, (".csv",), options.overwrite, "--output")
    if options.sheets is not None and options.sheets.exists() and not options.overwrite:
        raise UsageError(f"{options.sheets}: exists already; choose another folder, or give --overwrite")
    limits = Limits(options.max_pixels, options.any_format).check("--")
    folder = open_features(options.features)
    part = folder.part(options.split, options.view)
    if options.labels:
        others = labels_of_table(options.labels, part.paths, part.labels, folder.taxonomy)
        part = part._replace(labels=others)
    found = curriculum(part, options.density, str(options.features))
    write_stages(options.output, part, found, folder.taxonomy)
    print_lines(_sizes(part, found, folder.taxonomy))
    _tell(part, found, options)
    if options.sheets is not None:
        root = folder.description["records"][options.split]["root"]
        number = write_sheets(options.sheets, part, found, folder.taxonomy, root, limits)
        tell(f"sheets: {counted(number, 'class', 'classes')} in {options.sheets}")
    tell(f"next:  fgvc fit --config DATA --config curriculum --data.stages {quoted(options.output)}")
    return 0


def _sizes(part: Part, found: Curriculum, taxonomy: Taxonomy) -> Iterator[str]:
    """Yield a line per class, behind a header: how many photographs are in each stage."""
    yield f"{'':>12}  {'  '.join(f'{stage:>12}' for stage in STAGES)}  class"
    for label in np.unique(part.labels[found.stage >= 0]):
        counts = np.bincount(found.stage[part.labels == label], minlength=len(STAGES))
        numbers = "  ".join(f"{number:>12,}" for number in counts)
        yield f"{counts.sum():>12,}  {numbers}  {' > '.join(taxonomy.path(int(label)))}"


def _tell(part: Part, found: Curriculum, options: argparse.Namespace) -> None:
    """Say how many photographs are in each stage, and what was not divided."""
    known = found.stage >= 0
    counts = np.bincount(found.stage[known], minlength=len(STAGES))
    shares = [
        f"{name} {number:,} ({100 * number / counts.sum():.0f} %)" for name, number in zip(STAGES, counts, strict=True)
    ]
    tell(f"{options.split}, density {options.density}: {', '.join(shares)} -> {options.output}")
    sizes = np.unique(part.labels[known], return_counts=True)[1]
    if small := int((sizes < LEAST).sum()):
        few = counted(small, "class", "classes")
        tell(f"all clean: {few} of fewer than {LEAST} photographs, too few to tell what is dense")
    if rest := int((~known).sum()):
        tell(f"left out: {counted(rest, 'photograph')} whose label is not known")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = OneLineParser(prog="fgvc curriculum", description=ABOUT)
    add = parser.add_argument
    add("features", type=Path, metavar="FEATURES", help="a folder that fgvc embed wrote")
    add("--output", "--out", type=Path, required=True, metavar="CSV", help="the table: path, label, density, stage")
    published = "counting and gaussian are the published ones, neighbours keeps small groups of a class"
    add("--density", choices=FORMS, default="neighbours", help=f"{published} (default: neighbours)")
    add("--labels", metavar="TABLE", help="labels in place of those of the features: columns path and label")
    add("--split", default="train", help="what is divided (default: train)")
    add("--view", default="whole", help="whole, flip or box, as embedded (default: whole)")
    add("--sheets", type=Path, metavar="FOLDER", help="also write a sheet of photographs per class")
    add("--overwrite", action="store_true", help="replace a table and sheets that are there")
    add_limits(parser)
    return parser.parse_args(argv)
