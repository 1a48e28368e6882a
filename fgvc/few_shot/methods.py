"""Which few-shot classifiers are asked for: by stem, YAML file or run, made for features of a given width."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from fgvc.errors import UsageError, did_you_mean
from fgvc.files import run_folder
from fgvc.files.lines import quoted
from fgvc.files.shipped import config_stems
from fgvc.methods.few_shot.base import FewShotClassifier
from fgvc.model_file.architecture import factory
from fgvc.model_file.model import load

Transform = Literal["raw", "l2", "cl2n"]


@dataclass(frozen=True)
class Method:
    """A classifier and what is done to vectors before it sees them.

    name: as it stands in tables.
    features: `raw`; `l2`, each vector has length 1; `cl2n`, the mean of the base classes is taken off before.
    plain: the classifier as a model file describes it.
    make: makes the classifier from D or C.
    is_trained: whether it has the weights of a run.
    """

    name: str
    features: Transform
    plain: dict[str, Any]
    make: Callable[[int], FewShotClassifier]
    is_trained: bool = False


def shipped() -> dict[str, Path]:
    """Return stem -> YAML of every few-shot classifier that comes with fgvc."""
    return {stem: path for stem, path in config_stems().items() if path.parent.name == "few_shot"}


def method(word: str) -> Method:
    """Return the method that a stem, a YAML file or the folder of a run names.

    Raises:
        UsageError: no such method, a file that describes none, or a run that was not trained on episodes.
    """
    path = run_folder.followed(Path(word))
    if path.is_dir():
        return _of_run(path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        known = shipped()
        if word not in known:
            near = did_you_mean(word, known)
            raise UsageError(f"--method {word}: no such few-shot method{near}; there are {', '.join(known)}")
        path = known[word]
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--method {word}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"--method {word}: no YAML ({' '.join(str(error).split())[:200]})") from None
    return _method(path.stem, plain, str(word))


def _of_run(folder: Path) -> Method:
    """Return the classifier of a run that was trained on episodes, with its weights."""
    model = load(folder)
    trained = getattr(model.recognizer, "classifier", None)
    if not isinstance(trained, FewShotClassifier):
        kind = type(model.recognizer).__name__
        raise UsageError(f"--method {folder}: a {kind}, which was not trained on episodes; give a stem or a YAML file")

    def make(in_channels: int) -> FewShotClassifier:
        """Return a copy with the weights of the run; raises UsageError for features of another width."""
        if in_channels != trained.in_channels:
            raise UsageError(
                f"--method {folder}: it takes {trained.in_channels} numbers or channels, and these features have "
                f"{in_channels}; embed the photographs with this run: fgvc embed {quoted(folder)} DATA"
            )
        return deepcopy(trained)

    name = folder.resolve().parent.name if folder.resolve().name == run_folder.MODEL else folder.resolve().name
    return Method(name, "raw", model.architecture["init_args"].get("classifier", {}), make, is_trained=True)


def _method(name: str, plain: Any, where: str) -> Method:
    if not isinstance(plain, dict) or "classifier" not in plain or plain.keys() - {"classifier", "features"}:
        raise UsageError(f"--method {where}: it holds the keys classifier (class_path, init_args) and features")
    transform = plain.get("features", "raw")
    if transform not in get_args(Transform):
        raise UsageError(f"--method {where}: features: {transform!r}; give one of {', '.join(get_args(Transform))}")
    make = factory(plain["classifier"], f"{where}: classifier")
    if not (isinstance(make.func, type) and issubclass(make.func, FewShotClassifier)):
        kind = plain["classifier"]["class_path"]
        raise UsageError(f"--method {where}: classifier: {kind} is no few-shot classifier")
    return Method(name, transform, plain["classifier"], make)
