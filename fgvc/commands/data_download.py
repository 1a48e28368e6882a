"""`fgvc data download WHAT --to FOLDER`: fetch a published data set from its makers and unpack it."""

from pathlib import Path

from fgvc.config.one_line_parser import OneLineParser
from fgvc.data.downloads.facts import data_set
from fgvc.data.downloads.installing import describe, next_steps, obtain
from fgvc.files.lines import tell
from fgvc.files.shipped import download_stems


def main(argv: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        FgvcError: the data set cannot be fetched, is not the published one, or does not fit on the disk; UsageError
            for a wrong name, part or folder.
    """
    arguments = _parser().parse_args(argv)
    if arguments.what is None:
        for stem in download_stems():
            print(f"{stem:<18} {data_set(stem).title}")
        return 0
    chosen = data_set(arguments.what).of_part(arguments.part)
    if arguments.to is None:
        print(describe(chosen))
        print(f"fgvc data download {arguments.what} --to FOLDER fetches it")
        return 0
    home = arguments.to.expanduser()
    tell(describe(chosen))
    try:
        obtain(chosen, home, arguments.keep_archive)
    except KeyboardInterrupt:
        tell("what has arrived is kept: give the same command again to continue")
        raise
    tell(next_steps(chosen, home))
    return 0


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="fgvc data download",
        description="Fetch a published data set from its makers and unpack it. A download that was cut or killed goes "
        "on where it stopped; what is there already is left as it is.",
    )
    parser.add_argument("what", metavar="WHAT", nargs="?", help="the data set; without it, all are listed")
    parser.add_argument(
        "--to", metavar="FOLDER", type=Path, help="where it goes; without it, terms, addresses and sizes are printed"
    )
    parser.add_argument("--part", help="of a data set in parts, which one (default: the smallest)")
    parser.add_argument("--keep_archive", action="store_true", help="keep the archives after they are unpacked")
    return parser
