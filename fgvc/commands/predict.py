"""`fgvc predict MODEL... INPUT...`: name what is in photographs, as a table on stdout or in a file."""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgvc.config.one_line_parser import OneLineParser
from fgvc.errors import UsageError
from fgvc.files.lines import quoted, tell
from fgvc.files.whole_files import check_free, check_picture, save_picture
from fgvc.images import contact_sheet
from fgvc.images.contact_sheet import Tile
from fgvc.images.decoding import ImageError, Limits
from fgvc.images.folders import PassedOver
from fgvc.images.pictures import Picture, add_limits, pixels_of
from fgvc.model_file.folder import is_model
from fgvc.prediction.allowed_classes import AllowedClasses
from fgvc.prediction.inputs import add_inputs, pictures_of, read_inputs
from fgvc.prediction.journal import Journal
from fgvc.prediction.output import to_file, to_stdout
from fgvc.prediction.provenance import hashes_of_all, save
from fgvc.prediction.results import Result
from fgvc.prediction.tables import writers
from fgvc.prediction.tables.columns import LAYOUTS, Columns
from fgvc.prediction.tally import SHEET_PICTURES, Tally

if TYPE_CHECKING:
    from fgvc.prediction.retrieval.beside import Beside

NEIGHBOURS = 5
"""How many photographs of a gallery stand beside an answer."""


