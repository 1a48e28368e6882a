"""The report of a run as one HTML page that needs nothing else: no network and no other file.

What each part shows is chosen here; its words and its layout are in `templates/page.html.j2`.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fgvc.confidence.intervals import Share, wilson
from fgvc.files.answer_table import Answers
from fgvc.files.lines import quoted
from fgvc.files.whole_files import open_whole
from fgvc.report import charts, glossary
from fgvc.report.charts import Bar, Line, LineChart, percent
from fgvc.report.mistakes import Matrix, Pair
from fgvc.report.photographs import thumbnails
from fgvc.report.rendering import render, tenths
from fgvc.report.run import Curve, Report, read
from fgvc.report.vouched import Vouched

PAGE = "report.html"
CLASSES = 200
"""How many classes the table shows at most: the worst."""
PARTS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Shares of the surest images whose mistakes are listed."""
ANSWER = "answer"
"""The way to answer whose name is left out, as in `test/hd@1`."""

Pictures = Mapping[int, str]


class Word(NamedTuple):
    """A word of a table and the sentence that explains it."""

    text: str
    tip: str


Row = Sequence[str | Word | tuple[str, float]]
"""Cells of a table; a number is given as (how it is written, its value)."""


class Photograph(NamedTuple):
    """A photograph of the page; see `photograph` in `templates/parts.html.j2`."""

    source: str | None
    alt: str
    caption: str
    mark: str


def write_page(run: Path, images: Path | None = None) -> Path:
    """Write the page of a run folder and return its path.

    Args:
        run: the folder.
        images: where the paths of its table start; by default where the test found them.

    Raises:
        FgvcError: the page cannot be written; UsageError for a folder without tables.
    """
    report = read(run)
    pictures: dict[int, str] = {}
    notes = []
    if report.answers and report.pictured:
        pictures, first_error = thumbnails(report.answers, report.pictured, images or report.photographs)
        if first_error:
            missing = len(report.pictured) - len(pictures)
            notes.append(
                f"{missing} of {len(report.pictured)} photographs are not shown (first: {first_error}); "
                f"fgvc report {quoted(run)} --images FOLDER says where they are."
            )
    with open_whole(run / PAGE) as file:
        file.write(page(report, pictures, notes))
    return run / PAGE


def page(report: Report, pictures: Pictures, notes: Sequence[str] = ()) -> str:
    """Return the page.

    Args:
        report: the numbers.
        pictures: row of the answers -> its thumbnail as a data: address. A row that is missing gets a grey square.
        notes: what the reader should know about the page itself.
    """
    levels = [share for share in report.levels if share.total]
    return render(
        "page.html.j2",
        report=report,
        notes=notes,
        facts=_facts(report),
        levels=levels,
        bars=_bars(levels),
        accuracies=_shares(levels),
        views=_shares(report.views),
        curves=_curves(report),
        heights=_heights(report),
        mistakes=[_mistake(report, pictures, pair) for pair in report.pairs],
        diagrams=_diagrams(report),
        calibration=_calibration(report),
        risk=_risk(report) if report.risk else None,
        vouched=[_vouched(one, levels) for one in report.vouched],
        matrix=_matrix(report.matrix) if report.matrix else None,
        looks=[_look(report.answers, pictures, row) for row in report.looks] if report.answers else [],
        final=_final(report.final),
        shots=_shots(report),
        class_heads=_class_heads(bool(report.shots)),
        words=_words(report),
        classes=_classes(report),
        most=CLASSES,
    )


def _facts(report: Report) -> list[tuple[str, str]]:
    if not report.answers:
        return report.facts
    counts = {"test images": len(report.answers.paths), "classes tested": len(report.classes)}
    return report.facts + [(name, f"{count:,}") for name, count in counts.items()]


def _bars(shares: Sequence[Share]) -> list[Bar]:
    return [Bar(one.name, one.value, tenths(one.value), wilson(one.right, one.total)) for one in shares]


def _shares(shares: Sequence[Share]) -> list[Row]:
    """Return the rows of a table: name, accuracy, its interval, images."""
    rows: list[Row] = []
    for one in shares:
        low, high = wilson(one.right, one.total)
        between = (f"{low * 100:.1f} to {tenths(high)}", low)
        rows.append((one.name, (tenths(one.value), one.value), between, (f"{one.total:,}", one.total)))
    return rows


def _curves(report: Report) -> list[tuple[str, LineChart]]:
    """Return captions and charts: the losses, and the accuracy at each level."""
    curves = report.curves
    known = report.answers.levels if report.answers else ()
    named = [name.split("/")[1] for name in curves if name.startswith("val/") and name.endswith("/top1")]
    levels = [level for level in dict.fromkeys([*known, *named]) if f"val/{level}/top1" in curves]
    losses = [Line(name, _from_one(curves[name])) for name in ("train/loss", "val/loss") if name in curves]
    scores = [Line(level, _from_one(curves[f"val/{level}/top1"])) for level in levels]
    captioned = []
    for lines, axis, words, most, what in (
        (losses, "loss", charts.plain, math.inf, "loss"),
        (scores, "accuracy", percent, 1.0, "accuracy of the validation images at each level"),
    ):
        if lines:
            last = ", ".join(f"{line.name} {words(line.points[-1][1])}" for line in lines)
            chart = charts.line_chart(f"{what}; at the end {last}", lines, axis, words, most)
            captioned.append((what.capitalize(), chart))
    return captioned


