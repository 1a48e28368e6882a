"""Answers at the rank that can be vouched for: the deepest level of a lineage whose probability reaches a threshold.

A threshold for an asked precision is chosen by counts on calibration images. The promise, which asks nothing of the
probabilities: with probability 1 - delta over the drawing of the calibration images, at least the asked share of the
answers is right ("unknown" is no answer; a genus is right where the true species belongs to it). It holds where the
images to come are drawn independently from where the calibration images were, and where these chose nothing else:
neither weights nor epoch nor temperature. It is given for one precision at a time: ask for five, and each holds with
probability 1 - delta, but not all five together.

Shape letters: N images, C classes of a level, L levels.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

from fgvc.confidence.intervals import checked_share
from fgvc.errors import UsageError

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

# Stored counts belong to it: another grid asks for another format number of the model file.
GRID: tuple[float, ...] = tuple(np.round(1 - np.logspace(0, -4, 201), 6).tolist())
"""The thresholds that are tried, rising from 0 (always the leaf) to 0.9999, the denser the nearer to 1."""
MOST = 2**53
"""Images that can be counted; more is damage."""
PRECISIONS = (0.8, 0.9, 0.95)
"""The precisions that people ask for: of these it is told whether they can be vouched for."""
FEWEST = 20
"""Images below which it is not said that no number of them would do."""
PLANNED = 1_000_000
"""Answers up to which it is planned how many a precision takes."""
MORE = "more images: fgvc calibrate RUN --split test, or a larger --data.val_fraction"
"""What a person can do where there are too few."""
NONE_HELD_OUT = "no image of a known finest class was held out"
NOTHING = f"{NONE_HELD_OUT}; {MORE}"


class Vouching(NamedTuple):
    """What was counted on calibration images, for each threshold of GRID.

    answered, wrong: the answers and the wrong ones, by which a threshold is certified.
    pilot_answered, pilot_wrong: the same on other images, which only say where to begin; empty where there are none.
    """

    answered: tuple[int, ...]
    wrong: tuple[int, ...]
    pilot_answered: tuple[int, ...] = ()
    pilot_wrong: tuple[int, ...] = ()

    def to_plain(self) -> dict[str, list[int]]:
        """Return lists, for a model file."""
        return {name: list(counts) for name, counts in self._asdict().items()}

    @classmethod
    def from_plain(cls, plain: Any) -> "Vouching":
        """Rebuild it from what `to_plain` returned.

        Raises:
            UsageError: not lists of whole numbers of the right length, or more wrong answers than answers.
        """
        if not isinstance(plain, Mapping) or set(plain) != set(cls._fields):
            raise UsageError(f"vouching: {str(plain)[:60]} is not {list(cls._fields)}; calibrate the model again")
        for name, counts in plain.items():
            empty = name.startswith("pilot") and plain["pilot_answered"] == plain["pilot_wrong"] == []
            if not isinstance(counts, list) or (len(counts) != len(GRID) and not empty):
                raise UsageError(f"vouching.{name}: not a list of {len(GRID)} counts; calibrate the model again")
            if odd := [count for count in counts if type(count) is not int or not 0 <= count <= MOST]:
                raise UsageError(f"vouching.{name}: {repr(odd[0])[:60]} is no count; calibrate the model again")
        for kind in ("", "pilot_"):
            for answered, wrong in zip(plain[f"{kind}answered"], plain[f"{kind}wrong"], strict=True):
                if wrong > answered:
                    raise UsageError(f"vouching: {wrong} wrong of {answered} answers; calibrate the model again")
        return cls(**{name: tuple(counts) for name, counts in plain.items()})


class Summary(NamedTuple):
    """How the answers at one threshold turn out.

    coverage: share of the images that are answered.
    mean_depth: mean level of the answers, 1 for the coarsest, L for a leaf; NaN where there are none.
    right, answered: numbers of images.
    shares: for each level, coarse to fine, the share of all images that are answered there.
    """

    coverage: float
    mean_depth: float
    right: int
    answered: int
    shares: tuple[float, ...]


def decide(scores: Floats, threshold: float) -> Ints:
    """Return (N,): the deepest level of each lineage whose score reaches the threshold, 0 the coarsest; -1 unknown.

    Args:
        scores: (N, L) probabilities, coarse to fine, see `fgvc.taxonomy.relatives.lineage_scores`.
        threshold: 0 answers every leaf, infinity none.
    """
    passed = np.asarray(scores, dtype=np.float64) >= threshold
    deepest = passed.shape[1] - 1 - passed[:, ::-1].argmax(axis=1)
    return np.where(passed.any(axis=1), deepest, -1)


def count(scores: Floats, correct: Bools, pilot: Vouching | None = None) -> Vouching:
    """Count the answers and the wrong ones at every threshold of GRID.

    Args:
        scores: (N, L) probabilities, coarse to fine.
        pilot: what was counted on other images, to begin where it promises most.
        correct: (N, L) bool, see `fgvc.taxonomy.relatives.lineage_correct`; of images whose true leaf is known.
    """
    found = [summarise(scores, correct, threshold) for threshold in GRID]
    counts = Vouching(tuple(one.answered for one in found), tuple(one.answered - one.right for one in found))
    return counts if pilot is None else counts._replace(pilot_answered=pilot.answered, pilot_wrong=pilot.wrong)


def threshold(vouching: Vouching, precision: float, delta: float = 0.1) -> float | None:
    """Return the loosest threshold that is certified for a precision; None where none is.

    Learn then Test (Angelopoulos, Bates, Candès, Jordan, Lei, "Learn then Test: Calibrating Predictive Algorithms to
    Achieve Risk Control", 2021). For each threshold the hypothesis "the precision is lower than asked" is tested by
    the exact binomial p-value of as few errors among as many answers. Thresholds are tested from a strict one to ever
    looser ones, and the first that is not rejected ends the walk: in an order that was fixed before any of these images
    was seen, the first true hypothesis must be rejected for any mistake, so each test may use the whole of delta. The
    start is where the pilot, which is other images, has the smallest p-value; without a pilot it follows from the asked
    precision alone.

    Args:
        vouching: the counts.
        precision: the asked share of right answers, between 0 and 1.
        delta: how probable a broken promise may be, between 0 and 1.

    Raises:
        UsageError: precision or delta outside (0, 1).
    """
    most_wrong, delta = 1 - checked_share("precision", precision), checked_share("delta", delta)
    certified = None
    for i in range(_start(vouching, precision), -1, -1):
        if bdtr(vouching.wrong[i], vouching.answered[i], most_wrong) > delta:
            break
        certified = GRID[i]
    return certified


def answers_needed(precision: float, delta: float = 0.1) -> int:
    """Return how many answers, all of them right, certify a precision; with fewer no threshold can be."""
    ratio = math.log(checked_share("delta", delta)) / math.log(checked_share("precision", precision))
    return math.ceil(round(ratio, 9))  # rounded: log 0.001 / log 0.1 is just above 3


def best_precision(vouching: Vouching, delta: float = 0.1) -> float | None:
    """Return the largest precision, in hundredths from 0.5 to 0.99, that is certified by itself; None where none is."""
    found = (hundredths / 100 for hundredths in range(99, 49, -1))
    return next((precision for precision in found if threshold(vouching, precision, delta) is not None), None)


def images_needed(vouching: Vouching, precision: float, delta: float = 0.1) -> int | None:
    """Estimate how many calibration images certify a precision; None where a million do not.

    For each threshold of GRID the model is taken to go on with mistakes as often as it made them, half a mistake more
    and the number rounded up, to be careful. The threshold that asks for the fewest images counts, and where
    these images do not certify the precision, it takes half as many again at least. It is no promise but a plan.

    Args:
        vouching: what was counted; the pilot's images, which no certificate may use, count here as well.
        precision: the asked share of right answers.
        delta: how probable a broken promise may be.

    Returns:
        Images in all, both halves, with two digits.
    """
    answered, wrong = np.array(vouching.answered, dtype=float), np.array(vouching.wrong, dtype=float)
    if vouching.pilot_answered:
        answered, wrong = answered + vouching.pilot_answered, wrong + vouching.pilot_wrong
    total = answered[0]
    asked = answered > 0
    rates = ((wrong + 0.5) / (answered + 1))[asked, None]
    sizes = np.unique(np.geomspace(1, PLANNED, 600).astype(np.int64))
    enough = bdtr(np.ceil(rates * sizes), sizes, 1 - precision) <= delta
    rows = enough.any(axis=1)
    if not rows.any():
        return None
    images = 2 * float((sizes[enough[rows].argmax(axis=1)] * total / answered[asked][rows]).min())
    if threshold(vouching, precision, delta) is None:
        images = max(images, 1.5 * total)
    digits: int = 10 ** max(0, math.floor(math.log10(images)) - 1)
    return math.ceil(images / digits) * digits


def prospect(vouching: Vouching, split: str = "val", delta: float = 0.1, more: str = MORE) -> str:
    """Return one line for people: the best precision that can be had, and what the others that people ask for take.

    Args:
        vouching: the counts.
        split: whose images were counted; of the test images no others are left to count.
        delta: how probable a broken promise may be.
        more: what a person can do where there are too few.
    """
    if not _images(vouching):
        return f"nothing can be vouched for: {NONE_HELD_OUT}; {more}"
    best = best_precision(vouching, delta)
    now = (
        "nothing can be vouched for yet"
        if best is None
        else f"answers can be vouched for up to a precision of {best:g}"
    )
    missing = [one for one in PRECISIONS if threshold(vouching, one, delta) is None]
    needs = {one: images_needed(vouching, one, delta) for one in missing}
    takes = [
        f"{one:g} takes {_in_words(images, _images(vouching))}" for one, images in needs.items() if images is not None
    ]
    if beyond := [f"{one:g}" for one, images in needs.items() if images is None]:
        named = ", ".join(beyond[:-1]) + " and " * (len(beyond) > 1) + beyond[-1]
        takes.append(f"{named} {'takes' if len(beyond) == 1 else 'take'} {_in_words(None, _images(vouching))}")
    held = "" if not takes else f" ({_images(vouching)} were held out)"
    return "; ".join([f"{now}{held}", *takes, *([more] if takes and split != "test" else [])])


def refusal(vouching: Vouching, precision: float, delta: float = 0.1) -> str:
    """Return one line for people: why no threshold is certified, how many images it takes, the best that can be had.

    Raises:
        UsageError: precision or delta outside (0, 1).
    """
    needed, best = answers_needed(precision, delta), best_precision(vouching, delta)
    if not _images(vouching):
        return f"a precision of {precision:g} cannot be vouched for: {NOTHING}"
    images = images_needed(vouching, precision, delta)
    hopeless = images is None and _images(vouching) >= FEWEST
    takes = "this model errs too often, however sure it is"
    if not hopeless:
        takes = f"with this model {_in_words(images, _images(vouching))}"
    now = (
        "no precision can be had now"
        if best is None or best > precision
        else f"the best that can be had now is {best:g}"
    )
    return (
        f"a precision of {precision:g} cannot be vouched for: it needs {needed} counted answers without a mistake, or "
        f"more with some ({takes}); {_images(vouching)} were held out, of which one half counts; {now}; {MORE}"
    )


def _in_words(images: int | None, held_out: int) -> str:
    if images is None and held_out < FEWEST:
        return "more images than can be foreseen from so few"
    if images is None:
        return "a better model: however sure it is, it errs too often"
    return f"about {images:,} images"


def _images(vouching: Vouching) -> int:
    return vouching.answered[0] + (vouching.pilot_answered or (0,))[0]


def summarise(scores: Floats, correct: Bools, threshold: float) -> Summary:
    """Return how the answers at a threshold turn out on (N, L) scores and (N, L) bool correct."""
    depth = decide(scores, threshold)
    answered = depth >= 0
    number = int(answered.sum())
    right = int(correct[answered, depth[answered]].sum())
    images = max(len(depth), 1)
    shares = np.bincount(depth[answered], minlength=correct.shape[1]) / images
    mean_depth = float(depth[answered].mean()) + 1 if number else math.nan
    return Summary(number / images, mean_depth, right, number, tuple(shares.tolist()))


def _start(vouching: Vouching, precision: float) -> int:
    """Return the place in GRID where the walk starts; of equally good ones the strictest."""
    if vouching.pilot_answered:
        p_values = bdtr(np.array(vouching.pilot_wrong), np.array(vouching.pilot_answered), 1 - precision)
        return int(len(GRID) - 1 - np.argmin(p_values[::-1]))
    strict = 1 - (1 - precision) / 4  # three quarters of the way from the precision to 1
    return min(int(np.searchsorted(GRID, strict)), len(GRID) - 1)
