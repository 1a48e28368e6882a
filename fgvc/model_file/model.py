"""A trained model as two files: `model.safetensors` (numbers) and `fgvc.json` (plain data); neither runs anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fgvc.confidence.vouching import Vouching
from fgvc.errors import UsageError
from fgvc.images.resizing import EvalResize, Shown, Strip
from fgvc.methods.backbone import Backbone
from fgvc.methods.recognizers.base import Recognizer
from fgvc.methods.view_shares import Share
from fgvc.model_file.architecture import Plain, build, skeleton, unfilled
from fgvc.model_file.folder import ModelFileError as ModelFileError
from fgvc.model_file.folder import Stored, Tensor, header, read, tensors, write
from fgvc.model_file.foreign_files import DESCRIPTION as DESCRIPTION
from fgvc.model_file.migrations import without_nan
from fgvc.taxonomy.readouts import OWN
from fgvc.taxonomy.tree import Taxonomy

State = dict[str, torch.Tensor]
T = TypeVar("T")
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""Names of safetensors -> those of torch."""


@dataclass
class Model:
    """Everything that predicting needs.

    recognizer: in evaluation mode.
    architecture: the plain tree it was built from.
    resize: how a photograph becomes the square it sees; for an ensemble the squares, side by side, of its members.
    temperatures: level -> what its logits are divided by before the softmax; 1 where none was fitted.
    provenance: where the model came from and how good it is, for people.
    readout: where the probabilities of an answer's lineage come from, see `fgvc.taxonomy.readouts.lineage_log_probs`.
    vouching: what was counted on held-out images, see `fgvc.confidence.vouching`; None where nothing was held out.
    """

    recognizer: Recognizer
    architecture: Plain
    resize: Shown
    temperatures: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    vouching: Vouching | None = None
    readout: str = OWN

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes."""
        return self.recognizer.taxonomy

    @property
    def views(self) -> dict[str, Share]:
        """Name of a view -> how much it counts in the answer; empty where that was not weighed."""
        return dict(self.recognizer.view_shares)


def save(model: Model, folder: str | Path) -> Path:
    """Write a model into a folder; a full disk or a kill leaves the model whole that was there before.

    Raises:
        FgvcError: the folder cannot be written.
    """
    target = Path(folder)
    state = {key: value.detach().cpu().contiguous() for key, value in model.recognizer.state_dict().items()}
    described = {
        "fgvc_version": version("fgvc"),
        "architecture": model.architecture,
        "image_size": model.recognizer.image_size,
        "input": _largest(model.resize)._asdict(),  # the ensemble in the architecture tells the others
        "taxonomy": model.taxonomy.to_plain(),
        "temperatures": model.temperatures,
        "views": {name: share._asdict() for name, share in model.views.items()},
        "readout": model.readout,
        "provenance": without_nan(model.provenance),
        "vouching": model.vouching and model.vouching.to_plain(),
    }
    write(target, described, lambda path: save_file(state, path))
    return target


def load(folder: str | Path) -> Model:
    """Read a model from a run folder or its `model` folder; never touches the network.

    Raises:
        ModelFileError: no model there, or one that is damaged, newer than this fgvc, or names what is not fgvc's.
    """
    stored = read(folder)
    described, held = stored.described, header(stored)
    counts = described["vouching"]
    try:
        taxonomy = Taxonomy.from_plain(described["taxonomy"])
        resize = EvalResize(**described["input"]).check()
        parts = described["architecture"], taxonomy, described["image_size"]
        bare = skeleton(*parts, most=len(held))
        _compare(bare.state_dict(), _needed(held, bare), stored.weights)  # before a byte of them is read
        with unfilled():
            recognizer = build(*parts, weights="none")
    except UsageError as error:
        raise ModelFileError(f"{stored.description}: {error}") from None
    _fill(recognizer, _needed(_state(stored), recognizer), stored.weights)
    recognizer.view_shares = _shares(described)
    return Model(
        recognizer.eval(),
        described["architecture"],
        recognizer.resize(resize),
        {level: float(value) for level, value in described["temperatures"].items()},
        described["provenance"],
        None if counts is None else Vouching.from_plain(counts),
        described["readout"],
    )


def read_weights(recognizer: Recognizer, folder: str | Path) -> None:
    """Fill a recognizer that was built elsewhere from the model in a folder.

    Raises:
        ModelFileError: no model there, or its classes or weights are others.
    """
    stored = read(folder)
    if Taxonomy.from_plain(stored.described["taxonomy"]) != recognizer.taxonomy:
        raise ModelFileError(
            f"{stored.home}: the model knows other classes than the data; test it on data with its classes"
        )
    _compare(recognizer.state_dict(), _needed(header(stored), recognizer), stored.weights)
    _fill(recognizer, _needed(_state(stored), recognizer), stored.weights)
    recognizer.view_shares = _shares(stored.described)


class Calibrated(NamedTuple):
    """What calibration chose for a model: temperatures by level, the readout, and the split it was chosen on or ""."""

    temperatures: dict[str, float]
    readout: str
    split: str


def read_calibration(folder: str | Path) -> Calibrated:
    """Return what calibration chose for the model in a folder.

    Raises:
        ModelFileError: no model there, or a damaged one.
    """
    described = read(folder).described
    split = described["provenance"].get("calibration", {}).get("split", "")
    temperatures = {level: float(value) for level, value in described["temperatures"].items()}
    return Calibrated(temperatures, described["readout"], split)


def read_state(folder: str | Path) -> tuple[State, Taxonomy]:
    """Return the tensors of the model in a folder by name, and its classes.

    Raises:
        ModelFileError: no model there, or a damaged one.
    """
    stored = read(folder)
    return _state(stored), Taxonomy.from_plain(stored.described["taxonomy"])


def _largest(resize: Shown) -> EvalResize:
    return max(resize.squares) if isinstance(resize, Strip) else resize


def _shares(described: Mapping[str, Any]) -> dict[str, Share]:
    return {name: Share(float(one["temperature"]), float(one["weight"])) for name, one in described["views"].items()}


def _state(stored: Stored) -> State:
    tensors(stored)  # says in words what is wrong with the file
    try:
        state: State = load_file(stored.weights)
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{stored.weights}: damaged ({error}); copy it again") from None
    except MemoryError:
        raise ModelFileError(f"{stored.weights}: this machine has no memory for it") from None
    return state


def _needed(held: Mapping[str, T], recognizer: Recognizer) -> dict[str, T]:
    """Return the tensors but those of layers that backbones no longer keep, which older files hold."""
    backbones = {f"{path}.": one for path, one in recognizer.named_modules() if isinstance(one, Backbone)}

    def is_left_out(name: str) -> bool:
        return any(name.startswith(path) and one.left_out(name[len(path) :]) for path, one in backbones.items())

    return {name: value for name, value in held.items() if not is_left_out(name)}


def _compare(own: Mapping[str, torch.Tensor], held: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that are not those of a recognizer, by their names, shapes and types.

    Args:
        own: of the recognizer.
        held: of the file, as its header has them.
        path: of the file.
    """
    odd = []
    for word, names in (("missing", own.keys() - held.keys()), ("unexpected", held.keys() - own.keys())):
        if names:
            odd.append(f"{len(names)} {word} ({min(names)}{', ...' if len(names) > 1 else ''})")
    if odd:
        raise ModelFileError(f"{path}: not the tensors of this architecture: {', '.join(odd)}")
    for name, value in own.items():
        wanted, given = str(value.dtype).removeprefix("torch."), _DTYPES.get(held[name].dtype, held[name].dtype)
        if (wanted, tuple(value.shape)) != (given, held[name].shape):
            raise ModelFileError(
                f"{path}: {name} is {given} {held[name].shape}; this architecture and these classes ask for "
                f"{wanted} {tuple(value.shape)}"
            )


def _fill(recognizer: Recognizer, state: State, path: Path) -> None:
    learnt = {name for name, _ in recognizer.named_parameters()}
    for name, value in state.items():
        counted = name in learnt or name.endswith(("running_mean", "running_var"))  # other buffers may be infinite
        if counted and not bool(value.isfinite().all()):
            odd = int((~value.isfinite()).sum())
            raise ModelFileError(
                f"{path}: {odd} of {value.numel()} numbers of {name} are NaN or infinite: its training went wrong; "
                "train again, with a lower learning rate"
            )
    recognizer.load_state_dict(state)
