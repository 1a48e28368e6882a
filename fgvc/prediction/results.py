"""What a prediction answers and what it may answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from fgvc.confidence.vouching import decide
from fgvc.files.whole_files import open_whole
from fgvc.images.boxes import Box
from fgvc.prediction.cards import SHOWN, card, cards
from fgvc.prediction.retrieval.neighbour import Neighbour
from fgvc.prediction.tables import writers
from fgvc.prediction.tables.columns import Columns

UNKNOWN = "unknown"
"""The answer where no level can be vouched for."""


class Guess(NamedTuple):
    """One of the best leaves: its name, its probability and its names from the coarsest level down."""

    label: str
    score: float
    lineage: dict[str, str]


@dataclass
class Result:
    """The answer for one picture.

    path: the file, where there is one.
    label, score: the most probable leaf and its probability; None where the picture could not be read.
    lineage: level -> name, coarse to fine, of the leaf and what lies above it.
    lineage_scores: level -> probability of the lineage's name at that level.
    top: the best leaves, best first.
    boxes: where the model looked, xyxy as fractions of the upright photograph; None where it sees the whole.
    error: why there is no answer.
    warning: what is wrong with a file that could be read all the same, see `decode_with_warning`.
    answer, answer_level, answer_score: where a precision was asked for, the deepest name of the lineage that can be
        vouched for, its level and its probability; "unknown", None, None where none can.
    neighbours: where a gallery was given, its nearest photographs, see `Predictor.compare_with`.
    """

    path: str | None
    label: str | None = None
    score: float | None = None
    lineage: dict[str, str] = field(default_factory=dict)
    lineage_scores: dict[str, float] = field(default_factory=dict)
    top: list[Guess] = field(default_factory=list)
    boxes: list[Box] | None = None
    error: str | None = None
    warning: str | None = None
    answer: str | None = None
    answer_level: str | None = None
    answer_score: float | None = None
    neighbours: list[Neighbour] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as JSON knows it; `answer` and `neighbours` only where they were asked for."""
        boxes = None if self.boxes is None else [list(box) for box in self.boxes]
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        plain |= {"top": [guess._asdict() for guess in self.top], "boxes": boxes}
        near = plain.pop("neighbours")
        if near is not None:
            plain["neighbours"] = [one.to_dict() for one in near]
        return {key: x for key, x in plain.items() if self.answer is not None or not key.startswith("answer")}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Result":
        """Return what `to_dict` was called on; an older fgvc wrote no `warning`."""
        boxes = None if plain["boxes"] is None else [(x1, y1, x2, y2) for x1, y1, x2, y2 in plain["boxes"]]
        near = plain.get("neighbours")
        near = None if near is None else [Neighbour.from_dict(one) for one in near]
        top = [Guess(**guess) for guess in plain["top"]]
        return cls(**{**plain, "top": top, "boxes": boxes, "neighbours": near})

    def save(self, path: str | Path) -> None:
        """Write it as one row; see `Results.save`."""
        Results([self]).save(path)

    def _repr_html_(self) -> str:
        """Return the picture and its names, for notebooks."""
        return card(self.to_dict())


class Results(list[Result]):
    """The answers for many pictures, in the order of the pictures."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one plain dict per picture."""
        return [result.to_dict() for result in self]

    def _repr_html_(self) -> str:
        """Return the first of them as pictures with their names, for notebooks."""
        shown = [result.to_dict() for result in self[:SHOWN]]
        return cards(shown, len(self), sum(result.error is not None for result in self))

    def save(self, path: str | Path, layout: str = "wide") -> None:
        """Write a .csv, .json, .jsonl or .parquet, in place of what is there.

        Args:
            path: the file; its suffix says what is written.
            layout: `wide`, one row per picture, or `long`, one row per picture and guess.

        Raises:
            UsageError: another suffix or layout, .
            FgvcError: the file cannot be written.
        """
        kind = writers.kind_of(Path(path))
        read = [result for result in self if not result.error]
        columns = Columns(
            levels=list(read[0].lineage) if read else [],
            top_k=max((len(result.top) for result in read), default=1),
            boxed=bool(read) and read[0].boxes is not None,
            vouched=bool(read) and read[0].answer is not None,
            layout=layout,
            neighbours=max((len(result.neighbours or ()) for result in read), default=0),
        ).check()
        with open_whole(Path(path)) as file:
            writers.WRITERS[kind]((result.to_dict() for result in self), file, columns)


def write_json(results: Iterable[Result], file: TextIO, levels: Sequence[str], top_k: int) -> None:
    """Write one list of objects, an object per line."""
    writers.write_json((result.to_dict() for result in results), file)


def vouched(result: Result, least: float) -> Result:
    """Give a result the deepest name of its lineage whose probability is at least `least`, or "unknown"."""
    if result.error is None:
        scores = np.array([list(result.lineage_scores.values())])
        depth = int(decide(scores, least)[0])
        result.answer = UNKNOWN if depth < 0 else list(result.lineage.values())[depth]
        result.answer_level = None if depth < 0 else list(result.lineage)[depth]
        result.answer_score = None if depth < 0 else float(scores[0, depth])
    return result
