"""`fgvc report RUN`: a run's numbers, curves and mistakes as one page, RUN/report.html."""

import argparse
import base64
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from fgvc.errors import UsageError
from fgvc.files.answer_table import Answers
from fgvc.files.whole_files import open_whole
from fgvc.images.boxes import Box
from fgvc.images.decoding import ImageError, decode
from fgvc.images.overlays import boxed, cut_out
from fgvc.report.page import page
from fgvc.report.run import at, read, read_config

PAGE = "report.html"
SIDE, QUALITY = 160, 78
COLOURS = ("#f0a830", "#17a398", "#e4572e", "#8e6bbf")
"""Of the boxes on a photograph, the first look first."""
LOOKED_FOR = 20


def main(argv: list[str]) -> int:
    """Run the command and return its exit code; photographs that are not there leave grey squares and a note.

    Raises:
        FgvcError: the page cannot be written; UsageError for a wrong run or folder.
    """
    arguments = _parser().parse_args(argv)
    run = _resolve(arguments.run)
    if arguments.images and not arguments.images.is_dir():
        raise UsageError(
            f"{arguments.images}: no such folder; --images is the folder that the paths of the table start at"
        )
    print(f"{write_page(run, arguments.images)}", file=sys.stderr)
    return 0


def write_page(run: Path, images: Path | None = None) -> Path:
    """Write the page of a run folder and return its path.

    Args:
        run: the folder.
        images: where the paths of its table start; by default where the run's config says.

    Raises:
        FgvcError: the page cannot be written; UsageError for a folder without tables.
    """
    report = read(run)
    pictures: dict[int, str] = {}
    notes = []
    if report.answers and report.pictured:
        folder = _find(report.answers.paths, _folders(run, images))
        pictures, first_error = thumbnails(report.answers, report.pictured, folder)
        if first_error:
            missing = len(report.pictured) - len(pictures)
            notes.append(
                f"{missing} of {len(report.pictured)} photographs are not shown (first: {first_error}); "
                f"fgvc report {run} --images FOLDER says where they are."
            )
    with open_whole(run / PAGE) as file:
        file.write(page(report, pictures, notes))
    return run / PAGE


def thumbnails(answers: Answers, rows: Sequence[int], folder: Path) -> tuple[dict[int, str], str]:
    """Read photographs, with a frame round each part that the model looked at.

    Args:
        answers: whose paths and boxes they are.
        rows: which of them.
        folder: where relative paths start.

    Returns:
        row -> data: address of a JPEG of at most 160 x 160 pixels, and why the first one that failed did, or "".
    """
    found, first_error = {}, ""
    for row in rows:
        try:
            photograph = Image.fromarray(decode(folder / answers.paths[row]))
        except ImageError as error:
            first_error = first_error or str(error)
            continue
        found[row] = _address(photograph, answers.boxes_of(row))
    return found, first_error


def _address(photograph: Image.Image, boxes: Sequence[Box]) -> str:
    small = cut_out(photograph, (0.0, 0.0, 1.0, 1.0), min(SIDE, max(photograph.size)))
    small = boxed(small, [("", box, COLOURS[i % len(COLOURS)]) for i, box in enumerate(boxes)])
    data = io.BytesIO()
    small.save(data, format="JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fgvc report",
        description=f"Write RUN/{PAGE}: accuracy, training curves, confused classes, calibration and all classes of a "
        "tested run, on one page that needs no network and no other file.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder; `fgvc test RUN` writes what is shown")
    parser.add_argument(
        "--images", metavar="FOLDER", type=Path, help="where the photographs are (default: as the run's config says)"
    )
    return parser


def _resolve(run: Path) -> Path:
    """Return the folder of a run, following the file `latest` of the folder of all runs."""
    pointer = run.parent / "latest"
    if run.name == "latest" and pointer.is_file():
        run = run.parent / pointer.read_text(encoding="utf-8").strip()
    if not run.is_dir():
        raise UsageError(f"{run}: no run folder; give the folder that `fgvc fit` printed")
    return run


def _folders(run: Path, given: Path | None) -> Iterator[Path]:
    """Yield where the photographs may be. CUB's paths start at its folder `images`, those of all others at the root."""
    if given:
        yield from (given, given / "images")
        return
    config = read_config(run)
    source = at(config, "data", "source", "init_args") or {}
    named = [source.get("root"), source.get("path") and str(Path(str(source["path"])).parent)]
    for root in (Path(str(name)).expanduser() for name in named if name is not None):
        for start in (Path(), run.parent.parent):  # where the run was made, if it is not here
            yield from (start / root, start / root / "images")
    if str(at(config, "data", "source", "class_path")).endswith("GeneratedBirds"):
        yield from _generated(source)


def _generated(source: dict[str, Any]) -> Iterator[Path]:
    """Yield the folders of the cache that were painted by these arguments, as their manifests say."""
    cache = Path(source.get("root") or os.environ.get("FGVC_CACHE") or "~/.cache/fgvc").expanduser()
    numbers = [
        source.get(key) for key in ("num_orders", "families_per_order", "genera_per_family", "species_per_genus")
    ]
    for file in sorted(cache.glob("generated_birds_*/manifest.json"), reverse=True):
        try:
            made = json.loads(file.read_text(encoding="utf-8"))
            paths = [one[:-1] for one in made["species"]]
            nodes = [1, *(len({tuple(path[: depth + 1]) for path in paths}) for depth in range(len(numbers)))]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        same = all(made.get(key) == source.get(key) for key in ("seed", "image_size", "mark_size"))
        if same and [below // above for above, below in pairwise(nodes)] == numbers:
            yield file.parent


def _find(paths: Sequence[str], folders: Iterator[Path]) -> Path:
    """Return the first folder that holds one of the first photographs; this one where none does."""
    tried = list(dict.fromkeys(folders))
    held = (folder for folder in tried if any((folder / path).is_file() for path in paths[:LOOKED_FOR]))
    return next(held, tried[0] if tried else Path())
