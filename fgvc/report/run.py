"""The numbers of a run's report, read from its folder. Neither torch nor a model is loaded.

Shape letters: N test images, L levels.
"""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fgvc.confidence.intervals import Share, share
from fgvc.confidence.reliability import Reliability, RiskCoverage, reliability, risk_coverage
from fgvc.errors import UsageError
from fgvc.files.answer_table import Answers, read_answers
from fgvc.files.lines import quoted
from fgvc.files.run_folder import ANSWERS, CLASSES, CONFIG, CURVES, FINAL, PHOTOGRAPHS, READOUT
from fgvc.report.mistakes import ClassRow, Matrix, Pair, class_rows, confused_pairs, lineage_of, matrix
from fgvc.report.shots import ShotRow, shot_rows, training_images
from fgvc.report.vouched import Calibrated, Vouched, calibrated, vouched

Curve = list[tuple[int, float]]
BEFORE, AFTER = "before calibration", "after calibration"
LOOKS = 12
"""How many pictures with boxes a report shows."""
READOUTS = {
    "own": "from the level's own classifier, where the method has one, or else the sum over the {leaf} below",
    "marginal": "the sum over the {leaf} below",
}
"""Readout, see `fgvc.taxonomy.readouts.lineage_log_probs` -> where the probabilities of the coarse levels come from."""


@dataclass(frozen=True)
class Report:
    """What the page shows. What a run does not have is empty or None.

    day: when the newest of its tables was written; facts: method, data ... as (name, value).
    photographs: the folder that the paths of the answers start at.
    answered: what an answer is, in words; empty where the test did not say.
    final: the scores of test.json; curves: column of metrics.csv -> (epoch, value).
    levels, views: images that are right at each level, and at the leaf level by each part of the method.
    heights: (L,) mistakes by the height of the lowest common ancestor of truth and answer, from 1.
    reliability: BEFORE and AFTER calibration, or the first alone.
    classes: those that have test images, the worst first; looks: rows that have boxes.
    training: class -> its training images; shots: the groups of many, medium and few, where these numbers differ.
    matrix: the confusion matrix of the finest level that has few classes.
    calibrated: what calibration left in the model; vouched: what comes of it on the test images.
    """

    name: str
    day: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    photographs: Path = Path()
    answered: str = ""
    final: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    answers: Answers | None = None
    levels: list[Share] = field(default_factory=list)
    views: list[Share] = field(default_factory=list)
    heights: list[int] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    reliability: dict[str, Reliability] = field(default_factory=dict)
    risk: RiskCoverage | None = None
    classes: list[ClassRow] = field(default_factory=list)
    training: dict[str, int] = field(default_factory=dict)
    shots: list[ShotRow] = field(default_factory=list)
    looks: list[int] = field(default_factory=list)
    matrix: Matrix | None = None
    calibrated: Calibrated = Calibrated(None, {})  # noqa: RUF009 - frozen
    vouched: list[Vouched] = field(default_factory=list)

    @property
    def pictured(self) -> list[int]:
        """The rows whose photographs are shown, each once."""
        rows = [row for pair in self.pairs for row in (pair.row, pair.truth_row, pair.answer_row)] + self.looks
        return list(dict.fromkeys(row for row in rows if row is not None))


def read(run: Path) -> Report:
    """Read what a run folder holds, or the folder of a test on other data inside it.

    Raises:
        UsageError: neither answers nor training curves are there, or a file is damaged.
    """
    tables = [path for path in (run / ANSWERS, run / CURVES) if path.is_file()]
    if not tables:
        raise UsageError(f"{run}: neither {ANSWERS} nor {CURVES} in it; run `fgvc test {quoted(run)}` first")
    home = run if (run / CONFIG).is_file() or not (run.parent / CONFIG).is_file() else run.parent
    config, final = read_config(home), read_final(run)
    recorded, readout = final.pop(PHOTOGRAPHS, None), final.pop(READOUT, None)
    judged = judge(read_answers(run / ANSWERS)) if run / ANSWERS in tables else {}
    stored = calibrated(home)
    counts = stored.vouching
    training = training_images(run / CLASSES, judged["answers"].levels[-1]) if judged else {}
    return Report(
        name=run.resolve().name if home == run else f"{home.resolve().name}, {run.name}",
        day=date.fromtimestamp(max(path.stat().st_mtime for path in tables)).isoformat(),
        facts=facts(config),
        photographs=_photographs(home, recorded, at(config, "data", "source", "init_args")),
        answered=answer_words(readout, judged["answers"].levels) if judged and str(readout) in READOUTS else "",
        final=final,
        curves=read_curves(home / CURVES) if (home / CURVES).is_file() else {},
        training=training,
        shots=shot_rows(judged.get("classes", []), training),
        calibrated=stored,
        vouched=vouched(counts, judged["answers"]) if counts is not None and judged else [],
        **judged,
    )


