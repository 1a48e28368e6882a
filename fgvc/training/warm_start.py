"""Start a recognizer from the weights of another run, also one of another method."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from fgvc.errors import UsageError
from fgvc.files import run_folder
from fgvc.methods.backbone import Backbone
from fgvc.methods.last_stage import LastStage
from fgvc.methods.own_head import OwnHead
from fgvc.methods.recognizers.base import PRETRAINED, Recognizer
from fgvc.methods.weight_report import WeightReport
from fgvc.model_file.model import DESCRIPTION, read_state

_NET = ".net."  # stands between the path of a Backbone and the names of its network's tensors


def find(folder: str | Path) -> Path:
    """Return the folder that `--init_from` means: `latest` is the newest run beside it.

    Raises:
        UsageError: no model there.
    """
    path = Path(folder)
    if path.name == "latest" and not path.is_dir():
        path = run_folder.resolve(path)
    if not any((home / DESCRIPTION).is_file() for home in (path, path / run_folder.MODEL)):
        found = f"no model there (no {DESCRIPTION})" if path.is_dir() else "no such folder"
        raise UsageError(f"--init_from {path}: {found}; give a run folder or the model folder inside it")
    return path


def init_from(recognizer: Recognizer, folder: str | Path, whole_backbones: bool = False) -> WeightReport:
    """Copy every tensor that has a counterpart in a trained model; the others keep their start.

    Only backbones are filled from a model of other classes.

    Args:
        recognizer: what is filled.
        folder: a run folder or its `model` folder.
        whole_backbones: whether a backbone must not be left with random tensors, for it was made without weights.

    Raises:
        ModelFileError: a model that cannot be read.
        UsageError: no model there, nothing in it fits, or not all of a backbone that must be whole.
    """
    state, taxonomy = read_state(find(folder))
    own = recognizer.state_dict()
    pairs = counterparts(recognizer, state)
    if taxonomy != recognizer.taxonomy:  # a row of a classifier would stand for another class
        pairs = {name: found for name, found in pairs.items() if name.startswith(_trunks(recognizer))}
    learnt = {name for name, _ in recognizer.named_parameters()}
    used = set(pairs.values())
    report = WeightReport(
        tuple(pairs),
        tuple(name for name in own if name not in pairs and name in learnt),
        tuple(name for name in state if name not in used),
    )
    if not learnt & pairs.keys():
        raise UsageError(f"--init_from {folder}: no tensor of that model fits this one ({report})")
    bare = [name for name in report.reset if name.startswith(_trunks(recognizer))]
    if bare and whole_backbones:
        raise UsageError(
            f"--init_from {folder}: that model leaves {len(bare)} tensors of the backbone unset ({bare[0]} ...); "
            "take one with the same backbone and image size, or give the backbone a local file as `weights`"
        )
    with torch.no_grad():
        for name, found in pairs.items():
            own[name].copy_(state[found])
    return report


def counterparts(recognizer: Recognizer, state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return own name -> key of the tensor that fills it, for every tensor that has a counterpart of its shape.

    The counterpart has the same name, or else the longest ending of it: so the `backbone` and the `head` of a
    whole-image model fill those of every scale. A backbone without one takes the other model's first backbone, and a
    head's copy of a last stage takes that backbone's last stage.

    Args:
        recognizer: whose tensors are filled.
        state: the other model's tensors by name.
    """
    first = next((key.partition(_NET)[0] for key in state if _NET in key), None)
    nets = (Backbone, OwnHead)
    inside = {f"{path}.": "" for path, module in recognizer.named_modules() if isinstance(module, nets)}
    for path, module in recognizer.named_modules():
        if isinstance(module, LastStage):  # copies start as that backbone's last stage, as they would without a start
            inside |= {f"{path}.steps.{i}.": f"net.{name}." for i, name in enumerate(module.names)}
    found: dict[str, str] = {}
    for name, value in recognizer.state_dict().items():
        homes = (path for path in inside if name.startswith(path))
        names = [*_endings(name), *(f"{first}.{inside[path]}{name.removeprefix(path)}" for path in homes)]
        fits = (key for key in names if key in state and state[key].shape == value.shape)
        if (key := next(fits, None)) is not None:
            found[name] = key
    return found


def _trunks(recognizer: Recognizer) -> tuple[str, ...]:
    """Return what the names of the tensors of each backbone, or part of one, begin with."""
    return tuple(f"{path}." for path, module in recognizer.named_modules() if isinstance(module, PRETRAINED))


def _endings(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.partition(".")[2]
