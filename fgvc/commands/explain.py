"""`fgvc explain MODEL INPUT... --output DIR`: draw where a model looked, what it saw there and what it made of it."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fgvc.config.one_line_parser import OneLineParser
from fgvc.errors import UsageError
from fgvc.files.lines import tell
from fgvc.files.whole_files import open_whole, save_picture
from fgvc.images.decoding import ImageError, Limits
from fgvc.images.folders import PassedOver
from fgvc.images.pictures import Picture, add_limits, pixels_with_warning
from fgvc.prediction.inputs import add_inputs, pictures_of, read_inputs
from fgvc.prediction.results import write_json
from fgvc.prediction.tally import Tally

if TYPE_CHECKING:
    from fgvc.prediction.explain.explanation import Explanation
    from fgvc.prediction.predictor import Predictor

TABLE = "explain.json"


def main(argv: list[str]) -> int:
    """Run the command and return its exit code: 0, or 1 where a picture could not be read.

    Raises:
        FgvcError: see `Predictor`; UsageError for a wrong input or output, before any work starts.
    """
    arguments = _parser().parse_args(argv)
    _check(arguments)
    limits = Limits(arguments.max_pixels, arguments.any_format).check("--")
    passed = PassedOver()
    inputs = read_inputs(arguments.inputs, arguments.path_column, arguments.root)
    pictures = list(pictures_of(inputs, passed)[0])
    _spare_inputs(pictures, arguments.output)
    from fgvc.prediction.predictor import load  # seconds: after what can be refused without it

    predictor = load(arguments.model, arguments.device, limits)
    tally = Tally(len(pictures))
    explanations = tally.watched(_explained(predictor, pictures, arguments), "explaining")
    with open_whole(arguments.output / TABLE) as file:
        write_json(explanations, file, predictor.taxonomy.levels, arguments.top_k)
    if passed.counts:
        tell(passed.line())
    tell(tally.summary([str(arguments.output)]))
    return 1 if tally.failed else 0


def names_for(pictures: Sequence[Picture]) -> list[str]:
    """Return a file name for each picture: its stem, with a number where another one has it already."""
    taken: set[str] = set()
    names = []
    for picture in pictures:
        stem = Path(str(picture)).stem or "picture"
        name, number = stem, 2
        while name.casefold() in taken:  # some file systems hold A.jpg and a.jpg to be the same
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.casefold())
        names.append(f"{name}.jpg")
    return names


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="fgvc explain",
        description="Draw one picture per photograph: the boxes of every scale, a heat map of the evidence, and the "
        f"crops with their guesses. {TABLE} beside them holds the same as data, boxes in pixels of the upright "
        "photograph. A photograph that cannot be read has its entry there too; the exit code is then 1.",
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="a run folder or a model folder")
    add_inputs(parser)
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="the folder to write into")
    parser.add_argument("--overwrite", action="store_true", help="write into DIR though it is not empty")
    parser.add_argument("--top_k", type=int, default=3, help="guesses per view (default: 3)")
    parser.add_argument("--no_heat_map", action="store_true", help="leave the heat maps out")
    add_limits(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    if arguments.top_k < 1:
        raise UsageError(f"top_k: {arguments.top_k}; give 1 or more")
    output: Path = arguments.output
    try:
        full = output.exists() and (not output.is_dir() or any(output.iterdir()))
    except OSError as error:
        raise UsageError(f"{output}: cannot be read ({error.strerror}); choose another folder") from None
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: a file; --output is a folder, choose another name")
    if full and not arguments.overwrite:
        raise UsageError(f"{output}: not empty; choose another folder, or give --overwrite")


def _spare_inputs(pictures: Iterable[Picture], output: Path) -> None:
    """A photograph in DIR itself would be replaced by the drawing that explains it."""
    for picture in pictures:
        if isinstance(picture, str | Path) and Path(picture).absolute().parent.resolve() == output.resolve():
            raise UsageError(f"{output}: holds the photograph {Path(picture).name}; choose another folder")


def _explained(
    predictor: "Predictor", pictures: Sequence[Picture], arguments: argparse.Namespace
) -> Iterator["Explanation"]:
    for picture, name in zip(pictures, names_for(pictures), strict=True):
        yield _draw(predictor, picture, arguments.output / name, arguments.top_k, not arguments.no_heat_map)


def _draw(predictor: "Predictor", picture: Picture, target: Path, top_k: int, heat: bool) -> "Explanation":
    from fgvc.prediction.explain.drawing import draw  # seconds, as above
    from fgvc.prediction.explain.explanation import Explanation, explain

    try:
        photograph, warning = pixels_with_warning(picture, limits=predictor.limits)
    except ImageError as error:
        return Explanation(str(picture), error=str(error))
    explanation = explain(predictor, photograph, top_k, heat)
    explanation.path, explanation.picture, explanation.warning = str(picture), target.name, warning
    save_picture(draw(photograph, explanation, Path(str(picture)).name), target)
    return explanation
