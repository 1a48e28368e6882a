"""Read the recognizer's weights out of a training checkpoint: plain data, loaded with `weights_only=True`."""

from pathlib import Path

import torch

from fgvc.errors import FgvcError
from fgvc.recognizers.base import Recognizer

_PREFIX = "recognizer."


def load_weights(recognizer: Recognizer, path: str | Path) -> None:
    """Fill a recognizer from a checkpoint (the averaged weights where the run averaged them).

    Raises:
        FgvcError: the file is missing, damaged, or belongs to another model.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        weights = {k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}
    except Exception as error:  # damaged bytes raise whatever the unpickler stumbles over
        reason = " ".join(str(error).split())[:200]
        raise FgvcError(f"{path}: no checkpoint that can be read ({reason})") from None
    try:
        recognizer.load_state_dict(weights)
    except RuntimeError as error:
        raise FgvcError(
            f"{path}: does not fit the model of the config ({' '.join(str(error).split())[:200]})"
        ) from None
