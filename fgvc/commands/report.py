"""`fgvc report RUN`: a run's numbers, curves and mistakes as one page, RUN/report.html."""

from pathlib import Path

from fgvc.config.one_line_parser import OneLineParser
from fgvc.errors import UsageError
from fgvc.files.lines import tell
from fgvc.files.run_folder import followed
from fgvc.report.page import PAGE, write_page


def main(argv: list[str]) -> int:
    """Run the command and return its exit code; photographs that are not there leave grey squares and a note.

    Raises:
        FgvcError: the page cannot be written; UsageError for a wrong run or folder.
    """
    arguments = _parser().parse_args(argv)
    run, images = followed(arguments.run), arguments.images
    if not run.is_dir():
        raise UsageError(f"{run}: no run folder; give the folder that `fgvc fit` printed")
    if images and not images.is_dir():
        raise UsageError(f"{images}: no such folder; --images is the folder that the paths of the table start at")
    tell(f"{write_page(run, images)}")
    return 0


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="fgvc report",
        description=f"Write RUN/{PAGE}: accuracy, training curves, confused classes, calibration and all classes of a "
        "tested run, on one page that needs no network and no other file.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder; `fgvc test RUN` writes what is shown")
    parser.add_argument(
        "--images", metavar="FOLDER", type=Path, help="where the photographs are (default: where the test found them)"
    )
    return parser