def _from_one(curve: Curve) -> list[tuple[float, float]]:
    """Count epochs from 1; Lightning counts them from 0."""
    return [(epoch + 1, value) for epoch, value in curve]


def _heights(report: Report) -> list[Bar]:
    """Return the mistakes by what truth and answer share; nothing where there is one level."""
    levels = [share.name for share in report.levels]
    if len(levels) < 2 or not report.pairs:
        return []
    names = [f"same {level}" for level in levels[-2::-1]] + [f"another {levels[0]}"]
    total = sum(report.heights)
    return [Bar(name, n / total, f"{n:,}") for name, n in zip(names, report.heights, strict=True)]


def _mistake(report: Report, pictures: Pictures, pair: Pair) -> dict[str, Any]:
    """Return a pair of classes with what is said of it and its three photographs."""
    answers = report.answers
    assert answers is not None
    total = next(row.share.total for row in report.classes if row.share.name == pair.truth)
    words = f"{pair.times} of {total} images"
    if len(answers.levels) > 1:
        nearest = f"same {pair.shared}" if pair.shared else f"another {answers.levels[0]}"
        words += f", {nearest} (common ancestor {pair.height} level{'s' * (pair.height != 1)} up)"
    caption = f"taken for {pair.answer}{_sure(answers, pair.row)}"
    trio = [_photograph(answers, pictures, pair.row, caption, "bad")]
    for name, row in ((pair.truth, pair.truth_row), (pair.answer, pair.answer_row)):
        if row is None:
            trio.append(Photograph(None, "no photograph", f"none of {name} was recognised", ""))
        else:
            trio.append(_photograph(answers, pictures, row, f"{name}, recognised", "good"))
    return {"truth": pair.truth, "answer": pair.answer, "words": words, "trio": trio}


def _diagrams(report: Report) -> list[tuple[str, charts.ReliabilityDiagram]]:
    captioned = []
    for name, one in report.reliability.items():
        caption = f"{name.capitalize()}: ECE {one.ece:.4f}"
        numbers = (one.confidence.tolist(), one.accuracy.tolist(), one.counts.tolist())
        captioned.append((caption, charts.reliability_diagram(f"reliability {caption}", *numbers)))
    return captioned


def _risk(report: Report) -> dict[str, Any]:
    assert report.risk is not None
    risk, aurc, best = report.risk
    title = f"mistakes among the surest images, AURC {aurc:.4f}"
    rows = []
    for part in PARTS:
        many = max(1, round(part * len(risk)))
        rows.append((f"surest {percent(part)}", (f"{many:,}", many), (tenths(risk[many - 1]), risk[many - 1])))
    return {"aurc": aurc, "chart": charts.risk_coverage_curve(title, risk.tolist(), best.tolist()), "rows": rows}


def _look(answers: Answers, pictures: Pictures, row: int) -> Photograph:
    truth, answer = (answers.leaf(int(codes[row, -1])) for codes in (answers.truth, answers.answer))
    right = answers.right[row]
    caption = f"✓ {answer}" if right else f"✗ {answer}, is {truth}"
    return _photograph(answers, pictures, row, caption + _sure(answers, row), "good" if right else "bad")


def _photograph(answers: Answers, pictures: Pictures, row: int, caption: str, mark: str) -> Photograph:
    source = pictures.get(row)
    alt = f"{answers.leaf(int(answers.truth[row, -1]))}: {answers.paths[row]}{'' if source else ' (not shown)'}"
    return Photograph(source, alt, caption, mark)


def _sure(answers: Answers, row: int) -> str:
    return f", {percent(answers.confidence[row])} sure" if math.isfinite(answers.confidence[row]) else ""


def _final(scores: Mapping[str, Any]) -> list[tuple[Sequence[str | Word], list[Row]]]:
    """Return three tables: a row per level and way to answer, a row per measure of the tree, and the other numbers.

    `test/own/species/top1` stands in row `species, own` and column `top1`; `test/own/hd@1` in row `hd@1` and column
    `own`. So no table grows wider with the number of ways to answer than a page is.
    """
    levels: dict[str, dict[str, Any]] = defaultdict(dict)
    tree: dict[str, dict[str, Any]] = defaultdict(dict)
    single: list[Row] = []
    for name, value in scores.items():
        group, _, measure = name.removeprefix("test/").rpartition("/")
        if glossary.is_of_tree(measure):
            tree[measure][group or ANSWER] = value
        elif group:
            levels[group][measure] = value
        else:
            single.append((_measure(measure), _number(value)))
    measures = sorted({measure: 0 for cells in levels.values() for measure in cells}, key=glossary.place)
    ways = list(dict.fromkeys(way for cells in tree.values() for way in cells))
    tables: list[tuple[Sequence[str | Word], list[Row]]] = [
        (
            ["level", *map(_measure, measures)],
            [
                (_level_and_way(group), *(_number(cells.get(one)) for one in measures))
                for group, cells in levels.items()
            ],
        ),
        (
            ["whole tree", *(Word(way, glossary.way(way)) if glossary.way(way) else way for way in ways)],
            [(_measure(one), *(_number(cells.get(way)) for way in ways)) for one, cells in tree.items()],
        ),
        (["other numbers", "value"], single),
    ]
    return [(heads, rows) for heads, rows in tables if rows]


