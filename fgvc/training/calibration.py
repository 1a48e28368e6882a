"""Calibration after training: temperatures for honest probabilities, and counts that certify answers.

Shape letters: N images, S side of the image, C classes of a level, K leaves, L levels.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy

from fgvc.confidence.reliability import BINS, reliability
from fgvc.confidence.vouching import Vouching, count, prospect
from fgvc.datatypes import Sample
from fgvc.errors import UsageError
from fgvc.files.bars import bar
from fgvc.files.lines import counted
from fgvc.methods.recognizers.base import Recognizer
from fgvc.model_file.model import Model
from fgvc.taxonomy.readouts import MARGINAL, OWN, lineage_log_probs
from fgvc.taxonomy.relatives import lineage_correct, lineage_scores
from fgvc.taxonomy.tree import Taxonomy

COLDEST, HOTTEST = 0.05, 20.0
PRIOR = 0.5
"""Standard deviation of the logarithm of a temperature before any image is seen: few images move it little from 1."""
FOLDS, MANY = 10, 500
"""Folds that are held out in turn; above so many images 2 will do."""
FEWEST = 10
"""Images below which the standard error of a gain says too little to choose another readout."""
LIMIT = 20_000_000
"""How many logits of a level are held: 2,000 images of 10,000 classes."""
AT_ONCE = 256  # images that are held in float64
NO_IMAGE = (
    "no image is held out to calibrate on: a class of one image gives none; add images, or calibrate on the test "
    "images with fgvc calibrate RUN --split test"
)


class Temperature(NamedTuple):
    """A temperature that was fitted, and what spoke for it.

    value: T; 1 where nothing speaks for another one.
    gain, error: mean gain of log-likelihood per image over T = 1, on images that were held out, and its standard error.
    images: how many images fitted it.
    """

    value: float
    gain: float
    error: float
    images: int

    @property
    def is_kept_at_1(self) -> bool:
        """Whether nothing is gained on held-out images, so that the probabilities stay as the network gave them.

        To ask for a gain beyond its standard error, too, left more error behind on small sets than it saved, see
        docs/results/silent_answers.md.
        """
        return not self.gain > 0


@dataclass
class Calibration:
    """What was fitted and counted.

    fitted: level -> temperature, for each level that has logits of its own.
    ece_before, ece_after: level -> calibration error of the lineage's scores, with temperatures of 1 and with the
        fitted ones, on images that fitted none; NaN where no label says anything at the level.
    vouching: counts on those of these images whose leaf is known.
    images: how many images there were in all.
    readout, readout_gain: see `choose_readout`, which half of the images served.
    """

    fitted: dict[str, Temperature]
    ece_before: dict[str, float]
    ece_after: dict[str, float]
    vouching: Vouching
    images: int
    readout: str = OWN
    readout_gain: tuple[float, float] | None = None

    @property
    def temperatures(self) -> dict[str, float]:
        """Level -> T."""
        return {level: one.value for level, one in self.fitted.items()}

    @property
    def is_measured(self) -> bool:
        """Whether the half of the images that fitted nothing is large enough to measure an error with."""
        return self.images // 2 >= FEWEST

    def to_plain(self, split: str) -> dict[str, Any]:
        """Return what the model file stores for people to read: the split, its size and the errors."""
        shown = (self.ece_before, self.ece_after) if self.is_measured else ({}, {})
        before, after = ({k: round(v, 6) for k, v in errors.items() if v == v} for errors in shown)
        gains = {k: [round(t.gain, 6), round(t.error, 6)] for k, t in self.fitted.items() if math.isfinite(t.error)}
        told = {"split": split, "images": self.images, "ece_before": before, "ece_after": after, "gains": gains}
        return told if self.readout_gain is None else told | {"readout_gain": [round(x, 6) for x in self.readout_gain]}

    def told(self, level: str, split: str) -> str:
        """Return a sentence about the temperature of a level, and a second line where a readout was to be chosen."""
        return "\n".join([self._temperature_told(level, split), *self._readout_told()])

    def _readout_told(self) -> Iterator[str]:
        if self.readout_gain is not None:
            gain, error = self.readout_gain
            chosen = {OWN: "their own classifiers", MARGINAL: "sums over their leaves"}[self.readout]
            why = f"log-likelihood of sums over leaves {gain:+.3f} per image, error {error:.3f}"
            yield f"probabilities of the coarse levels: from {chosen} ({self.readout}; {why})"

    def _temperature_told(self, level: str, split: str) -> str:
        fitted, images = self.fitted[level], counted(self.images, f"{split} image")
        before, after = self.ece_before[level], self.ece_after[level]
        if fitted.images < 2:
            return f"not calibrated: {images} cannot fit a temperature and check it; hold out more"
        if fitted.is_kept_at_1:
            why = f"held-out likelihood {fitted.gain:+.3f} per image, error {fitted.error:.3f}"
            return f"calibrated on {images}: the {level} temperature stays 1 ({why})"
        if math.isnan(before) or not self.is_measured:
            return f"calibrated on {images}: {level} temperature {fitted.value:.2f}; too few to measure its error"
        rest = f"the {self.images // 2} of them that fitted nothing"
        return f"calibrated on {images}: {level} calibration error {before:.3f} -> {after:.3f}, on {rest}"


def fit_temperature(logits: Tensor, targets: Tensor) -> Temperature:
    """Fit the T for which softmax(logits / T) is most probable, or keep 1 where the images do not speak for another T.

    Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017. Two floors for few
    images are ours: log T has a normal prior around 0 (`PRIOR`), and T stays 1 unless the likelihood of held-out images
    (10 folds; 2 where there are many images) improves.

    Args:
        logits: (N, C).
        targets: (N,) int64; -1 is ignored.
    """
    known = targets >= 0
    logits, targets = logits[known], targets[known]
    gains = torch.zeros(len(targets), dtype=torch.float64)
    folds = min(FOLDS, len(targets)) if len(targets) <= MANY else 2
    order = _shuffled(len(targets))
    for fold in range(folds if folds > 1 else 0):
        held_out = order[fold::folds]
        rest = torch.ones(len(targets), dtype=torch.bool)
        rest[held_out] = False
        value = _most_probable(logits[rest], targets[rest])
        gains[held_out] = _losses(logits[held_out], targets[held_out], 1.0) - _losses(
            logits[held_out], targets[held_out], value
        )
    count = len(targets)
    gain = float(gains.mean()) if folds > 1 else 0.0
    error = float(gains.std()) / math.sqrt(count) if folds > 1 else math.inf
    fitted = Temperature(1.0, gain, error, count)
    return fitted if fitted.is_kept_at_1 else fitted._replace(value=_most_probable(logits, targets))


def _most_probable(logits: Tensor, targets: Tensor) -> float:
    """Return the T of the largest posterior, 0.05 .. 20."""

    def cost(log_t: float) -> float:
        return float(_losses(logits, targets, math.exp(log_t)).sum()) + log_t**2 / (2 * PRIOR**2)

    bounds = (math.log(COLDEST), math.log(HOTTEST))
    return math.exp(float(minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x))


def _losses(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Return (N,) float64 negative log-likelihoods."""
    parts = zip(torch.split(logits, AT_ONCE), torch.split(targets, AT_ONCE), strict=True)
    return torch.cat([cross_entropy(x.double() / temperature, y, reduction="none") for x, y in parts])


