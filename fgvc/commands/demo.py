"""`fgvc demo`: the main job on generated birds, from pictures to a table of names, in a few minutes."""

import csv
import random
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from fgvc.commands import evaluate, fit, predict
from fgvc.config.one_line_parser import OneLineParser
from fgvc.data.sources.generated_birds import GeneratedBirds
from fgvc.files.lines import tell
from fgvc.files.whole_files import save_picture
from fgvc.images.contact_sheet import Tile, contact_sheet
from fgvc.images.decoding import decode

SHORT = ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "8", "--trainer.limit_val_batches", "2")


def main(argv: Sequence[str] | None = None) -> int:
    """Train, test and predict through the doors that a user has, then draw what was answered."""
    parser = OneLineParser(prog="fgvc demo", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo"), help="the folder to write into")
    parser.add_argument("--short", action="store_true", help="a few steps only, to see that everything works")
    options, keys = parser.parse_known_args(argv)  # what is left are keys of `fgvc fit`
    start = time.perf_counter()
    run = options.output / "quickstart"
    table, sheet = options.output / "predictions.csv", options.output / "contact_sheet.jpg"
    training = ["--config", "quickstart", "--runs", str(options.output), "--name", run.name, "--overwrite", "true"]
    if code := fit.main([*training, *(SHORT if options.short else ()), *keys]) or evaluate.test([str(run)]):
        return code
    truth = dict(_photographs(run))
    if code := predict.main([str(run), *truth, "--output", str(table), "--overwrite"]):
        return code
    _draw(table, truth, sheet)
    minutes = (time.perf_counter() - start) / 60
    tell(f"\nThe demo took {minutes:.1f} minutes. Look at:")
    for path, what in (
        (sheet, "pictures with what the model answered and what is true"),
        (table, "the same as a table, with probabilities at every level"),
        (run / "report.html", "curves, confused classes, reliability: a page for the browser"),
        (run / "metrics.csv", "accuracy per level and epoch"),
        (run / "model", "the model: fgvc predict " + str(run) + " PHOTO..."),
    ):
        tell(f"  {path!s:<32} {what}")
    return 0


def _photographs(run: Path, count: int = 48) -> list[tuple[str, str]]:
    """Return paths and true names of some test pictures of the run's data, the same ones each time."""
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    source = GeneratedBirds(**config["data"]["source"]["init_args"])
    records = source.records("test")
    names = source.taxonomy.names(source.taxonomy.leaf_level)
    chosen = random.Random(0).sample(range(len(records)), min(count, len(records)))
    return [(records[i].path, names[records[i].label]) for i in chosen]


def _draw(table: Path, truth: dict[str, str], sheet: Path) -> None:
    """Show every predicted picture with the answer and the truth."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    tiles = [Tile(decode(row["path"]), row["label"], float(row["score"]), truth[row["path"]]) for row in rows]
    save_picture(contact_sheet(tiles), sheet)
