"""Start a recognizer from the weights of another run, also one of another method."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fgvc.backbone import WeightReport
from fgvc.errors import UsageError
from fgvc.model_file import read_state
from fgvc.recognizers.base import Recognizer

log = logging.getLogger(__name__)


def init_from(recognizer: Recognizer, folder: str | Path) -> WeightReport:
    """Fill what has a counterpart in a trained model; the rest keeps its start.

    The counterpart of a tensor is the one of the same name or else of the longest ending of its name: so the
    `backbone` and the `head` of a whole-image model fill those of every scale. Tensors of other shapes are left out.

    Args:
        recognizer: what is filled.
        folder: a run folder or its `model` folder.

    Raises:
        ModelFileError: no model there that can be read.
        UsageError: nothing in it fits.
    """
    state = read_state(folder)
    own = recognizer.state_dict()
    pairs = {name: found for name in own if (found := counterpart(name, own[name], state))}
    learnt = {name for name, _ in recognizer.named_parameters()}
    report = WeightReport(
        tuple(pairs),
        tuple(name for name in own if name not in pairs and name in learnt),
        tuple(name for name in state if name not in pairs.values()),
    )
    if not any(name in learnt for name in pairs):
        raise UsageError(f"--init_from {folder}: no tensor of that model fits this one ({report})")
    with torch.no_grad():
        for name, found in pairs.items():
            own[name].copy_(state[found])
    log.info("start from %s: %s", folder, report)
    return report


def counterpart(name: str, value: Tensor, state: Mapping[str, Tensor]) -> str | None:
    """Return the key of the tensor that fills `name`: the longest ending of it that is a key with the same shape."""
    while name:
        if name in state and state[name].shape == value.shape:
            return name
        name = name.partition(".")[2]
    return None
