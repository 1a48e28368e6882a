"""A trained model as two files: `model.safetensors` (numbers) and `fgvc.json` (plain data); neither runs anything."""

import json
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fgvc.architecture import Plain, build
from fgvc.errors import FgvcError, UsageError
from fgvc.images import EvalResize
from fgvc.recognizers.base import Recognizer
from fgvc.taxonomy import Taxonomy
from fgvc.vouching import Vouching

FORMAT = 2
"""1: no `vouching`. 2: the counts by which an answer can be vouched for."""
WEIGHTS, DESCRIPTION = "model.safetensors", "fgvc.json"
_KEYS = {"format", "fgvc_version", "architecture", "image_size", "input", "taxonomy", "temperatures", "provenance"}
_NEW_IN = {2: {"vouching": None}}
"""Format -> the keys that came with it, and their values in older files."""


class ModelFileError(FgvcError):
    """A folder that holds no model we can read; the message names the file and says what was found."""


@dataclass
class Model:
    """Everything that predicting needs.

    recognizer: in evaluation mode.
    architecture: the plain tree it was built from.
    resize: how a photograph becomes the square it sees.
    temperatures: level -> what its logits are divided by before the softmax; 1 where none was fitted.
    provenance: where the model came from and how good it is, for people.
    vouching: what was counted on held-out images, see `fgvc.vouching`; None where nothing was held out.
    """

    recognizer: Recognizer
    architecture: Plain
    resize: EvalResize
    temperatures: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    vouching: Vouching | None = None

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes."""
        return self.recognizer.taxonomy


def save(model: Model, folder: str | Path) -> Path:
    """Write a model into a folder, each file under a temporary name first.

    Raises:
        FgvcError: the folder cannot be written.
    """
    target = Path(folder)
    state = {key: value.detach().cpu().contiguous() for key, value in model.recognizer.state_dict().items()}
    described = {
        "format": FORMAT,
        "fgvc_version": version("fgvc"),
        "architecture": model.architecture,
        "image_size": model.recognizer.image_size,
        "input": model.resize._asdict(),
        "taxonomy": model.taxonomy.to_plain(),
        "temperatures": model.temperatures,
        "provenance": model.provenance,
        "vouching": model.vouching and model.vouching.to_plain(),
    }
    try:
        target.mkdir(parents=True, exist_ok=True)
        save_file(state, target / f".{WEIGHTS}")
        text = json.dumps(described, indent=1, ensure_ascii=False)
        (target / f".{DESCRIPTION}").write_text(text, encoding="utf-8", errors="surrogateescape")  # names of folders
        for name in (WEIGHTS, DESCRIPTION):
            (target / f".{name}").replace(target / name)
    except (OSError, SafetensorError) as error:
        raise FgvcError(f"{target}: the model cannot be written ({error})") from None
    return target


def load(folder: str | Path) -> Model:
    """Read a model from a run folder or its `model` folder; never touches the network.

    Raises:
        ModelFileError: no model there, or one that is damaged, newer than this fgvc, or not fgvc's.
        UsageError: its architecture names something that is not fgvc's.
    """
    home = _home(Path(folder))
    described = _described(home / DESCRIPTION)
    try:
        taxonomy = Taxonomy.from_plain(described["taxonomy"])
        resize = EvalResize(**described["input"]).check()
        temperatures = {level: float(value) for level, value in described["temperatures"].items()}
        counts = described["vouching"]
        vouching = None if counts is None else Vouching.from_plain(counts)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise ModelFileError(f"{home / DESCRIPTION}: damaged ({error!r}); copy it again") from None
    recognizer = build(described["architecture"], taxonomy, described["image_size"], weights="none")
    _fill(recognizer, home / WEIGHTS)
    return Model(recognizer.eval(), described["architecture"], resize, temperatures, described["provenance"], vouching)


def read_weights(recognizer: Recognizer, folder: str | Path) -> None:
    """Fill a recognizer that was built elsewhere from the model in a folder.

    Raises:
        ModelFileError: no model there, or its classes or weights are others.
    """
    home = _home(Path(folder))
    if Taxonomy.from_plain(_described(home / DESCRIPTION)["taxonomy"]) != recognizer.taxonomy:
        raise ModelFileError(f"{home}: the model knows other classes than the data; test it on data with its classes")
    _fill(recognizer, home / WEIGHTS)


def read_temperatures(folder: str | Path) -> tuple[dict[str, float], str]:
    """Return level -> temperature of the model in a folder, and the split they were fitted on, "" where none.

    Raises:
        ModelFileError: no model there, or a damaged one.
    """
    path = _home(Path(folder)) / DESCRIPTION
    try:
        described = _described(path)
        split = str(described["provenance"].get("calibration", {}).get("split", ""))
        return {level: float(value) for level, value in described["temperatures"].items()}, split
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{path}: damaged ({error!r}); copy it again") from None


def read_state(folder: str | Path) -> tuple[dict[str, torch.Tensor], Taxonomy]:
    """Return the tensors of the model in a folder by name, and its classes.

    Raises:
        ModelFileError: no model there, or a damaged one.
    """
    home = _home(Path(folder))
    taxonomy = Taxonomy.from_plain(_described(home / DESCRIPTION)["taxonomy"])
    return _state(home / WEIGHTS), taxonomy


def _home(folder: Path) -> Path:
    for candidate in (folder, folder / "model"):
        if (candidate / DESCRIPTION).is_file():
            return candidate
    raise ModelFileError(f"{folder}: no model here (no {DESCRIPTION}); give a run folder or the model folder inside it")


def _described(path: Path) -> dict[str, Any]:
    try:
        described = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: damaged ({error}); copy it again") from None
    if not isinstance(described, dict) or not isinstance(described.get("format"), int):
        raise ModelFileError(f"{path}: not an fgvc model description")
    if described["format"] > FORMAT:
        raise ModelFileError(
            f"{path}: format {described['format']} is newer than this fgvc reads ({FORMAT}); update fgvc"
        )
    wanted = _KEYS.union(*_NEW_IN.values())
    for number, keys in _NEW_IN.items():
        if described["format"] < number:
            described = {**keys, **described}
    if set(described) != wanted:
        odd = sorted(set(described) ^ wanted)
        raise ModelFileError(f"{path}: keys missing or unknown: {odd}; copy it again or save it with this version")
    return described


def _fill(recognizer: Recognizer, path: Path) -> None:
    state = _state(path)
    try:
        recognizer.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelFileError(f"{path}: does not belong to {DESCRIPTION} beside it ({reason})") from None


def _state(path: Path) -> dict[str, torch.Tensor]:
    try:
        state: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{path}: damaged or missing ({error}); copy it again") from None
    return state
