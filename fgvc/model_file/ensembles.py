"""Several models as one: an ensemble of them, in memory or as the two files of a model."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fgvc.errors import UsageError
from fgvc.files.run_folder import followed
from fgvc.images.resizing import EvalResize
from fgvc.methods.recognizers.base import Recognizer
from fgvc.methods.recognizers.ensemble import Ensemble
from fgvc.model_file.folder import read, sha256
from fgvc.model_file.model import Model, load
from fgvc.taxonomy.tree import Taxonomy

MOST = 100
"""Members of an ensemble."""


def load_many(folders: Sequence[Path], weights: Sequence[float] | None = None) -> Model:
    """Read several models as one that answers with the weighted mean of their calibrated probabilities.

    Args:
        folders: of runs or models.
        weights: of the models; None for equal ones.

    Raises:
        ModelFileError: no model at a path, or a damaged one.
        UsageError: the models know other classes, or one of them is an ensemble itself.
    """
    if not 2 <= len(folders) <= MOST:
        raise UsageError(f"an ensemble has 2 to {MOST} members, not {len(folders)}")
    return together([load(folder) for folder in folders], folders, weights)


def together(models: Sequence[Model], folders: Sequence[Path], weights: Sequence[float] | None = None) -> Model:
    """Return models as one; they stay as they are and share their tensors with it.

    Args:
        models: at least one.
        folders: where each lies, for names and messages.
        weights: of the models; None for equal ones.

    Raises:
        UsageError: the models know other classes, or one of them is an ensemble itself.
    """
    for model, folder in zip(models, folders, strict=True):
        if isinstance(model.recognizer, Ensemble):
            raise UsageError(f"{folder}: an ensemble already; give its members in its place")
        check_same_classes(models[0].taxonomy, model.taxonomy, folders[0], folder)
    arguments: dict[str, Any] = {
        "image_sizes": [one.recognizer.image_size for one in models],
        "inputs": [one.resize._asdict() for one in models],
        "names": names_of(folders),
        "weights": None if weights is None else [round(float(share), 6) for share in weights],
        "temperatures": [dict(one.temperatures) for one in models],
        "readouts": [one.readout for one in models],
        "shares": [{name: list(share) for name, share in one.views.items()} for one in models],
    }
    side = max(arguments["image_sizes"])
    made = Ensemble(models[0].taxonomy, side, [_already(one.recognizer) for one in models], **arguments).eval()
    architecture = {
        "class_path": Ensemble.__name__,
        "init_args": {"members": [one.architecture for one in models], **arguments},
    }
    told = {"members": [_told(folder, model) for folder, model in zip(folders, models, strict=True)]}
    return Model(made, architecture, made.resize(EvalResize(side)), {}, told)


def check_same_classes(one: Taxonomy, other: Taxonomy, first: Path, second: Path) -> None:
    """Refuse two models with other classes; names the first difference.

    The same classes in another order are refused too: parts of a network may hang on the order.

    Raises:
        UsageError: they differ.
    """
    if one == other:
        return
    if one.levels != other.levels:
        raise UsageError(f"{second}: has the levels {', '.join(other.levels)}; {first} has {', '.join(one.levels)}")
    ours, theirs = ([" > ".join(path) for path in tree.to_plain()["leaves"]] for tree in (one, other))
    if lacking := next((path for path in ours if path not in set(theirs)), None):
        raise UsageError(f"{second}: does not know the class {lacking!r} of {first}; give models of the same classes")
    if further := next((path for path in theirs if path not in set(ours)), None):
        raise UsageError(
            f"{second}: knows the class {further!r}, which {first} does not; give models of the same classes"
        )
    place = next(i for i, path in enumerate(ours) if path != theirs[i])
    raise UsageError(
        f"{second}: the same classes in another order: class {place} is {theirs[place]!r} there and {ours[place]!r} in "
        f"{first}; train both with the same table of classes"
    )


def names_of(folders: Sequence[Path]) -> list[str]:
    """Return a name for each model, that of its run, with a number where another one has it already."""
    names: list[str] = []
    for folder in folders:
        home = followed(folder).resolve()
        name = re.sub(r"[^\w.+-]+", "_", home.parent.name if home.name == "model" else home.name)[:150] or "model"
        number, free = 2, name
        while free in names:
            free, number = f"{name}_{number}", number + 1
        names.append(free)
    return names


def _already(recognizer: Recognizer) -> Any:
    def made(taxonomy: Taxonomy, image_size: int) -> Recognizer:
        return recognizer

    return made


def _told(folder: Path, model: Model) -> dict[str, Any]:
    """Return what people are told of a member."""
    known: dict[str, Any] = {
        key: model.provenance[key] for key in ("run", "checkpoint", "metrics") if key in model.provenance
    }
    return {"path": str(folder), "weights_sha256": sha256(read(folder)), **known}
