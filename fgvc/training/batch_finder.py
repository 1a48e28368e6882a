"""The largest batch, of powers of two, that the memory of an accelerator holds."""

import copy
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.memory import garbage_collection_cuda, is_oom_error

from fgvc.errors import UsageError
from fgvc.files.lines import tell

SMALLEST, STEPS = 2, 3


def find_size(model: Any, datamodule: Any, settings: Mapping[str, Any]) -> int:
    """Return the largest batch size that trains for three steps; the model is left as it was, the data get the size.

    Lightning's own search needs a model with a `batch_size`, and leaves a checkpoint where it was started.

    Args:
        model: a FineGrainedModule that was not trained yet.
        datamodule: its data; no size goes beyond the number of training images.
        settings: of the trainer; accelerator and precision are taken from it. One process searches.

    Raises:
        UsageError: no accelerator, or no size fits.
    """
    trainer = _trainer(settings)
    if trainer.strategy.root_device.type == "cpu":
        raise UsageError(
            "--find_batch_size: it fills the memory of an accelerator, and there is none; give --data.batch_size"
        )
    tell("search of the batch size")
    weights, most = copy.deepcopy(model.state_dict()), len(datamodule.records("train"))
    found, size = 0, SMALLEST
    while size <= most and _fits(model, datamodule, settings, size):
        found, size = size, 2 * size
    model.load_state_dict(weights)
    if not found:
        raise UsageError(
            f"--find_batch_size: not even {SMALLEST} images fit the memory of the accelerator; lower model.image_size"
        )
    datamodule.batch_size = found
    return found


def _fits(model: Any, datamodule: Any, settings: Mapping[str, Any], size: int) -> bool:
    datamodule.batch_size = size
    try:
        _trainer(settings).fit(model, datamodule=datamodule)
    except RuntimeError as error:
        if not is_oom_error(error):
            raise
        return False
    finally:
        model.cpu()
        model.zero_grad(set_to_none=True)
        garbage_collection_cuda()
    return True


def _trainer(settings: Mapping[str, Any]) -> pl.Trainer:
    return pl.Trainer(
        accelerator=settings["accelerator"],
        devices=1,
        precision=settings["precision"],
        max_steps=STEPS,
        max_epochs=-1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
