"""The report of a run as one HTML page that needs nothing else: no network and no other file."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fgvc.confidence.intervals import Share, wilson
from fgvc.files.answer_table import Answers
from fgvc.report import charts
from fgvc.report.charts import Bar, Line, percent
from fgvc.report.markup import Row, chart, columns, document, picture, prose, section, table
from fgvc.report.mistakes import Pair
from fgvc.report.run import Curve, Report

CLASSES = 200
"""How many classes the table shows at most: the worst."""

PARTS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Shares of the surest images whose mistakes are listed."""

Pictures = Mapping[int, str]


def page(report: Report, pictures: Pictures, notes: Sequence[str] = ()) -> str:
    """Return the page.

    Args:
        report: the numbers.
        pictures: row of the answers -> its thumbnail as a data: address. A row that is missing gets a grey square.
        notes: what the reader should know about the page itself.
    """
    parts = [
        _accuracy(report),
        _training(report),
        _confused(report, pictures),
        _calibration(report),
        _selective(report),
        _looks(report, pictures),
        _final(report),
        _classes(report),
    ]
    return document(f"{report.name} - fgvc report", f'{_header(report, notes)}<main id="main">{"".join(parts)}</main>')


def _header(report: Report, notes: Sequence[str]) -> str:
    found, lead = list(report.facts), ""
    if report.answers:
        found += [("test images", f"{len(report.answers.paths):,}"), ("classes tested", f"{len(report.classes):,}")]
    if report.levels and report.levels[-1].total:
        leaf = report.levels[-1]
        lead = f'<p class="lead"><strong>{_tenths(leaf.value)}</strong> of the {escape(leaf.name)} names are right</p>'
    items = "".join(f'<li><span class="soft">{escape(name)}</span> {escape(value)}</li>' for name, value in found)
    return (
        f'<header><p class="soft">fgvc report, results of {escape(report.day)}</p><h1>{escape(report.name)}</h1>{lead}'
        f'<ul class="facts">{items}</ul>{"".join(map(prose, notes))}</header>'
    )


def _accuracy(report: Report) -> str:
    rows = [share for share in report.levels if share.total]
    if not rows:
        return section("Accuracy", prose("No answers for test images whose classes are known: run `fgvc test` first."))
    drawn = [Bar(share.name, share.value, _tenths(share.value), wilson(share.right, share.total)) for share in rows]
    title = "accuracy per level: " + ", ".join(f"{bar.name} {bar.text}" for bar in drawn)
    text = (
        "The share of test images that are named rightly, from the coarsest level to the finest. The thin mark is the "
        "95 % interval (Wilson): chance in these images, not how much another training would differ."
    )
    tables = _shares("level", rows)
    if report.views:
        tables += _shares(f"{rows[-1].name} by view", report.views)
    return section("Accuracy", prose(text) + columns(chart(charts.bars(title, drawn)), f"<div>{tables}</div>"))


def _shares(name: str, rows: Sequence[Share]) -> str:
    cells = []
    for row in rows:
        low, high = wilson(row.right, row.total)
        between = f"{low * 100:.1f} to {high * 100:.1f}\u00a0%"
        cells.append((row.name, (_tenths(row.value), row.value), (between, low), (f"{row.total:,}", row.total)))
    return table((name, "accuracy", "95 % interval", "images"), cells)


def _training(report: Report) -> str:
    curves = report.curves
    found = [name.split("/")[1] for name in curves if name.startswith("val/") and name.endswith("/top1")]
    order = [*(report.answers.levels if report.answers else ()), *found]
    levels = sorted((level for level in set(found) if f"val/{level}/top1" in curves), key=order.index)
    losses = [Line(name, _from_one(curves[name])) for name in ("train/loss", "val/loss") if name in curves]
    scores = [Line(level, _from_one(curves[f"val/{level}/top1"])) for level in levels]
    figures = []
    for lines, axis, words, most, what in (
        (losses, "loss", charts.plain, math.inf, "loss"),
        (scores, "accuracy", percent, 1.0, "accuracy of the validation images at each level"),
    ):
        if lines:
            last = ", ".join(f"{line.name} {words(line.points[-1][1])}" for line in lines)
            title = f"{what}; at the end {last}"
            svg = charts.line_chart(title, lines, "epochs", axis, y_words=words, whole=True, most=most)
            figures.append(chart(svg + charts.legend([line.name for line in lines]), what.capitalize()))
    return section("Training", columns(*figures)) if figures else ""


def _from_one(curve: Curve) -> list[tuple[float, float]]:
    """Lightning counts epochs from 0; a reader asks after how many of them."""
    return [(epoch + 1, value) for epoch, value in curve]


def _confused(report: Report, pictures: Pictures) -> str:
    answers = report.answers
    if not answers or not report.pairs:
        return ""
    totals = {row.share.name: row.share.total for row in report.classes}
    text = (
        "The pairs of classes with the most mistakes, each with the mistake that the model was surest of and the "
        "photograph of either class that it recognised most surely."
    )
    cards = ""
    for pair in report.pairs:
        trio = _photograph(answers, pictures, pair.row, f"taken for {pair.answer}{_sure(answers, pair.row)}", "bad")
        for name, row in ((pair.truth, pair.truth_row), (pair.answer, pair.answer_row)):
            caption = f"none of {name} was recognised" if row is None else f"{name}, recognised"
            trio += _photograph(answers, pictures, row, caption, "" if row is None else "good")
        facts = f"{pair.times} of {totals[pair.truth]} images{_kinship(pair, answers.levels)}"
        cards += (
            f'<article><h3>{escape(pair.truth)} <span class="soft">taken for</span> {escape(pair.answer)}</h3>'
            f'<small>{escape(facts)}</small><div class="trio">{trio}</div></article>'
        )
    return section("Mistakes", _how_far(report) + prose(text) + f'<div class="pairs">{cards}</div>')


