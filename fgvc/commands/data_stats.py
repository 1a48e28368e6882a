"""`fgvc data stats DATA`: count the images per split, level and class, and tell how large they are."""

import csv
import json
from pathlib import Path

import jsonargparse

from fgvc.config.data_cli import parse
from fgvc.data.inspection import sizes, stats
from fgvc.data.inspection.split_records import records_of
from fgvc.errors import UsageError
from fgvc.files.lines import print_lines, tell
from fgvc.files.whole_files import check_output, open_whole

ABOUT = "Count the images of every split that a training would see, per level and class, and tell how large they are."


def main(words: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        FgvcError: wrong words, data that cannot be opened, or an output that cannot be written.
    """
    options, open_data = parse("fgvc data stats", ABOUT, words, _options)
    count = _count(options.sizes)
    if options.output:
        check_output(options.output, [".json", ".csv"], options.overwrite)
    data = open_data()
    records = records_of(data)
    labels = {split: of_split.labels for split, of_split in records.items()}
    counted = stats.to_plain(labels, data.taxonomy)
    print_lines(stats.table(counted))
    print_lines(f"note: {told}" for told in data.source.doubts.values())
    measured = None if count == 0 else sizes.sizes(records, count)
    if measured:
        print()
        print_lines(sizes.table(measured))
    if options.output:
        with open_whole(options.output) as file:
            if options.output.suffix.lower() == ".csv":
                csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerows(
                    stats.class_rows(labels, data.taxonomy)
                )
            else:
                file.write(json.dumps({"splits": counted, "sizes": measured}, indent=1) + "\n")
        tell(f"written: {options.output}")
    return 0


def _options(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path | None, default=None, help=".json: all numbers; .csv: images per class")
    parser.add_argument("--overwrite", action="store_true", help="replace --output where it exists")
    sizes = "how many images to take the sizes from: a number, 0 for none, all (default: 2000)"
    parser.add_argument("--sizes", type=str, default="2000", help=sizes)


def _count(asked: str) -> int | None:
    if asked == "all":
        return None
    if not asked.isdecimal():
        raise UsageError(f"--sizes {asked}: give a number of images, 0 for none, or all")
    return int(asked)
