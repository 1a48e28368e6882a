"""`fgvc info MODEL`: what a model is, what it knows, how good it is and where it came from; torch is not loaded."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fgvc.config.one_line_parser import OneLineParser
from fgvc.files import streams
from fgvc.model_file.folder import read, tensors
from fgvc.report.model_facts import about, weights
from fgvc.report.model_page import page


def main(argv: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        FgvcError: no model there, or a damaged one.
    """
    arguments = _parser().parse_args(argv)
    stored = read(arguments.model)
    holds = tensors(stored)  # also where only the classes are asked for: of half a model nothing is told
    data = arguments.classes or arguments.json
    if isinstance(sys.stdout, io.TextIOWrapper):  # class names may come from file names that are no UTF-8
        errors = "surrogateescape" if arguments.classes else "backslashreplace"
        sys.stdout.reconfigure(encoding="utf-8" if data else None, errors=errors)
    if arguments.classes:
        csv.writer(streams.for_data(sys.stdout), lineterminator="\n").writerows(_rows(stored.described["taxonomy"]))
        return 0
    found = {**about(stored), "weights": weights(stored, {n: (t.dtype, t.shape) for n, t in holds.items()})}
    if arguments.json:
        print(json.dumps(found, indent=1, ensure_ascii=False), file=streams.for_data(sys.stdout))
    else:
        print("\n".join(page(found)))
    return 0


def _rows(taxonomy: Mapping[str, list[Any]]) -> Iterator[list[str]]:
    yield taxonomy["levels"]
    yield from taxonomy["leaves"]


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="fgvc info",
        description="Say what a model is, what it knows, how good it is and where it came from. That its two files are "
        "whole and belong together is checked.",
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="a run folder, or the model folder inside it")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="the same as one JSON object")
    how.add_argument("--classes", action="store_true", help="all classes as CSV, one column per level")
    return parser