def calibration_error(confidence: Tensor, correct: Tensor, bins: int = BINS) -> float:
    """Return the expected calibration error of `reliability`; NaN without images, or where a confidence is no number.

    Args:
        confidence: (N,) probabilities.
        correct: (N,) bool.
        bins: how many, equally wide.
    """
    if not len(confidence) or not bool(confidence.isfinite().all()):
        return math.nan
    return reliability(confidence.double().numpy(), correct.numpy(), bins).ece


@torch.inference_mode()
def collect(
    recognizer: Recognizer,
    batches: Iterable[Sample],
    device: torch.device,
    total: int,
    limit: int = LIMIT,
) -> tuple[dict[str, Tensor], Tensor]:
    """Run a recognizer, which is left in evaluation mode on the device, and keep its logits.

    Args:
        recognizer: the model.
        batches: Samples of N images (N, 3, S, S) each.
        device: where it computes.
        total: how many images will come.
        limit: how many floats a level may hold. Where there are more images than that allows, some are drawn, the same
            each time. Not every n-th: classes that take turns would be left out.

    Returns:
        level -> (N, C) float32, for the levels that the head scores; and (N,) int64 labels; on the CPU, in order.

    Raises:
        UsageError: no image, or a limit below the number of leaves.
    """
    most = limit // recognizer.taxonomy.num_classes
    if total < 1:
        raise UsageError(NO_IMAGE)
    if most < 1:
        raise UsageError(
            f"calibration: {recognizer.taxonomy.num_classes} classes, of which {limit} floats hold no image"
        )
    kept = torch.zeros(total, dtype=torch.bool)
    kept[_shuffled(total)[:most]] = True
    recognizer.to(device).eval()
    logits: dict[str, list[Tensor]] = {}
    labels, start = [], 0
    for batch in batches:
        mine = kept[start : start + len(batch.label)].nonzero()[:, 0]
        start += len(batch.label)
        if len(mine):
            for level, scores in recognizer(batch.image[mine].to(device)).logits.items():
                logits.setdefault(level, []).append(scores.float().cpu())
            labels.append(batch.label[mine].cpu())
    if not labels:
        raise UsageError(NO_IMAGE)
    return {level: torch.cat(parts) for level, parts in logits.items()}, torch.cat(labels)


