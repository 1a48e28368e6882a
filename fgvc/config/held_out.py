"""Images by which something is chosen among several models: those that their runs held out, or others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from fgvc.config.other_data import asked_for
from fgvc.config.run_cli import RunCLI
from fgvc.config.words import of_run
from fgvc.config.yaml_files import read_text
from fgvc.data.datamodule import FineGrainedData
from fgvc.errors import UsageError
from fgvc.files.run_folder import CONFIG, followed
from fgvc.taxonomy.tree import Taxonomy

DECIDES = ("source", "val_fraction", "split_seed", "folds", "fold")
"""Keys of `data` that say which images are held out."""


class HeldOut(NamedTuple):
    """Images that no model was trained on.

    data: the datamodule. split: which of its images. device: where models compute. run: whose data they are.
    """

    data: FineGrainedData
    split: str
    device: torch.device
    run: Path


def run_of(member: Path) -> Path | None:
    """Return the run folder of a run, of its `model` folder or of one of its checkpoints; None where there is none."""
    path = followed(member)
    around = (path, path.parent, path.parent.parent) if path.suffix == ".ckpt" else (path, path.parent)
    return next((one for one in around if (one / CONFIG).is_file()), None)


def difference(members: Sequence[Path]) -> str:
    """Say which run held out other images than the first one; "" where all are known to have held out the same."""
    first: dict[str, Any] | None = None
    for member in members:
        run = run_of(member)
        if run is None:
            return f"{member}: no run around it says what it was trained on"
        data = yaml.safe_load(read_text(run / CONFIG)).get("data") or {}
        found = {key: data.get(key) for key in DECIDES}
        first = first or found
        if odd := next((key for key in DECIDES if found[key] != first[key]), None):
            own = f"data.{odd} differs, so it may have been trained on some of them"
            return f"{member}: held out other images than {members[0]} ({own})"
    return ""


def open_held_out(command: str, run: Path, taxonomy: Taxonomy, data: str | None, words: Sequence[str]) -> HeldOut:
    """Open the images that a run held out, or all of other labelled photographs.

    Args:
        command: for messages.
        run: the run folder.
        taxonomy: the classes of the models.
        data: a folder or table in place of the run's own validation images, or None.
        words: further `--KEY VALUE`, which override the run's config.

    Raises:
        UsageError: nothing is held out, or the data have other classes than the models.
    """
    other, typed = (None, list(words)) if data is None else asked_for("test", [str(run), "--data", data, *words])
    cli = RunCLI("calibrate", of_run(run, typed if other is None else typed[1:]))
    cli.without_weights()
    if other is None:
        cli.build()
    else:
        other.build(cli)
    split = "val" if other is None else "test"
    if split not in cli.datamodule.splits:
        raise UsageError(f"{run}: nothing is held out, so nothing can be chosen; give --data FOLDER of labelled images")
    if cli.datamodule.taxonomy != taxonomy:
        raise UsageError(f"{run}: its data have other classes than its model; give --data")
    cli.build_trainer()
    return HeldOut(cli.datamodule, split, cli.trainer.strategy.root_device, run)
