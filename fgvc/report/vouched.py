"""What a run's model vouches for, seen on its test images, and how honest its probabilities are on held-out ones.

Shape letters: N test images, L levels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fgvc.confidence.vouching import PRECISIONS, Summary, Vouching, refusal, summarise, threshold
from fgvc.files.answer_table import Answers
from fgvc.model_file.folder import ModelFileError, read


class Vouched(NamedTuple):
    """An asked precision, and the threshold that is certified for it with what it does on the test images.

    threshold, summary: None where none is certified; refusal then says why.
    """

    precision: float
    threshold: float | None
    summary: Summary | None
    refusal: str


@dataclass(frozen=True)
class Calibrated:
    """What calibration left in a model: what was counted, or None, and what was told, see `Calibration.to_plain`."""

    vouching: Vouching | None
    told: dict[str, Any]

    @property
    def split(self) -> str:
        """The split that it was calibrated on, "" where nobody said."""
        return str(self.told.get("split", ""))


def calibrated(run: Path) -> Calibrated:
    """Return what calibration left in the model of a run; nothing where there is no model that can be read."""
    try:
        described = read(run).described
    except ModelFileError:
        return Calibrated(None, {})
    counts = described["vouching"]
    told = described["provenance"].get("calibration", {})
    return Calibrated(None if counts is None else Vouching.from_plain(counts), told)


def vouched(vouching: Vouching, answers: Answers) -> list[Vouched]:
    """Return what each precision that people ask for comes to on the test images whose leaf is known.

    Args:
        vouching: what was counted on other images.
        answers: with the probabilities of their lineages; without them there is nothing to return.
    """
    if answers.lineage is None or not answers.known.any():
        return []
    scores = answers.lineage[answers.known]
    correct = (answers.truth == answers.answer)[answers.known]
    rows = []
    for precision in PRECISIONS:
        least = threshold(vouching, precision)
        summary = None if least is None else summarise(np.nan_to_num(scores), correct, least)
        rows.append(Vouched(precision, least, summary, refusal(vouching, precision) if least is None else ""))
    return rows
