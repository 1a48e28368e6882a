"""What will be trained on what, in a few lines before it begins."""

import math
from typing import Any

from fgvc.data.long_tail import told as tail_told
from fgvc.files.lines import counted


def limited(number: int, limit: float | None) -> int:
    """Return how many of the batches are left by a share, a whole number or None."""
    if limit is None:
        return number
    return int(number * limit) if isinstance(limit, float) and limit <= 1 else min(number, int(limit))


def outline(datamodule: Any, model: Any, trainer: Any) -> list[str]:
    """Return the lines: the images, classes and splits; the network and its device; the steps and what they leave out.

    Args:
        datamodule: a FineGrainedData whose `trainer` is set.
        model: a FineGrainedModule.
        trainer: that will train it.
    """
    taxonomy = datamodule.taxonomy
    splits = [split for split in _VERB if split in datamodule.splits]
    counts = [f"{len(datamodule.records(split)):,} to {_VERB[split]}" for split in splits]
    levels = ", ".join(f"{level} {taxonomy.size(level):,}" for level in taxonomy.levels)
    images = f"images: {', '.join(counts)}, in {datamodule.records('train').root}"
    classes = f"classes: {levels if len(taxonomy.levels) > 1 else f'{taxonomy.num_classes:,}'}"
    changed = []
    if datamodule.thinned_from:
        kept = len(datamodule.records("train"))
        changed = [tail_told(datamodule.class_counts.numpy(), datamodule.thinned_from, kept)]
    changed += datamodule.amended.told if datamodule.amended else []
    return [images, *changed, classes, _network(datamodule, model, trainer), _steps(datamodule, trainer)]


_VERB = {"train": "train", "val": "validate", "test": "test"}


def _network(datamodule: Any, model: Any, trainer: Any) -> str:
    recognizer = model.recognizer
    configs = [getattr(one.net, "pretrained_cfg", {}) for one in recognizer.backbones()]
    names = dict.fromkeys(str(config.get("architecture", type(recognizer).__name__)) for config in configs)
    numbers = sum(parameter.numel() for parameter in recognizer.parameters()) / 1e6
    device = trainer.strategy.root_device.type
    several = f"{trainer.world_size} processes, each on " if trainer.world_size > 1 else ""
    where = f"{several}{'the CPU' if device == 'cpu' else device}"
    pixels = f"{model.hparams['image_size'] or datamodule.resize.size} px"
    return f"network: {' and '.join(names)}, {numbers:.1f} million numbers, {pixels}, on {where}"


def _steps(datamodule: Any, trainer: Any) -> str:
    if datamodule.episodes:
        return _episodes(datamodule, trainer)
    world, batch = trainer.world_size, datamodule.batch_size
    images = len(datamodule.records("train"))
    loaded = len(datamodule.train_dataloader())
    batches = limited(loaded, trainer.limit_train_batches)
    together = trainer.accumulate_grad_batches
    whole = f"{batch * world * together} images"
    epochs = f"{counted(trainer.max_epochs, 'epoch')} of " if (trainer.max_epochs or -1) > 0 else "an epoch is "
    most = f"at most {trainer.max_steps} steps, " if (trainer.max_steps or -1) > 0 else ""
    line = f"training: {most}{epochs}{counted(math.ceil(batches / together), 'step')} of {whole}"
    if datamodule.draws_by_phase:
        return f"{line}; phases say which images are drawn, of as many steps each epoch"
    if datamodule.balance != "uniform":
        return f"{line}; images are drawn {datamodule.balance}, so an epoch has some twice and others not at all"
    rest, cut = images - loaded * batch * world, (loaded - batches) * batch * world
    why = [f"{rest} (the rest of a batch)"] * (rest > 0) + [f"{cut} (trainer.limit_train_batches)"] * (cut > 0)
    return f"{line}; each epoch leaves out {' and '.join(why)}, others each time" if why else line


def _episodes(datamodule: Any, trainer: Any) -> str:
    kind = datamodule.episodes.kind("train")
    kind = kind._replace(episodes=limited(kind.episodes, trainer.limit_train_batches))
    epochs = f"{counted(trainer.max_epochs, 'epoch')} of " if (trainer.max_epochs or -1) > 0 else "an epoch is "
    return f"training: {epochs}{kind}"