def main(argv: list[str]) -> int:
    """Run the command and return its exit code: 0, or 1 where a picture could not be read.

    Raises:
        FgvcError: see `Predictor` and `fgvc.prediction.output`; UsageError for a wrong input or output, before
            any work starts; StoppedError for Ctrl-C while answers are kept.
    """
    arguments = _parser().parse_args(argv)
    models = _models(arguments)
    kind = _check(arguments)
    limits = Limits(arguments.max_pixels, arguments.any_format).check("--")
    inputs = read_inputs(arguments.inputs, arguments.path_column, arguments.root)
    allowed = AllowedClasses.read(arguments.allow) if arguments.allow else None
    from fgvc.prediction.predictor import load  # seconds: after what can be refused without it

    predictor = load(models, arguments.device, limits)
    if allowed is not None:
        tell(allowed.restrict(predictor))
        if arguments.precision is not None:
            tell("--precision was counted without --allow: here it is no promise")
    if arguments.gallery is not None:
        predictor.compare_with(arguments.gallery, arguments.neighbours or NEIGHBOURS)
    passed = PassedOver()
    pictures, total = pictures_of(inputs, passed)
    tally = Tally(total)

    def predict(batches: Iterable[Iterable[Picture]]) -> Iterator[Result]:
        return predictor.predict_batches(batches, arguments.top_k, arguments.batch_size, arguments.precision)

    predict([])  # a number that is unfit is refused here
    levels, top_k = predictor.taxonomy.levels, min(arguments.top_k, predictor.taxonomy.num_classes)
    columns = Columns(
        levels,
        top_k,
        predictor.has_boxes(),
        arguments.precision is not None,
        arguments.layout,
        0 if predictor.beside is None else predictor.beside.count,
    )
    if arguments.output:
        hashes = hashes_of_all(models)
        with Journal(
            arguments.output, _terms(arguments, hashes, allowed, predictor.beside), arguments.overwrite
        ) as journal:
            if journal.found:
                tell(f"{arguments.output}: {journal.found} answers of a stopped run are taken over")
            to_file(
                tally.watched(journal.answered(pictures, predict, arguments.batch_size)),
                arguments.output,
                kind,
                columns,
                journal,
            )
            tally.taken = journal.taken
            answered = {"readout": predictor.model.readout, "temperatures": predictor.model.temperatures}
            model = {"path": ", ".join(map(str, models)), "sha256": hashes, "device": str(predictor.device), **answered}
            options = {key: value for key, value in vars(arguments).items() if key not in ("model", "inputs")}
            save(arguments.output, ["predict", *argv], model, options, tally.counts(), journal.started)
    else:
        to_stdout(tally.watched(predict((pictures,))), kind, columns)
    written = [str(arguments.output or "stdout")]
    if arguments.sheet and _draw(tally.shown, arguments.sheet, columns.neighbours, limits):
        written.append(str(arguments.sheet))
    if passed.counts:
        tell(passed.line())
    tell(tally.summary(written))
    return 1 if tally.failed and not arguments.keep_going else 0


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="fgvc predict",
        description="Name what is in photographs. A picture that cannot be read keeps its row, with the reason in the "
        "column `error`; the exit code is then 1. What is wrong with a picture that is read all the same stands in the "
        "column `warning`.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=Path,
        help="a run folder or a model folder; further ones may follow, and "
        "the answer is the mean of their probabilities",
    )
    add_inputs(parser)
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
    near = f"also tell the nearest photographs of --gallery (default with it: {NEIGHBOURS})"
    parser.add_argument("--neighbours", type=int, metavar="K", help=near)
    gallery = "features of photographs, as `fgvc embed MODEL PHOTOS` writes them"
    parser.add_argument("--gallery", type=Path, metavar="FEATURES", help=gallery)
    add_limits(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    return parser


def _models(arguments: argparse.Namespace) -> list[Path]:
    """Take the models off the front of the inputs: a folder that holds a model is one, whatever else lies in it."""
    models, inputs = [arguments.model], arguments.inputs
    while inputs and is_model(inputs[0]):
        models.append(Path(inputs.pop(0)))
    if not inputs:
        raise UsageError(f"{models[-1]}: a model, as all that is given; name the photographs after the models")
    if len(models) > 1 and arguments.precision is not None:
        raise UsageError(
            f"--precision: nothing was counted for these {len(models)} models together; fgvc ensemble "
            f"{' '.join(map(quoted, models))} --output M counts it, then fgvc predict M"
        )
    return models


def _check(arguments: argparse.Namespace) -> str:
    """Refuse what is wrong at first sight, and return the format of the answers."""
    output: Path | None = arguments.output
    if output and output.is_dir():
        raise UsageError(f"{output}: a folder; give a file in it, e.g. {output / 'predictions.csv'}")
    kind = arguments.format or (writers.kind_of(output) if output else "csv")
    if kind == "parquet" and not output:
        raise UsageError("--format parquet: does not go to stdout; give --output FILE.parquet")
    if arguments.sheet:
        check_picture(arguments.sheet)
    for path in (arguments.output, arguments.sheet):
        if path:
            check_free(path, arguments.overwrite)
    if arguments.precision is not None and not 0 < arguments.precision < 1:
        raise UsageError(f"--precision {arguments.precision:g}: a share between 0 and 1, e.g. 0.95 for 95 %")
    if arguments.neighbours is not None and arguments.gallery is None:
        raise UsageError(
            f"--neighbours {arguments.neighbours}: of which photographs? give --gallery FEATURES, which fgvc embed "
            f"{arguments.model} PHOTOS writes"
        )
    if arguments.neighbours is not None and arguments.neighbours < 1:
        raise UsageError(f"--neighbours {arguments.neighbours}: give 1 or more")
    return str(kind)


def _terms(
    arguments: argparse.Namespace, hashes: Mapping[str, str], allowed: AllowedClasses | None, beside: "Beside | None"
) -> dict[str, Any]:
    """Return what an answer depends on, beyond the picture."""
    return {
        "fgvc": version("fgvc"),
        **hashes,
        "--top_k": arguments.top_k,
        "--precision": arguments.precision,
        "--allow": None if allowed is None else allowed.fingerprint,
        "--max_pixels": arguments.max_pixels,
        "--any_format": arguments.any_format,
        "--neighbours": None if beside is None else beside.count,
        "--gallery": None if beside is None else beside.gallery.fingerprint,
    }


def _draw(results: Iterable[Result], target: Path, neighbours: int, limits: Limits) -> bool:
    """Draw the sheet, with neighbours a row for each picture; return whether there was anything to draw."""
    if neighbours:
        from fgvc.prediction.retrieval.sheet import row_sheet

        return row_sheet((_row(result) for result in results), 1 + neighbours, target, limits)
    tiles = _tiles(results, limits)
    if tiles:
        save_picture(contact_sheet.contact_sheet(tiles), target)
    return bool(tiles)


def _row(result: Result) -> list[tuple[str, str]]:
    name, score = (result.label, result.score) if result.answer is None else (result.answer, result.answer_score)
    said = name or "" if score is None else f"{name} {100 * score:.0f} %"
    return [(result.path or "", said), *((n.path, f"{n.value:.3f} {n.label or ''}") for n in result.neighbours or ())]


def _tiles(results: Iterable[Result], limits: Limits) -> list[Tile]:
    tiles = []
    for result in results:
        try:
            vouched = result.answer is not None
            name, score = (result.answer, result.answer_score) if vouched else (result.label, result.score)
            tiles.append(Tile(pixels_of(result.path or "", limits=limits), name or "", score))
        except ImageError:  # gone since it was read
            continue
    return tiles
