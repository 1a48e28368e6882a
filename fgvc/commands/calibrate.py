"""`fgvc calibrate RUN`: fit temperatures, count what can be vouched for, and show what came of it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fgvc.confidence.intervals import precision_interval
from fgvc.confidence.vouching import PRECISIONS, Vouching, answers_needed, refusal, summarise, threshold
from fgvc.config.one_line_parser import OneLineParser
from fgvc.config.run_cli import RunCLI
from fgvc.config.words import of_run
from fgvc.errors import UsageError
from fgvc.files import run_folder
from fgvc.files.lines import tell
from fgvc.model_file.model import Model, load, save
from fgvc.taxonomy.readouts import lineage_log_probs
from fgvc.taxonomy.relatives import lineage_correct, lineage_scores
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.calibration import calibrate, calibrate_model, collected, halves
from fgvc.training.checkpoints import load_weights
from fgvc.training.tau_norm import best_tau, leaf_rows, rescale, try_taus
from fgvc.training.tau_norm import told as tau_told
from fgvc.training.view_weighing import weigh_views

HEADER = f"{'asked':>6} {'needs':>7} {'answered':>9} {'depth':>11} {'right':>8}   95 % interval"


def main(argv: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        FgvcError: no run or model there, or a split without images.
    """
    asked, rest = _parser().parse_known_args(argv)
    if rest and not rest[0].startswith("--"):
        raise UsageError(f"fgvc calibrate: {rest[0]!r} is one word too many; give one run folder")
    for precision in asked.precision:
        answers_needed(precision, asked.delta)  # refuses what is no share, before any work
    run = run_folder.resolve(asked.run)
    cli = RunCLI("calibrate", of_run(run, rest))
    cli.without_weights()
    cli.build()
    splits = cli.datamodule.splits
    if asked.split == "train" or asked.split not in splits:
        raise UsageError(
            f"--split {asked.split}: this run's data has {', '.join(splits)}; calibrate on images that the model was "
            "not trained on: train again with --data.val_fraction 0.1, or give --split test"
        )
    model = load(run)
    if model.taxonomy != cli.datamodule.taxonomy:
        raise UsageError(f"{run}: the model knows other classes than the data; calibrate it on data with its classes")
    cli.build_trainer()
    device = cli.trainer.strategy.root_device
    if asked.tau_norm:
        _normalise(model, cli.datamodule, asked.split, run, device)
    if asked.weigh_views:
        tell(weigh_views(model, cli.datamodule, asked.split, device).rstrip("\n"))
    tell(calibrate_model(model, cli.datamodule, asked.split, device).rstrip("\n"))
    assert model.vouching is not None
    path = save(model, run / run_folder.MODEL)
    judged = "test" if "test" in splits and asked.split != "test" else asked.split
    logits, labels = collected(model.recognizer, cli.datamodule, judged, device)
    temperatures, counts, readout = model.temperatures, model.vouching, model.readout
    said = f"{len(labels)} {judged} images"
    if judged == asked.split:  # what it was calibrated on shows nothing: one half calibrates, the other is shown
        own, other = halves(len(labels))
        shown = calibrate({level: x[own] for level, x in logits.items()}, labels[own], model.taxonomy)
        temperatures, counts, readout = shown.temperatures, shown.vouching, shown.readout
        logits, labels = {level: x[other] for level, x in logits.items()}, labels[other]
        said = f"{len(labels)} {judged} images, calibrated for this table on the other {len(own)}"
    tell(f"\nshown on {said}; an answer is right when it is the truth or lies above it")
    for line in table(logits, labels, temperatures, readout, counts, model.taxonomy, asked.precision, asked.delta):
        print(line)
    tell(f"model: {path}")
    return 0


def _normalise(model: Model, datamodule: Any, split: str, run: Path, device: torch.device) -> None:
    """Rescale the rows of the classifier as the run has trained it, by the tau that is best on a split.

    Raises:
        UsageError: a model that has no such classifier, or whose rows were rescaled and whose checkpoint is gone.
    """
    if "tau_norm" in model.provenance:  # rescaled before: begin with what was trained
        load_weights(model.recognizer, run_folder.checkpoint(run))
    weight, bias = leaf_rows(model.recognizer)
    logits, labels = collected(model.recognizer, datamodule, split, device)
    tried = try_taus(logits[model.taxonomy.leaf_level], labels, weight, bias)
    best = best_tau(tried)
    rescale(model.recognizer, best.tau)
    model.provenance["tau_norm"] = {"tau": best.tau, "split": split, "tried": [list(one) for one in tried]}
    tell(tau_told(tried, len(labels), split))


def table(
    logits: Mapping[str, Tensor],
    labels: Tensor,
    temperatures: Mapping[str, float],
    readout: str,
    counts: Vouching,
    taxonomy: Taxonomy,
    targets: Sequence[float],
    delta: float,
) -> Iterator[str]:
    """Yield a header and a line per asked precision: what is answered, how deep, and how much of it is right.

    Args:
        logits: level -> (N, C), uncalibrated.
        labels: (N,) int64 node ids; those that are no leaf are left out.
        temperatures: level -> T.
        readout: see `lineage_log_probs`.
        counts: what was counted on other images.
        taxonomy: the classes.
        targets: the asked shares of right answers.
        delta: how probable a broken promise may be.
    """
    leaves = (labels >= 0) & (labels < taxonomy.num_classes)
    log_probs = lineage_log_probs({level: x[leaves] for level, x in logits.items()}, taxonomy, temperatures, readout)
    scores = lineage_scores(log_probs, taxonomy).numpy()
    right = lineage_correct(log_probs[taxonomy.leaf_level].argmax(dim=1), labels[leaves], taxonomy).numpy()
    yield f"{HEADER}   share answered at {', '.join(taxonomy.levels)}"
    for target in targets:
        least = threshold(counts, target, delta)
        if least is None:
            yield f"{target:6g} {refusal(counts, target, delta)}"
            continue
        summary = summarise(scores, right, least)
        low, high = precision_interval(summary.right, summary.answered)
        precision = summary.right / max(summary.answered, 1)
        shares = ", ".join(f"{100 * share:.1f} %" for share in summary.shares)
        depth = f"{summary.mean_depth:.2f} of {len(taxonomy.levels)}"
        yield (
            f"{target:6g} {least:7.4f} {100 * summary.coverage:7.1f} % {depth:>11} "
            f"{100 * precision:6.1f} %   {100 * low:.1f} to {100 * high:.1f} %   {shares}"
        )


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="fgvc calibrate",
        allow_abbrev=False,
        description="Fit the temperatures of a run's model on images that it was not trained on, count how often each "
        "level is right, store both in the model, and show what is reached on held-out images. Further --KEY VALUE "
        "override the run's config, e.g. --data.num_workers 0.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    parser.add_argument("--split", default="val", help="the images to calibrate on (default: val)")
    parser.add_argument(
        "--tau_norm",
        action="store_true",
        help="before that, shorten the long rows of the classifier, which frequent classes have, by a power of their "
        "length that is chosen by the mean accuracy of the classes",
    )
    parser.add_argument(
        "--precision", type=float, nargs="+", default=list(PRECISIONS), help="shares of right answers to show"
    )
    parser.add_argument(
        "--delta",
        type=float,
        default=0.1,
        help="chance of a broken promise, for this table; predict takes 0.1",
    )
    parser.add_argument(
        "--weigh_views",
        action="store_true",
        help="weigh the views of a method (both looks of RA-CNN, image and crop ...) on these images, each with a "
        "temperature and a weight, and store them where they gain; without it the model's views stay as they are",
    )
    return parser
