"""Checkpoints: plain data, loaded with `weights_only=True`, whole or not there at all."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from fgvc.errors import FgvcError
from fgvc.files.lines import quoted
from fgvc.files.whole_files import flush, whole_file
from fgvc.methods.recognizers.base import Recognizer
from fgvc.training.resuming import other_classes

_PREFIX = "recognizer."


class WholeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside the former one and rename it, so that a kill or a full disk leaves one of them whole.

    Lightning's own way moves it from the system's temporary folder, which may lie on another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            FgvcError: it cannot be written; a checkpoint of that name stays as it was.
        """
        target = Path(path)
        try:
            with whole_file(target) as draft, draft.open("wb") as file:
                torch.save(checkpoint, file)
                flush(file)
        except (FgvcError, RuntimeError) as error:  # torch's writer hides what the disk said
            reason = getattr(error, "strerror", None) or getattr(error.__context__, "strerror", None) or error
            run = target.parent.parent
            whole = f"the one before it is whole; make room, then fgvc fit --resume {quoted(run)}"
            todo = whole if target.is_file() else "there is none before it; make room, then start the run again"
            said = " ".join(str(reason).split())[:200]
            raise FgvcError(f"{target}: the checkpoint cannot be written ({said}); {todo}") from None


def read(path: str | Path) -> dict[str, Any]:
    """Return a checkpoint.

    Raises:
        FgvcError: the file is missing or damaged.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get("state_dict"), dict):
            return checkpoint
        reason = "no weights in it"
    except Exception as error:  # damaged bytes raise whatever the unpickler stumbles over
        reason = " ".join(str(error).split())[:200]
    raise FgvcError(f"{path}: no checkpoint that can be read ({reason})")


def load_weights(recognizer: Recognizer, path: str | Path) -> None:
    """Fill a recognizer from a checkpoint (the averaged weights where the run averaged them).

    Raises:
        FgvcError: the file is missing, damaged, or belongs to another model or to other classes.
    """
    checkpoint = read(path)
    if difference := other_classes(checkpoint, recognizer.taxonomy):
        raise FgvcError(f"{path}: made for other classes ({difference}); give the data it was trained on")
    state = checkpoint["state_dict"]
    try:
        recognizer.load_state_dict({k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise FgvcError(f"{path}: does not fit the model of the config ({reason})") from None
