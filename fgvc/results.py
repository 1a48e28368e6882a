"""What a prediction answers, and how it is written down: CSV, JSON, JSON lines."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from fgvc.errors import FgvcError, UsageError, did_you_mean

Box = tuple[float, float, float, float]


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
    """

    path: str | None
    label: str | None = None
    score: float | None = None
    lineage: dict[str, str] = field(default_factory=dict)
    lineage_scores: dict[str, float] = field(default_factory=dict)
    top: list[Guess] = field(default_factory=list)
    boxes: list[Box] | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as JSON knows it."""
        boxes = None if self.boxes is None else [list(box) for box in self.boxes]
        return {**asdict(self), "top": [guess._asdict() for guess in self.top], "boxes": boxes}

    def save(self, path: str | Path) -> None:
        """Write it as one row; see `Results.save`."""
        Results([self]).save(path)


class Results(list[Result]):
    """The answers for many pictures, in the order of the pictures."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one plain dict per picture."""
        return [result.to_dict() for result in self]

    def save(self, path: str | Path) -> None:
        """Write a .csv, .json or .jsonl, in place of what is there.

        Raises:
            UsageError: another suffix.
            FgvcError: the file cannot be written.
        """
        levels = next((list(result.lineage) for result in self if result.lineage), [])
        top_k = max((len(result.top) for result in self), default=1)
        with open_whole(Path(path)) as file:
            writer_for(Path(path))(self, file, levels, top_k)


Writer = Callable[[Iterable[Result], TextIO, Sequence[str], int], None]


def writer_for(path: Path) -> Writer:
    """Return the function that writes this kind of file, by its suffix.

    Raises:
        UsageError: an unknown suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise UsageError(
            f"{path}: results are written as {', '.join(WRITERS)}, not {suffix!r}{did_you_mean(suffix, WRITERS)}"
        )
    return WRITERS[suffix]


def write_csv(results: Iterable[Result], file: TextIO, levels: Sequence[str], top_k: int) -> None:
    """Write one row per picture: path, label, score, each level and its score, the next guesses, boxes, error.

    The column `boxes` is there where the first picture that could be read has boxes: a JSON list of [x1, y1, x2, y2] as
    fractions of the upright photograph.
    """
    results, boxed = _boxed(results)
    ranks = range(2, top_k + 1)
    names = [f"level_{level}" if level in ("path", "label", "score", "boxes", "error") else level for level in levels]
    writer = csv.writer(file, lineterminator="\n")  # \n, so that cut and awk see a clean last column
    writer.writerow(
        ["path", "label", "score"]
        + [column for name in names for column in (name, f"{name}_score")]
        + [column for rank in ranks for column in (f"top{rank}_label", f"top{rank}_score")]
        + ["boxes"] * boxed
        + ["error"]
    )
    for result in results:
        row = [result.path or "", result.label or "", _digits(result.score)]
        for level in levels:
            row += [result.lineage.get(level, ""), _digits(result.lineage_scores.get(level))]
        for rank in ranks:
            known = rank <= len(result.top)
            row += [result.top[rank - 1].label, _digits(result.top[rank - 1].score)] if known else ["", ""]
        row += [_json_boxes(result.boxes)] * boxed
        writer.writerow([*row, result.error or ""])


def write_json(results: Iterable[Result], file: TextIO, levels: Sequence[str], top_k: int) -> None:
    """Write one list of objects, an object per line."""
    before = "[\n"
    for result in results:
        file.write(before + _json(result))
        before = ",\n"
    file.write("\n]\n" if before == ",\n" else "[]\n")


def write_jsonl(results: Iterable[Result], file: TextIO, levels: Sequence[str], top_k: int) -> None:
    """Write one object per line."""
    file.writelines(_json(result) + "\n" for result in results)


WRITERS: dict[str, Writer] = {".csv": write_csv, ".json": write_json, ".jsonl": write_jsonl}


@contextmanager
def open_whole(path: Path) -> Iterator[TextIO]:
    """Open a text file for writing under a temporary name; it gets its own name once it is complete.

    Raises:
        FgvcError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("w", encoding="utf-8", errors=unencodable(path.suffix), newline="")
    except OSError as error:
        raise FgvcError(f"{path}: cannot be written ({error.strerror})") from None
    try:
        with file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def unencodable(suffix: str) -> str:
    """Return what becomes of the bytes of a file name that is not UTF-8: kept in CSV, a JSON escape in JSON."""
    return "surrogateescape" if suffix.lower() == ".csv" else "backslashreplace"


def _digits(score: float | None) -> str:
    return "" if score is None else f"{score:.6f}"


def _boxed(results: Iterable[Result]) -> tuple[Iterable[Result], bool]:
    """Return the results, and whether they have boxes; takes no more of them than it needs to know."""
    stream = iter(results)
    begun = []
    for result in stream:
        begun.append(result)
        if not result.error:
            break
    return chain(begun, stream), any(result.boxes is not None for result in begun)


def _json_boxes(boxes: list[Box] | None) -> str:
    return "" if boxes is None else json.dumps([[round(x, 6) for x in box] for box in boxes])


def _json(result: Result) -> str:
    return json.dumps(result.to_dict(), ensure_ascii=False, allow_nan=False)