def collected(
    recognizer: Recognizer, datamodule: Any, split: str, device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """Collect the logits of a split of a datamodule, with a progress bar; only the images that are kept are read."""
    rows = rows_kept(recognizer.taxonomy, datamodule, split)
    trained_by = getattr(datamodule, "trainer", None)
    hidden = trained_by is not None and trained_by.progress_bar_callback is None  # --trainer.enable_progress_bar false
    batches = datamodule.whole_split(split, rows)
    watched = bar(f"reading {split}", batches, hidden=hidden, unit=" batches")
    return collect(recognizer, watched, device, len(rows))


def rows_kept(taxonomy: Taxonomy, datamodule: Any, split: str) -> list[int]:
    """Return which images of a split `collected` reads: all, or as many as `LIMIT` allows, the same each time."""
    most = max(1, LIMIT // taxonomy.num_classes)
    rows: list[int] = _shuffled(len(datamodule.records(split)))[:most].sort().values.tolist()
    return rows


def calibrate(logits: Mapping[str, Tensor], labels: Tensor, taxonomy: Taxonomy) -> Calibration:
    """Fit the temperatures on one half of the images and count the right answers on the other half.

    A count on images that fitted the temperatures would promise too much. The first half also serves as the pilot: it
    says where the search for a threshold begins. The halves are drawn at random, the same each time. Even and odd
    places would not do, because classes may take turns.

    Args:
        logits: level -> (N, C), the leaf level among them.
        labels: (N,) int64 node ids. One that is no leaf counts at the levels it knows, not for vouching; -1 nowhere.
        taxonomy: the classes.
    """
    fitting, counting = halves(len(labels))
    fitted = {
        level: fit_temperature(logits[level][fitting], taxonomy.targets(labels[fitting], level))
        for level in taxonomy.levels
        if level in logits
    }
    temperatures = {level: one.value for level, one in fitted.items()}
    readout, gain = choose_readout(
        {level: x[fitting] for level, x in logits.items()}, labels[fitting], temperatures, taxonomy
    )
    truth = labels[counting]
    before, correct = _lineages(logits, labels, {}, readout, taxonomy, counting)
    after, _ = _lineages(logits, labels, temperatures, readout, taxonomy, counting)
    pilot = _counted(*_lineages(logits, labels, temperatures, readout, taxonomy, fitting), labels[fitting], taxonomy)
    vouching = _counted(after, correct, truth, taxonomy, pilot)
    ece_before, ece_after = (_errors(scores, correct, truth, taxonomy) for scores in (before, after))
    return Calibration(fitted, ece_before, ece_after, vouching, len(labels), readout, gain)


def choose_readout(
    logits: Mapping[str, Tensor], labels: Tensor, temperatures: Mapping[str, float], taxonomy: Taxonomy
) -> tuple[str, tuple[float, float] | None]:
    """Choose where the probabilities of the coarse levels come from: `marginal` where it is better beyond its error.

    Fewer than 10 images keep `own`.

    Args:
        logits: level -> (N, C).
        labels: (N,) int64 node ids.
        temperatures: level -> T.
        taxonomy: the classes.

    Returns:
        The readout, and the mean gain of `marginal` over `own` in log-likelihood per image, summed over the coarse
        levels that are known, with its standard error; None where the head scores no coarse level of its own.
    """
    own = [level for level in taxonomy.levels[:-1] if level in logits]
    if not own or len(labels) < 2:
        return OWN, None
    gains = torch.zeros(len(labels), dtype=torch.float64)
    scores = [lineage_log_probs(logits, taxonomy, temperatures, readout) for readout in (MARGINAL, OWN)]
    for level in own:
        targets = taxonomy.targets(labels, level)
        rows = (targets >= 0).nonzero()[:, 0]
        better, worse = (one[level][rows, targets[rows]].double() for one in scores)
        gains[rows] += better - worse
    gain, error = float(gains.mean()), float(gains.std()) / math.sqrt(len(gains))
    return (MARGINAL if gain > error and len(labels) >= FEWEST else OWN), (gain, error)


def calibrate_model(model: Model, datamodule: Any, split: str, device: torch.device) -> str:
    """Fit temperatures and counts of a model on a split of its data, and say in a few lines what came of it.

    Args:
        model: its `temperatures`, `readout`, `vouching` and `provenance` are set.
        datamodule: the data.
        split: whose images were not trained on.
        device: where the recognizer computes.
    """
    return set_calibration(model, *collected(model.recognizer, datamodule, split, device), split)


def set_calibration(model: Model, logits: Mapping[str, Tensor], labels: Tensor, split: str) -> str:
    """Do the same with logits, level -> (N, C), and labels (N,) that were collected."""
    fitted = calibrate(logits, labels, model.taxonomy)
    model.temperatures, model.vouching, model.readout = fitted.temperatures, fitted.vouching, fitted.readout
    model.provenance["calibration"] = fitted.to_plain(split)
    return f"{fitted.told(model.taxonomy.leaf_level, split)}\n{prospect(fitted.vouching, split)}\n"


def _lineages(
    logits: Mapping[str, Tensor],
    labels: Tensor,
    temperatures: Mapping[str, float],
    readout: str,
    taxonomy: Taxonomy,
    rows: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return (M, L) scores and (M, L) bool correct of M rows."""
    log_probs = lineage_log_probs({level: x[rows] for level, x in logits.items()}, taxonomy, temperatures, readout)
    leaf = log_probs[taxonomy.leaf_level].argmax(dim=1)
    return lineage_scores(log_probs, taxonomy), lineage_correct(leaf, labels[rows], taxonomy)


def _counted(
    scores: Tensor, correct: Tensor, labels: Tensor, taxonomy: Taxonomy, pilot: Vouching | None = None
) -> Vouching:
    leaves = (labels >= 0) & (labels < taxonomy.num_classes)
    return count(scores[leaves].numpy(), correct[leaves].numpy(), pilot)


def _errors(scores: Tensor, correct: Tensor, labels: Tensor, taxonomy: Taxonomy) -> dict[str, float]:
    errors = {}
    for depth, level in enumerate(taxonomy.levels):
        known = taxonomy.targets(labels, level) >= 0
        errors[level] = calibration_error(scores[known, depth], correct[known, depth])
    return errors


def halves(size: int) -> tuple[Tensor, Tensor]:
    """Return the places of two halves, drawn the same each time."""
    order = _shuffled(size)
    return order[0::2], order[1::2]


def _shuffled(size: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(0))
