"""A run folder with answers for the tests of the report: small tables of known content, or random ones of any size."""

import csv
import random
from pathlib import Path

LEVELS = ("family", "genus", "species")
TREE = {
    "herring gull": ("gulls", "Larus"),
    "common gull": ("gulls", "Larus"),
    "kittiwake": ("gulls", "Rissa"),
    "house crow": ("crows", "Corvus"),
}
# truth, answer, confidence, calibrated confidence
ANSWERS = [
    ("herring gull", "herring gull", 0.9, 0.8),
    ("herring gull", "herring gull", 0.7, 0.6),
    ("herring gull", "common gull", 0.8, 0.5),
    ("herring gull", "common gull", 0.95, 0.9),
    ("common gull", "common gull", 0.6, 0.55),
    ("common gull", "kittiwake", 0.4, 0.3),
    ("kittiwake", "house crow", 0.5, 0.35),
    ("house crow", "house crow", 0.99, 0.97),
]


def lineage(species):
    return (*TREE[species], species)


def rows_of(answers=ANSWERS):
    """Return the table as `fgvc test` writes it, one dict per image."""
    rows = []
    for i, (truth, answer, score, calibrated) in enumerate(answers):
        row = {"path": f"{truth}/{i}.png"}
        for level, true, pred in zip(LEVELS, lineage(truth), lineage(answer), strict=True):
            row |= {f"{level}_true": true, f"{level}_pred": pred}
        row |= {f"{level}_score": f"{calibrated:.6f}" for level in LEVELS} | {"score": f"{score:.6f}"}
        rows.append(row)
    return rows


def random_rows(images, classes, levels=LEVELS, error=0.3, seed=0):
    """Return a table of a tree in which every node has four children."""
    draw = random.Random(seed)
    rows = []
    for i in range(images):
        truth = i % classes
        answer = truth if draw.random() > error else draw.randrange(classes)
        row = {"path": f"{i}.png"}
        for depth, level in enumerate(reversed(levels)):
            row |= {f"{level}_true": f"{level} {truth // 4**depth}", f"{level}_pred": f"{level} {answer // 4**depth}"}
        ordered = {f"{level}_{kind}": row[f"{level}_{kind}"] for level in levels for kind in ("true", "pred")}
        rows.append({"path": row["path"], **ordered, "score": f"{draw.random():.6f}"})
    return rows


def write(folder: Path, rows=None, **files) -> Path:
    """Write `predictions_test.csv` and other files, named without their dot: metrics_csv, test_json, config_yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    if rows is not None:
        with (folder / "predictions_test.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    for name, text in files.items():
        (folder / ".".join(name.rsplit("_", 1))).write_text(text, encoding="utf-8")
    return folder