def judge(answers: Answers) -> dict[str, Any]:
    """Return the fields of a Report that follow from the answers."""
    known, right = answers.known, answers.right
    lineage = lineage_of(answers)
    wrong = np.flatnonzero(known & ~right & (answers.answer[:, -1] >= 0))
    truth, answer = answers.truth[wrong, -1], answers.answer[wrong, -1]
    heights = (lineage[truth] != lineage[answer]).sum(axis=1)
    kept = {BEFORE: answers.score} | ({} if answers.calibrated is None else {AFTER: answers.calibrated})
    sure = known & np.isfinite(answers.confidence)
    return {
        "answers": answers,
        "levels": [share(level, answers.truth[:, d], answers.answer[:, d]) for d, level in enumerate(answers.levels)],
        "views": [share(view, answers.truth[:, -1], codes) for view, codes in answers.views.items()],
        "heights": np.bincount(heights, minlength=len(answers.levels) + 1)[1:].tolist(),
        "pairs": list(confused_pairs(answers, wrong.tolist(), lineage)),
        "reliability": {
            name: reliability(scores[rows], right[rows])
            for name, scores in kept.items()
            if (rows := known & np.isfinite(scores)).any()
        },
        "risk": risk_coverage(answers.confidence[sure], right[sure]) if sure.any() else None,
        "classes": class_rows(answers, wrong.tolist()),
        "looks": _looks(answers),
        "matrix": matrix(answers, lineage),
    }


def answer_words(readout: str, levels: Sequence[str]) -> str:
    """Return what an answer is and where its probabilities come from, in words.

    Args:
        readout: a key of `READOUTS`.
        levels: coarse to fine.
    """
    *coarse, leaf = levels
    if not coarse:
        return f"the most probable {leaf}"
    where = READOUTS[readout].format(leaf=leaf)
    above = ", ".join(coarse)
    return f"the most probable {leaf} and its {above}; the probability of each level above: {where} ({readout})"


def read_curves(path: Path) -> dict[str, Curve]:
    """Return each column of Lightning's metrics.csv as (epoch, its last value in this epoch), without gaps."""
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for name, cell in row.items():
                    if name and cell and name not in ("epoch", "step") and row.get("epoch"):
                        value = float(cell)
                        if math.isfinite(value):
                            curves[name][int(row["epoch"])] = value
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read ({error}); it is the table of Lightning's CSVLogger") from None
    return {name: sorted(curve.items()) for name, curve in curves.items()}


def read_final(run: Path) -> dict[str, Any]:
    """Return what `fgvc test` wrote beside the answers; empty before the first test.

    Raises:
        UsageError: a damaged file.
    """
    path = run / FINAL
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); run fgvc test {quoted(run)} again") from None
    if not isinstance(scores, dict):
        raise UsageError(f"{path}: no mapping of scores; run fgvc test {quoted(run)} again")
    return scores


def read_config(run: Path) -> dict[str, Any]:
    """Return the config of a run as plain data, empty where there is none; raises UsageError for a damaged one."""
    try:
        config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{run / CONFIG}: cannot be read ({' '.join(str(error).split())})") from None
    return config if isinstance(config, dict) else {}


def facts(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a run is made of, as (name, value): the classes of its parts, sizes, epochs."""
    recognizer = at(config, "model", "recognizer")
    parts = [("method", recognizer), *((part, at(recognizer, "init_args", part)) for part in ("attention", "head"))]
    named = [(name, _short(at(part, "class_path"))) for name, part in parts]
    named += [
        ("backbone", at(recognizer, "init_args", "backbone", "init_args", "name")),
        ("data", _short(at(config, "data", "source", "class_path"))),
        ("image size", at(config, "model", "image_size")),
        ("epochs", at(config, "trainer", "max_epochs")),
        ("seed", at(config, "seed_everything")),
    ]
    return [(name, str(value)) for name, value in named if value not in (None, "")]


def at(tree: Any, *keys: str) -> Any:
    """Return what lies at the end of a path of keys in plain data, None where it ends early."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _short(class_path: Any) -> str:
    """`fgvc.recognizers.ra_cnn.RACNN`, as older runs have it, -> `RACNN`."""
    return str(class_path or "").rpartition(".")[2]


def _photographs(run: Path, recorded: Any, source: Any) -> Path:
    """Return the folder that `fgvc test` recorded; where it is not there, the one that the run's config names."""
    root, table = at(source, "root"), at(source, "path")
    named = Path(str(root)) if root else Path(str(table)).parent if table else Path()
    moved = run.parent.parent / named.expanduser()  # a run that was made elsewhere, and its photographs beside it
    folders = [Path(str(recorded))] * bool(recorded) + [named.expanduser(), moved]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _looks(answers: Answers) -> list[int]:
    """Return rows with boxes: as many right ones as wrong ones where there are enough, spread over the table."""
    rows = [row for row in np.flatnonzero(answers.known).tolist() if answers.boxes_of(row)]
    right = [row for row in rows if answers.right[row]]
    wrong = [row for row in rows if not answers.right[row]]
    take = min(len(right), max(LOOKS // 2, LOOKS - len(wrong)))
    return _spread(right, take) + _spread(wrong, LOOKS - take)


def _spread(rows: list[int], number: int) -> list[int]:
    number = min(number, len(rows))
    return [rows[i * len(rows) // number] for i in range(number)]
