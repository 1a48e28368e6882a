"""`fgvc probe FEATURES --output MODEL`: a linear classifier of cached features, and a model that has it."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fgvc.confidence.intervals import wilson
from fgvc.confidence.vouching import prospect
from fgvc.config.one_line_parser import OneLineParser
from fgvc.errors import UsageError
from fgvc.features.folder import FeatureFolder, open_features
from fgvc.features.rebuilding import network_of
from fgvc.files.lines import counted, print_lines, quoted, tell
from fgvc.files.origin import environment
from fgvc.methods.devices import device_of
from fgvc.methods.embedder import Embedder
from fgvc.model_file.model import DESCRIPTION, Model, save
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.linear_model import linear_model, set_classifier
from fgvc.training.probe import HELD_OUT, PENALTIES, Probe, Scores, probe

ABOUT = """Fit a linear classifier (logistic regression) on features that fgvc embed computed, and write the network
with it as a model: fgvc predict MODEL PHOTO. The penalty is chosen on the split val, or on a tenth of train that is
held out; test is scored and chooses nothing."""


def main(argv: list[str]) -> int:
    """Fit, write the model, print the scores and return the exit code.

    Raises:
        UsageError: words or features that do not fit, or a network that no linear head can read.
        FgvcError: features that are no numbers, or a model that cannot be written.
    """
    options = _parse(argv)
    if (options.output / DESCRIPTION).exists() and not options.overwrite:
        raise UsageError(f"{options.output}: holds a model already; give --overwrite or another --output")
    device = device_of(options.device)
    folder = open_features(options.features)
    network = network_of(folder, options.model)
    embedder = Embedder(network.module, folder.description["take"]).eval()
    recognizer, architecture = linear_model(network, embedder, folder.taxonomy)
    done = probe(folder, options.view, options.penalties, options.hold_out, device)
    set_classifier(recognizer, done.linear)
    model = Model(recognizer, architecture, network.resize, provenance=_provenance(folder, options.view, done))
    if done.calibration is not None:
        fitted = done.calibration
        model.temperatures, model.readout, model.vouching = fitted.temperatures, fitted.readout, fitted.vouching
    save(model, options.output)
    _tell(folder.taxonomy, done)
    if options.view in ("box", "uncut"):
        tell(f"the scores are of the view {options.view}; the model itself looks at whole squares of photographs")
    print_lines(_table(folder.taxonomy, done))
    tell(f"model: {options.output}")
    tell(f"next:  fgvc predict {quoted(options.output)} PHOTO...")
    return 0


def _provenance(folder: FeatureFolder, view: str, done: Probe) -> dict[str, Any]:
    described = folder.description
    told = {
        "features": str(folder.path),
        "network": described["network"],
        "weights": described["weights"],
        "seen": described.get("seen", ""),
        "take": described["take"],
        "view": view,
        "photographs": done.fitted,
        "penalty": done.penalty,
        "tried": [[one.penalty, one.reached.right, one.reached.loss] for one in done.tried],
        "chosen_on": f"{counted(done.choosing, 'image')} of {_held(done)}",
    }
    metrics = {f"{split}/{name}": value for split, found in done.scores.items() for name, value in found.shares.items()}
    calibration = {} if done.calibration is None else {"calibration": done.calibration.to_plain(_held(done))}
    return {"probe": told, "metrics": metrics, **calibration, **environment()}


def _held(done: Probe) -> str:
    return "val" if done.held_out == "val" else "held-out"


def _tell(taxonomy: Taxonomy, done: Probe) -> None:
    """Say what was fitted on what, and what chose."""
    tell(f"fitted on {counted(done.fitted, 'photograph')} of train")
    if done.left_out:
        tell(f"left out of train: {counted(done.left_out, 'photograph')} whose {taxonomy.leaf_level} is not known")
    if done.without:
        tell(f"of {taxonomy.num_classes} classes, {done.without} have no photograph in train and are never answered")
    first, last = done.tried[0], done.tried[-1]
    if len(done.tried) > 1:
        best = next(one for one in done.tried if one.penalty == done.penalty)
        share = f"{100 * best.reached.right:.1f} % right of {counted(done.choosing, f'{_held(done)} photograph')}"
        span = f"{len(done.tried)} from {first.penalty:g} to {last.penalty:g}"
        edge = " (at the end; --penalties tries others)" if best in (first, last) else ""
        tell(f"penalty {done.penalty:g}, the best of {span}{edge}: {share}")
    if done.calibration is None:
        tell("not calibrated: no photograph is held out")
        return
    tell(done.calibration.told(taxonomy.leaf_level, _held(done)))
    more = "more images in val" if done.held_out == "val" else "a larger --hold_out"
    tell(prospect(done.calibration.vouching, _held(done), more=f"more images: {more}"))


def _table(taxonomy: Taxonomy, done: Probe) -> Iterator[str]:
    """Yield a line per split and level."""
    width = max(len(level) for level in taxonomy.levels)
    for split, found in done.scores.items():
        chose = ", half of which chose the penalty" if split == done.held_out and len(done.tried) > 1 else ""
        yield f"{split}: {counted(found.images, 'photograph')}{chose}"
        if not any(found.known.values()):
            yield "  none has a known class"
        for level in reversed(taxonomy.levels):
            if found.known[level]:
                yield f"  {level:<{width}}  {_shares(found, level)}"


def _shares(found: Scores, level: str) -> str:
    top1, known = found.shares[f"{level}/top1"], found.known[level]
    low, high = wilson(round(top1 * known), known)
    told = [f"top-1 {100 * top1:6.2f} % ({100 * low:.1f} to {100 * high:.1f})"]
    for key, word in (("top5", "top-5"), ("mean_per_class", "mean of classes")):
        if f"{level}/{key}" in found.shares:
            told.append(f"{word} {100 * found.shares[f'{level}/{key}']:6.2f} %")
    return "   ".join(told)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = OneLineParser(prog="fgvc probe", description=ABOUT)
    add = parser.add_argument
    add("features", type=Path, metavar="FEATURES", help="a folder that fgvc embed wrote, with the split train")
    add("--output", type=Path, required=True, metavar="MODEL", help="the folder of the new model")
    usual = ",".join(f"{one:g}" for one in PENALTIES)
    add(
        "--penalties",
        type=_numbers,
        default=PENALTIES,
        metavar="P,P",
        help=f"of the squared weights (default: {usual})",
    )
    held = f"share of train that is held out where there is no split val (default: {HELD_OUT})"
    add("--hold_out", type=float, default=HELD_OUT, help=held)
    add("--view", default="whole", help="whole, flip or box, as embedded (default: whole)")
    where = "where the weights of the network lie now, or the model, if not where fgvc embed found them"
    add("--model", metavar="FILE_OR_MODEL", help=where)
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--overwrite", action="store_true", help="replace a model that is there")
    return parser.parse_args(argv)


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",") if word.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: give numbers, e.g. 1e-3,1e-4") from None
