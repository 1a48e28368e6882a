"""What a prediction answers, what it may answer, and how it is written down: CSV, JSON, JSON lines."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np

from fgvc.errors import FgvcError, UsageError, did_you_mean
from fgvc.vouching import decide

if TYPE_CHECKING:
    from fgvc.taxonomy import Taxonomy  # loading it takes seconds

Box = tuple[float, float, float, float]
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
    answer, answer_level, answer_score: where a precision was asked for, the deepest name of the lineage that can be
        vouched for, its level and its probability; "unknown", None, None where none can.
    """

    path: str | None
    label: str | None = None
    score: float | None = None
    lineage: dict[str, str] = field(default_factory=dict)
    lineage_scores: dict[str, float] = field(default_factory=dict)
    top: list[Guess] = field(default_factory=list)
    boxes: list[Box] | None = None
    error: str | None = None
    answer: str | None = None
    answer_level: str | None = None
    answer_score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as JSON knows it; the three of `answer` only where a precision was asked for."""
        boxes = None if self.boxes is None else [list(box) for box in self.boxes]
        plain = {**asdict(self), "top": [guess._asdict() for guess in self.top], "boxes": boxes}
        return {key: x for key, x in plain.items() if self.answer is not None or not key.startswith("answer")}

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


_TAKEN = ("path", "label", "score", "boxes", "error", "answer", "answer_level", "answer_score")
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

    Where a precision was asked for, `answer`, `answer_level` and `answer_score` come after the path. The column `boxes`
    is there where the first picture that could be read has boxes: a JSON list of [x1, y1, x2, y2] as fractions of the
    upright photograph.
    """
    results, first = _peeked(results)
    boxed, vouched = first is not None and first.boxes is not None, first is not None and first.answer is not None
    ranks = range(2, top_k + 1)
    names = [f"level_{level}" if level in _TAKEN else level for level in levels]
    writer = csv.writer(file, lineterminator="\n")  # \n, so that cut and awk see a clean last column
    writer.writerow(
        ["path"]
        + ["answer", "answer_level", "answer_score"] * vouched
        + ["label", "score"]
        + [column for name in names for column in (name, f"{name}_score")]
        + [column for rank in ranks for column in (f"top{rank}_label", f"top{rank}_score")]
        + ["boxes"] * boxed
        + ["error"]
    )
    for result in results:
        row = [result.path or ""]
        row += [result.answer or "", result.answer_level or "", _digits(result.answer_score)] * vouched
        row += [result.label or "", _digits(result.score)]
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


def _peeked(results: Iterable[Result]) -> tuple[Iterable[Result], Result | None]:
    """Return the results, and the first that is no error; takes no more of them than that."""
    stream = iter(results)
    begun: list[Result] = []
    for result in stream:
        begun.append(result)
        if not result.error:
            return chain(begun, stream), result
    return begun, None


def _json_boxes(boxes: list[Box] | None) -> str:
    return "" if boxes is None else json.dumps([[round(x, 6) for x in box] for box in boxes])


def _json(result: Result) -> str:
    return json.dumps(result.to_dict(), ensure_ascii=False, allow_nan=False)


def vouched(result: Result, least: float) -> Result:
    """Give a result the deepest name of its lineage whose probability is at least `least`, or "unknown"."""
    if result.error is None:
        scores = np.array([list(result.lineage_scores.values())])
        depth = int(decide(scores, least)[0])
        result.answer = UNKNOWN if depth < 0 else list(result.lineage.values())[depth]
        result.answer_level = None if depth < 0 else list(result.lineage)[depth]
        result.answer_score = None if depth < 0 else float(scores[0, depth])
    return result


def nodes_named(taxonomy: "Taxonomy", written: Mapping[str, str]) -> list[int]:
    """Return the node of each name (at any level) or path ("Owls > Strix"), given as name -> where it is written.

    A name that is repeated below itself, as in ragged trees, is that of the highest node.

    Raises:
        UsageError: a name that no class has, or several that do not lie below each other.
    """
    bearers: dict[str, list[int]] = {}
    for node in range(taxonomy.num_nodes):  # fine to coarse, so that what lies above takes the place of what lies below
        path = taxonomy.path(node)
        for name in {path[-1], " > ".join(path)}:
            apart = [other for other in bearers.get(name, []) if taxonomy.path(other)[: len(path)] != path]
            bearers[name] = [*apart, node]
    for name, where in written.items():
        if name not in bearers:
            rest = len(written.keys() - bearers.keys()) - 1
            more = f" ({rest} more of the {len(written)} names are unknown)" if rest else ""
            raise UsageError(f"{where}: unknown class {name!r}{did_you_mean(name, bearers)}{more}")
        if len(bearers[name]) > 1:
            paths = " or ".join(repr(" > ".join(taxonomy.path(node))) for node in bearers[name])
            raise UsageError(f"{where}: {len(bearers[name])} classes are called {name!r}; give a path: {paths}")
    return [bearers[name][0] for name in written]
