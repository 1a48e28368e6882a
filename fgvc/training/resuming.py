"""Where a stopped run stands, read from its checkpoint, and how it goes on."""

from typing import Any

import pytorch_lightning as pl

from fgvc.taxonomy.tree import Taxonomy

Checkpoint = dict[str, Any]


def epochs_trained(checkpoint: Checkpoint) -> int:
    """Return how many epochs are trained to their end."""
    return int(_epochs(checkpoint)["current"]["processed"])


def is_inside_epoch(checkpoint: Checkpoint) -> bool:
    """Say whether the run stopped inside an epoch."""
    progress = _epochs(checkpoint)["current"]
    return bool(progress["ready"] > progress["processed"])


def loader_states(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Return what the training loaders told of themselves, see `TrainLoader.state_dict`."""
    return list(_fit_loop(checkpoint)["state_dict"].get("combined_loader", []))


def other_classes(checkpoint: Checkpoint, taxonomy: Taxonomy) -> str | None:
    """Return how the classes of a checkpoint differ from a taxonomy; None where they are the same.

    A checkpoint that was written before checkpoints held their classes is taken to have the same ones.
    """
    stored = checkpoint.get("taxonomy")
    if stored is None or (stored := Taxonomy.from_plain(stored)) == taxonomy:
        return None
    if stored.levels != taxonomy.levels:
        return f"levels {', '.join(stored.levels)}, not {', '.join(taxonomy.levels)}"
    before, now = ([" > ".join(path) for path in tree.to_plain()["leaves"]] for tree in (stored, taxonomy))
    if gone := sorted(set(before) - set(now)):
        return f"{stored.leaf_level} {gone[0]!r} is not in the data"
    if new := sorted(set(now) - set(before)):
        return f"{stored.leaf_level} {new[0]!r} is new in the data"
    return f"the order of the classes, {before[0]!r} first, not {now[0]!r}"


def begin_epoch_anew(checkpoint: Checkpoint) -> None:
    """Change a checkpoint of the middle of an epoch so that Lightning trains this epoch from its first batch.

    What was learnt in it is kept: weights, optimizer and the count of steps.
    """
    epochs, done = _epochs(checkpoint), epochs_trained(checkpoint)
    for count in (epochs["total"], epochs["current"]):
        # as Lightning saves it at the end of an epoch
        count.update(ready=done, started=done, processed=done, completed=max(0, done - 1))
    _fit_loop(checkpoint)["state_dict"]["combined_loader"] = []


class EpochAnew(pl.Callback):
    """Train the epoch that a resumed run stopped in from its first batch."""

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: Checkpoint) -> None:
        """Change the checkpoint before Lightning reads from it where the run stands."""
        begin_epoch_anew(checkpoint)


def _fit_loop(checkpoint: Checkpoint) -> dict[str, Any]:
    return checkpoint["loops"]["fit_loop"]  # type: ignore[no-any-return]


def _epochs(checkpoint: Checkpoint) -> dict[str, Any]:
    return _fit_loop(checkpoint)["epoch_progress"]  # type: ignore[no-any-return]
