"""`fgvc ensemble A B C --output M`: several models as one, which answers with the mean of their probabilities."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fgvc.config.held_out import HeldOut, difference, open_held_out, run_of
from fgvc.config.one_line_parser import OneLineParser
from fgvc.config.yaml_files import read_text
from fgvc.errors import UsageError
from fgvc.files import run_folder
from fgvc.files.bars import bar
from fgvc.files.lines import counted, quoted, tell
from fgvc.files.origin import environment
from fgvc.files.whole_files import write_text
from fgvc.methods.recognizers.ensemble import Ensemble
from fgvc.model_file.ensembles import together
from fgvc.model_file.folder import is_model
from fgvc.model_file.model import Model, load, save
from fgvc.training.calibration import collected, halves, rows_kept, set_calibration
from fgvc.training.mixture import mixture_weights, said_of_truth


def main(argv: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        FgvcError: no model at a path, models that do not go together, or a folder that cannot be written.
    """
    asked, rest = _parser().parse_known_args(argv)
    if rest and not rest[0].startswith("--"):
        raise UsageError(f"fgvc ensemble: {rest[0]!r} is one word too many; name all models first")
    check_output(asked.output, asked.overwrite)
    if len(asked.models) < 2:
        raise UsageError("fgvc ensemble: one model is no ensemble; give two or more")
    models, folders = [load(folder) for folder in asked.models], list(asked.models)
    model = together(models, folders)
    images = held_out(asked, rest, model)
    if asked.weights == "val":
        if images is None:
            raise UsageError("--weights val: no images choose them; give --data FOLDER of labelled images")
        weights = _chosen(model, images)
        kept = [i for i, weight in enumerate(weights) if weight > 0]
        for i in sorted(set(range(len(folders))) - set(kept)):
            tell(f"{folders[i]}: adds nothing to the others (weight 0) and is left out")
        models, folders = [models[i] for i in kept], [folders[i] for i in kept]
        model = together(models, folders, [weights[i] for i in kept])
    model.provenance |= {"weights_by": asked.weights, "metrics": {}, **environment()}
    if images is not None:
        tell(calibrated(model, images))
    path = write(model, asked.output, next(filter(None, map(run_of, folders)), None))
    _tell(model, path, asked.output)
    return 0


def check_output(output: Path, overwrite: bool) -> None:
    """Raise UsageError for a folder that holds a model or a run already, unless it may be replaced."""
    if not overwrite and (is_model(output) or (output / run_folder.CONFIG).exists()):
        raise UsageError(f"{output}: holds a model already; give --overwrite or another --output")


def held_out(asked: argparse.Namespace, rest: Sequence[str], model: Model) -> HeldOut | None:
    """Return the images to choose and to calibrate on; None, with a line that says why, where there are none.

    Raises:
        UsageError: `--weights val`, and a run was trained on images that another one held out.
    """
    run = next(filter(None, map(run_of, asked.models)), None)
    odd = "" if asked.data else difference(asked.models)
    if run is None:
        odd = "none of the models lies in a run, whose config says where the images are"
    if odd and (asked.weights == "val" or asked.data):
        raise UsageError(
            f"{odd}; {'' if run is None else 'give --data FOLDER of images that none has seen, or '}--weights equal"
        )
    if run is None or odd:
        tell(f"not calibrated: {odd}")
        return None
    try:
        images = open_held_out("ensemble", run, model.taxonomy, asked.data, rest)
    except UsageError as error:
        if asked.weights == "val" or asked.data:
            raise
        tell(f"not calibrated: {error}")
        return None
    return images


def _chosen(model: Model, images: HeldOut) -> list[float]:
    """Return the weights by the likelihood of one half of the images; the other half will count what is right."""
    images.data.show(model.resize)
    rows = rows_kept(model.taxonomy, images.data, images.split)
    fitting, _ = halves(len(rows))
    chosen = [rows[i] for i in fitting.sort().values.tolist()]
    batches = bar(f"weighing on {images.split}", images.data.whole_split(images.split, chosen), unit=" batches")
    recognizer: Any = model.recognizer
    said = said_of_truth(recognizer, batches, images.device)
    tell(f"weights: by the likelihood of {counted(len(said), f'{images.split} image')}, half of them all")
    return [float(weight) for weight in mixture_weights(said)]


def calibrated(model: Model, images: HeldOut) -> str:
    """Calibrate a model on held-out images, note its score there, and return what is to be told."""
    images.data.show(model.resize)
    logits, labels = collected(model.recognizer, images.data, images.split, images.device)
    leaf = model.taxonomy.leaf_level
    known = (labels >= 0) & (labels < model.taxonomy.num_classes)
    right = (logits[leaf].argmax(dim=1) == labels)[known]
    if len(right):
        model.provenance["metrics"] = {f"{images.split}/{leaf}/top1": round(float(right.float().mean()), 6)}
    return set_calibration(model, logits, labels, images.split).rstrip("\n")


def write(model: Model, output: Path, run: Path | None) -> Path:
    """Write a model as a run would, with the config of a run whose data it is tested on; return its folder."""
    path = save(model, output / run_folder.MODEL)
    if run is not None:
        config = yaml.safe_load(read_text(run / run_folder.CONFIG))
        how = max(model.resize.squares) if not hasattr(model.resize, "fit") else model.resize
        config["model"] |= {"recognizer": model.architecture, "image_size": model.recognizer.image_size}
        config["data"] |= {key: getattr(how, key) for key in ("fit", "crop_fraction", "interpolation")}
        config["data"]["source_size"] = None if how.size == model.recognizer.image_size else how.size
        config |= {"name": output.resolve().name, "runs": str(output.parent), "phases": None, "init_from": None}
        write_text(output / run_folder.CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    return path


def _tell(model: Model, path: Path, output: Path) -> None:
    recognizer = model.recognizer
    assert isinstance(recognizer, Ensemble)
    for name, weight, told in zip(recognizer.names, recognizer.weights, model.provenance["members"], strict=True):
        own = next(iter(told.get("metrics", {}).items()), None)
        tell(
            f"  {name:<40} weight {weight:.3f}{'' if own is None else f'   {own[0]} {own[1]:.4f} when it was trained'}"
        )
    for name, score in model.provenance["metrics"].items():
        tell(f"  {'together':<40} {name} {score:.4f}")
    tell(f"model: {path}")
    if (output / run_folder.CONFIG).is_file():
        tell(f"next:  fgvc test {quoted(output)}")
    tell(f"       fgvc predict {quoted(output)} PHOTO...")


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="fgvc ensemble",
        allow_abbrev=False,
        description="Make one model of several that know the same classes. It answers with the weighted mean of their "
        "calibrated probabilities, at every level, and is calibrated on the validation images of the first run. It is "
        "used like any other: fgvc predict, test, calibrate, info. Further --KEY VALUE override that run's config.",
    )
    parser.add_argument("models", metavar="MODEL", nargs="+", type=Path, help="run folders or model folders")
    add_output(parser)
    weights = (
        "equal: each model counts alike (default); val: the weights that make the truth of held-out images most "
        "probable, chosen on one half of them"
    )
    parser.add_argument("--weights", choices=("equal", "val"), default="equal", help=weights)
    return parser


def add_output(parser: OneLineParser) -> None:
    """Add the flags of a command that makes a model of several: where it goes, and what it is chosen on."""
    parser.add_argument("--output", "--out", type=Path, required=True, metavar="M", help="the folder of the new model")
    parser.add_argument("--overwrite", action="store_true", help="replace a model that is there")
    other = "a folder or table of labelled images in place of the first run's validation images"
    parser.add_argument("--data", metavar="DATA", help=other)