def _kinship(pair: Pair, levels: Sequence[str]) -> str:
    if len(levels) == 1:
        return ""
    nearest = f"same {pair.shared}" if pair.shared else f"another {levels[0]}"
    return f", {nearest} (common ancestor {pair.height} level{'s' * (pair.height != 1)} up)"


def _how_far(report: Report) -> str:
    total, levels = sum(report.heights), [share.name for share in report.levels]
    if len(levels) < 2:
        return ""
    names = [f"same {level}" for level in levels[-2::-1]] + [f"another {levels[0]}"]
    rows = [Bar(name, n / total, f"{n:,}") for name, n in zip(names, report.heights, strict=True)]
    title = "mistakes by what truth and answer share: " + ", ".join(f"{row.name} {row.text}" for row in rows)
    return chart(charts.bars(title, rows), f"{total:,} mistakes, by the finest level that truth and answer still share")


def _calibration(report: Report) -> str:
    figures = []
    for name, found in report.reliability.items():
        numbers = (found.confidence.tolist(), found.accuracy.tolist(), found.counts.tolist())
        caption = f"{name.capitalize()}: ECE {found.ece:.4f}"
        figures.append(chart(charts.reliability_diagram(f"reliability {caption}", *numbers), caption))
    text = (
        "Of the answers that the model is 80 % sure of, 80 in 100 should be right. The thick edge of a bar is its "
        "accuracy. Below the dashed line the model is too sure, above it too modest; the orange part is the gap, and "
        "ECE the mean gap over all images, in 15 bins of equal width, at the finest level."
    )
    return section("Calibration", prose(text) + columns(*figures)) if figures else ""


def _selective(report: Report) -> str:
    if not report.risk:
        return ""
    risk, aurc, best = report.risk
    svg = charts.risk_coverage_curve(f"mistakes among the surest images, AURC {aurc:.4f}", risk.tolist(), best.tolist())
    rows = []
    for part in PARTS:
        many = max(1, round(part * len(risk)))
        rows.append((f"surest {percent(part)}", (f"{many:,}", many), (_tenths(risk[many - 1]), risk[many - 1])))
    text = (
        "How many mistakes are left where the model answers only for the images it is surest of. "
        f"AURC, the mean height of the curve, is {aurc:.4f}; lower is better."
    )
    curve = chart(svg, "Dashed: an ideal order, in which all right answers come first")
    listed = table(("answered", "images", "mistakes"), rows)
    return section("Answering only when sure", prose(text) + columns(curve, listed))


def _looks(report: Report, pictures: Pictures) -> str:
    answers = report.answers
    if not answers or not report.looks:
        return ""
    items = ""
    for row in report.looks:
        truth, answer = (answers.leaf(int(codes[row, -1])) for codes in (answers.truth, answers.answer))
        caption = f"✓ {answer}" if answers.right[row] else f"✗ {answer}, is {truth}"
        mark = "good" if answers.right[row] else "bad"
        items += _photograph(answers, pictures, row, caption + _sure(answers, row), mark)
    text = "The boxes are the parts of the photograph that the model looked at more closely."
    return section("Where it looked", f'{prose(text)}<div class="looks">{items}</div>')


def _classes(report: Report) -> str:
    shown, number = report.classes[:CLASSES], len(report.classes)
    rows = [
        (
            share.name,
            (f"{share.total:,}", share.total),
            (_tenths(share.value), share.value),
            f"{mistake} ({times})" if mistake else "",
        )
        for share, mistake, times in shown
    ]
    which = f"The {CLASSES} worst of {number:,} classes" if number > CLASSES else "All classes that have test images"
    heads = ("class", "images", "accuracy", "most frequent mistake")
    return section("Classes", table(heads, rows, f"{which}, the worst first", sort=True)) if rows else ""


def _final(report: Report) -> str:
    """Lay out test.json: `test/species/top1` is a cell of row species and column top1, other numbers are listed."""
    grid: dict[str, dict[str, Any]] = defaultdict(dict)
    single = []
    for name, value in report.final.items():
        group, _, metric = name.removeprefix("test/").rpartition("/")
        if group:
            grid[group][metric] = value
        else:
            single.append((metric, _number(value)))
    heads = list(dict.fromkeys(metric for cells in grid.values() for metric in cells))
    rows: list[Row] = [(group, *(_number(cells.get(head)) for head in heads)) for group, cells in grid.items()]
    tables = [table(("name", *heads), rows)] if rows else []
    tables += [table(("name", "value"), single)] if single else []
    return section("All numbers of the test", columns(*tables)) if tables else ""


def _photograph(answers: Answers, pictures: Pictures, row: int | None, caption: str, mark: str) -> str:
    if row is None:
        return picture(None, "no photograph", caption, mark)
    source = pictures.get(row)
    alt = f"{answers.leaf(int(answers.truth[row, -1]))}: {answers.paths[row]}{'' if source else ' (not shown)'}"
    return picture(source, alt, caption, mark)


def _sure(answers: Answers, row: int) -> str:
    return f", {percent(answers.confidence[row])} sure" if math.isfinite(answers.confidence[row]) else ""


def _tenths(value: float) -> str:
    return f"{value * 100:.1f}\u00a0%" if math.isfinite(value) else "–"


def _number(value: Any) -> tuple[str, float]:
    if isinstance(value, int | float) and math.isfinite(value):
        return f"{value:.4f}" if isinstance(value, float) else str(value), float(value)
    return ("–" if value is None or isinstance(value, float) else str(value)), math.nan
