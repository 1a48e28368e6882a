"""The largest batch, of powers of two, that the memory of an accelerator holds."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.utilities.memory import garbage_collection_cuda, is_oom_error

from fgvc.errors import UsageError
from fgvc.files.lines import tell
from fgvc.training.trial import trial_trainer, undone

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
    trainer = trial_trainer(settings, STEPS)
    if trainer.strategy.root_device.type == "cpu":
        raise UsageError(
            "--find_batch_size: it fills the memory of an accelerator, and there is none; give --data.batch_size"
        )
    tell("search of the batch size")
    most = len(datamodule.records("train"))
    found, size = 0, SMALLEST
    with undone(model):
        while size <= most and _fits(model, datamodule, settings, size):
            found, size = size, 2 * size
    if not found:
        raise UsageError(
            f"--find_batch_size: not even {SMALLEST} images fit the memory of the accelerator; lower model.image_size"
        )
    datamodule.batch_size = found
    return found


def _fits(model: Any, datamodule: Any, settings: Mapping[str, Any], size: int) -> bool:
    datamodule.batch_size = size
    try:
        trial_trainer(settings, STEPS).fit(model, datamodule=datamodule)
    except RuntimeError as error:
        if not is_oom_error(error):
            raise
        return False
    finally:
        model.cpu()
        model.zero_grad(set_to_none=True)
        garbage_collection_cuda()
    return True