def _measure(name: str) -> Word:
    return Word(name, glossary.measure(name))


def _level_and_way(group: str) -> str | Word:
    """`own/species` -> `species, own`, explained by its way to answer."""
    way, _, level = group.partition("/")
    tip = glossary.way(way) if level else ""
    return Word(f"{level}, {way}", tip) if tip else group


def _words(report: Report) -> list[Word]:
    """Return the glossary of what this page shows, for those who cannot point at a word."""
    names = [name.removeprefix("test/").rpartition("/") for name in report.final]
    measures = dict.fromkeys(measure for _, _, measure in names)
    ways = [group.partition("/")[0] for group, _, _ in names if group]
    found = [_measure(name) for name in measures if glossary.measure(name) != glossary.OF_METHOD]
    found += [Word(way, glossary.way(way)) for way in dict.fromkeys(ways) if glossary.way(way)]
    return found + [Word(*entry) for entry in glossary.WORDS.items()] if report.answers else found


def _calibration(report: Report) -> dict[str, Any]:
    """Return what is told of the calibration: the split, its images, and each level's error before and after."""
    told = report.calibrated.told
    before, after = (told.get(key, {}) for key in ("ece_before", "ece_after"))
    rows: list[Row] = [(level, _number(error), _number(after.get(level))) for level, error in before.items()]
    images = int(told.get("images", 0))
    split = report.calibrated.split
    said = {"": "validation", "val": "validation"}.get(split, split)
    return {"split": split, "said": said, "images": images, "held": images // 2, "rows": rows}


def _vouched(one: Vouched, levels: Sequence[Share]) -> Row:
    """Return a row: asked precision, its threshold, answers, their depth, and how many are right."""
    asked = percent(one.precision)
    if one.summary is None or one.threshold is None:
        return (asked, *(("–", math.nan) for _ in range(5)))
    found = one.summary
    right = found.right / found.answered if found.answered else math.nan
    low, high = wilson(found.right, found.answered)
    return (
        asked,
        (f"{one.threshold:.3f}", one.threshold),
        (tenths(found.coverage), found.coverage),
        (f"{found.mean_depth:.2f} of {len(levels)}", found.mean_depth),
        (tenths(right), right),
        (f"{low * 100:.1f} to {tenths(high)}", low),
    )


def _matrix(found: Matrix) -> tuple[str, charts.ConfusionChart]:
    title = f"confusion matrix of the {len(found.names)} classes of level {found.level}"
    return found.level, charts.confusion_chart(title, found.names, found.counts.tolist())


def _number(value: Any) -> tuple[str, float]:
    if isinstance(value, int | float) and math.isfinite(value):
        return f"{value:.4f}" if isinstance(value, float) else str(value), float(value)
    return ("–" if value is None or isinstance(value, float) else str(value)), math.nan


def _classes(report: Report) -> list[Row]:
    return [
        (
            row.share.name,
            (f"{row.share.total:,}", row.share.total),
            (tenths(row.share.value), row.share.value),
            (tenths(row.precision), row.precision),
            (tenths(row.f1), row.f1),
            f"{row.mistake} ({row.times})" if row.mistake else "",
            *([_count(report.training.get(row.share.name))] if report.shots else []),
        )
        for row in report.classes[:CLASSES]
    ]


def _class_heads(knows_training: bool) -> list[str | Word]:
    shares = (Word(name, glossary.WORDS[name]) for name in ("recall", "precision", "F1"))
    return ["class", "images", *shares, "most frequent mistake", *(["training images"] if knows_training else [])]


def _count(number: int | None) -> tuple[str, float]:
    return ("–", math.nan) if number is None else (f"{number:,}", number)


def _shots(report: Report) -> list[Row]:
    """Return a row per group of classes: training images, classes, their mean accuracy, test images."""
    return [
        (
            _measure(row.name),
            (f"{row.least:,}" if row.least == row.most else f"{row.least:,} to {row.most:,}", row.least),
            (f"{row.tested:,}" if row.tested == row.classes else f"{row.tested:,} of {row.classes:,}", row.tested),
            (tenths(row.accuracy), row.accuracy),
            _count(row.images),
        )
        for row in report.shots
    ]
