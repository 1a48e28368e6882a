"""Runs alone, their ensemble with equal and with chosen weights, and their soup: accuracy, calibration error, cost.

    python -m benchmarks.accuracy.many_models RUN RUN RUN [--KEY VALUE ...]

The runs know the same classes and held out the same images. Weights, soups and temperatures are chosen on the
validation images of the first run, and every row is scored on its test images: top-1 with its 95 % interval, the
difference to the run that is best on the validation images with a paired interval, expected calibration error after
`fgvc calibrate`, negative log-likelihood, and the network's time per image, over that of the first run. Soups are made
of those runs that have the architecture of the first one.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgvc.commands.soup import Pot
from fgvc.confidence.intervals import wilson
from fgvc.config.held_out import HeldOut, difference, open_held_out, run_of
from fgvc.errors import UsageError
from fgvc.files.bars import bar
from fgvc.model_file.ensembles import names_of, together
from fgvc.model_file.model import Model, load
from fgvc.taxonomy.readouts import lineage_log_probs
from fgvc.training import soup
from fgvc.training.calibration import calibration_error, collected, halves, rows_kept, set_calibration
from fgvc.training.mixture import mixture_weights, said_of_truth


class Scored(NamedTuple):
    """A row of the table.

    name: of what answers. chosen_on: its accuracy on the validation images. right: (N,) bool, of the test images.
    ece, nll: on the test images, calibrated. seconds: of the network, for the test images.
    """

    name: str
    chosen_on: float
    right: Tensor
    ece: float
    nll: float
    seconds: float


def scored(name: str, model: Model, images: HeldOut) -> Scored:
    """Calibrate a model on the validation images and score it on the test images."""
    images.data.show(model.resize)
    logits, labels = collected(model.recognizer, images.data, images.split, images.device)
    leaf = model.taxonomy.leaf_level
    chosen_on = float((logits[leaf].argmax(dim=1) == labels).float().mean())
    set_calibration(model, logits, labels, images.split)
    found, truth, seconds = [], [], 0.0
    with torch.inference_mode():
        for batch in bar(f"testing {name}", images.data.whole_split("test"), unit=" batches"):
            pixels = batch.image.to(images.device)
            start = time.perf_counter()
            seen = model.recognizer(pixels).logits
            found.append(lineage_log_probs(seen, model.taxonomy, model.temperatures, model.readout)[leaf].cpu())
            seconds += time.perf_counter() - start
            truth.append(batch.label)
    scores, labels = torch.cat(found), torch.cat(truth)
    known = (labels >= 0) & (labels < model.taxonomy.num_classes)
    scores, labels = scores[known], labels[known]
    right = scores.argmax(dim=1) == labels
    nll = float(-scores.gather(1, labels[:, None]).mean())
    return Scored(name, chosen_on, right, calibration_error(scores.amax(dim=1).exp(), right), nll, seconds)


def rows(folders: list[Path], images: HeldOut) -> Iterator[Scored]:
    """Yield every run alone, then the ensembles, then the soups."""
    fresh: Callable[[], list[Model]] = lambda: [load(folder) for folder in folders]  # noqa: E731
    for name, model in zip(names_of(folders), fresh(), strict=True):
        yield scored(name, model, images)
    models = fresh()
    average = together(models, folders)
    yield scored("average", average, images)
    fitting = halves(len(rows_kept(average.taxonomy, images.data, images.split)))[0].sort().values.tolist()
    recognizer: Any = average.recognizer
    said = said_of_truth(recognizer, images.data.whole_split(images.split, fitting), images.device)
    weights = [float(one) for one in mixture_weights(said)]
    shares = " ".join(f"{one:.2f}" for one in weights)
    yield scored(f"weighted {shares}", together(models, folders, weights), images)
    alike = [one for one in fresh() if not soup.first_difference(models[0].architecture, one.architecture)]
    if len(alike) > 1:
        yield from _soups(alike, folders, images)


def _soups(alike: list[Model], folders: list[Path], images: HeldOut) -> Iterator[Scored]:
    states = [{k: v.detach().cpu().clone() for k, v in one.recognizer.state_dict().items()} for one in alike]
    images.data.show(alike[0].resize)
    norms = soup.moving_norms(alike[0].recognizer, states)
    for how, measured in {"measured": norms, "averaged": []}.items():
        pot = Pot(alike[0], states, folders, measured, images)
        everyone = list(range(len(states)))
        kept, _ = soup.greedy([pot.score([i]) for i in everyone], pot.score)
        for name, places in ((f"soup of all {len(everyone)}", everyone), (f"greedy soup of {len(kept)}", kept)):
            pot.fill(places)
            yield scored(f"{name}, batch norm {how}", pot.model, images)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    asked, rest = parser.parse_known_args()
    run = run_of(asked.runs[0])
    if run is None or len(asked.runs) < 2 or difference(asked.runs):
        raise UsageError(difference(asked.runs) or "give two run folders or more")
    images = open_held_out("many_models", run, load(run).taxonomy, None, rest)
    found = list(rows(asked.runs, images))
    best = max(found[: len(asked.runs)], key=lambda row: row.chosen_on)
    print(f"{len(best.right)} test images; best on the validation images: {best.name}")
    print(f"{'':<44} {'top-1':>8} {'95 % interval':>16} {'to the best (95 %)':>24} {'ECE':>7} {'NLL':>7} {'cost':>6}")
    for row in found:
        low, high = wilson(int(row.right.sum()), len(row.right))
        change = row.right.double() - best.right.double()
        half = 1.96 * float(change.std()) / len(change) ** 0.5
        paired = "" if row is best else f"{100 * float(change.mean()):+6.2f} +- {100 * half:4.2f}"
        print(
            f"{row.name:<44} {100 * float(row.right.double().mean()):6.2f} % {100 * low:7.2f} to {100 * high:5.2f} "
            f"{paired:>24} {row.ece:7.4f} {row.nll:7.4f} {row.seconds / found[0].seconds:6.2f}"
        )


if __name__ == "__main__":
    main()
