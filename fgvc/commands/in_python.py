"""The commands as functions, for scripts and notebooks: `fgvc.fit`, `fgvc.validate`, `fgvc.test`, `fgvc.predict` ...

They take the words of the command line and call what it calls. Nothing here imports torch before it is needed.
"""

import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgvc.errors import UsageError
from fgvc.files import fold_tables, run_folder
from fgvc.files.lines import printable

if TYPE_CHECKING:
    from fgvc.prediction.predictor import Predictor
    from fgvc.prediction.results import Result, Results

Word = str | os.PathLike[str]

SCORES = ("validate.json", run_folder.FINAL, fold_tables.SUMMARY)
"""The files of a run folder, or of one of folds, that hold scores."""


@dataclass(frozen=True)
class TrainedRun:
    """A run that was trained or scored; it is taken wherever a path of a run is.

    folder: the run folder, `runs/NAME`.
    scored: the folder that its last scores were written into; None for the run folder.
    """

    folder: Path
    scored: Path | None = None

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def scores(self) -> dict[str, float]:
        """What is known of it, name -> number: of the validation that its model was chosen by, and of its tests.

        Raises:
            FgvcError: a damaged file.
        """
        from fgvc.model_file.folder import read

        has_model = (self.folder / run_folder.MODEL).is_dir()
        found = dict(read(self.folder).described["provenance"].get("metrics", {})) if has_model else {}
        for file in ((self.scored or self.folder) / name for name in SCORES):
            try:
                found |= json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
            except (ValueError, TypeError) as error:
                raise UsageError(f"{file}: no scores ({error}); score {self.folder} again") from None
        numbers = {name: one["mean"] if isinstance(one, dict) else one for name, one in found.items()}
        return {name: float(one) for name, one in numbers.items() if isinstance(one, int | float)}

    @property
    def report(self) -> Path:
        """The page of curves, mistakes and reliability, written anew from what the run holds now."""
        from fgvc.report.page import write_page

        return write_page(self.scored or self.folder)

    def predictor(self, device: str = "auto") -> "Predictor":
        """Return its model; see `fgvc.load`."""
        from fgvc.prediction.predictor import load

        return load(self.folder, device)

    def _repr_html_(self) -> str:
        """Return its scores as a small table, for notebooks."""
        cells = (
            f"<tr><td>{escape(printable(name))}</td><td style='text-align:right'>{one:.4f}</td></tr>"
            for name, one in self.scores.items()
        )
        return f"<p><b>{escape(printable(self.folder))}</b></p><table>{''.join(cells)}</table>"


def fit(*words: Word, **keys: Any) -> TrainedRun:
    """Train, as `fgvc fit` does: `fit("photos/apples", config="whole_image", **{"model.lr": 0.001})`.

    Args:
        words: the words of the command line. A first one that is no flag is the data: a folder of photographs, a table,
            a run or a YAML file.
        keys: `key=value` stands for `--key value`. A list for `config` gives it several times, a dict stands for the
            keys below it: `model={"lr": 0.001}` is `--model.lr 0.001`.

    Returns:
        The run; with `folds=5` the folder of the folds, whose `scores` are the means over them.

    Raises:
        UsageError: see `fgvc fit`; nothing is printed for it and the process goes on.
        FgvcError: the training failed.
    """
    from fgvc.commands.folds import fit as train

    with _in_python("fit"):
        return TrainedRun(train(words_of(words, keys)))


def validate(run: Word, *words: Word, **keys: Any) -> TrainedRun:
    """Score a run on its validation images, as `fgvc validate` does; words and errors as those of `fit`."""
    from fgvc.commands import evaluate

    typed = [os.fspath(run), *words_of(words, keys)]
    with _in_python("validate"):
        evaluate.validate(typed)
    return TrainedRun(run_folder.resolve(Path(run)), evaluate.scored_in("validate", typed))


def test(run: Word, *words: Word, **keys: Any) -> TrainedRun:
    """Score a run on its test images, as `fgvc test` does; words and errors as those of `fit`."""
    from fgvc.commands import evaluate

    typed = [os.fspath(run), *words_of(words, keys)]
    with _in_python("test"):
        evaluate.test(typed)
    return TrainedRun(run_folder.resolve(Path(run)), evaluate.scored_in("test", typed))


test.__test__ = False  # type: ignore[attr-defined] # pytest would collect it wherever it is imported


def predict(
    model: Word | Sequence[Word],
    images: Any,
    device: str = "auto",
    gallery: Word | None = None,
    neighbours: int = 5,
    **options: Any,
) -> "Result | Results":
    """Name what is in photographs.

    Args:
        model: a run folder or a model folder, or a list of them, which answer together.
        images: see `Predictor.predict`.
        device: see `fgvc.load`.
        gallery: features of photographs, of which the nearest stand beside each answer; see `Predictor.compare_with`.
        neighbours: how many.
        options: those of `Predictor.predict`.

    Returns:
        As `Predictor.predict`. Who asks more than once loads the model once, with `fgvc.load`.
    """
    from fgvc.prediction.predictor import load

    models = [model] if isinstance(model, str | os.PathLike) else model
    predictor = load([os.fspath(one) for one in models], device)
    if gallery is not None:
        predictor.compare_with(os.fspath(gallery), neighbours)
    return predictor.predict(images, **options)


def words_of(words: tuple[Word, ...], keys: Mapping[str, Any]) -> list[str]:
    """Return what would be typed.

    Raises:
        UsageError: a word that is no text.
    """
    for word in words:
        if not isinstance(word, str | os.PathLike):
            raise UsageError(f"{word!r} is no word of a command line; give text, a path, or key=value")
    return [*(os.fspath(word) for word in words), *_flags(keys)]


def _flags(keys: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in keys.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flags(value, f"{name}.")
        elif name == "config" and isinstance(value, list | tuple):
            yield from (f"--config={_typed(one)}" for one in value)
        else:
            yield f"--{name}={_typed(value)}"


def _typed(value: Any) -> str:
    """Return a value as YAML reads it from a command line."""
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    value = value.item() if hasattr(value, "item") else value  # a number of numpy
    return json.dumps(value, default=os.fspath, ensure_ascii=False) if not isinstance(value, float) else repr(value)


@contextmanager
def _in_python(command: str) -> Iterator[None]:
    """Run a command inside a program that goes on: it neither ends the process nor keeps its Ctrl-C."""
    from fgvc.config import quiet

    quiet.libraries()
    is_main = threading.current_thread() is threading.main_thread()
    former = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning's way to end
            raise KeyboardInterrupt from None
        raise UsageError(f"fgvc {command}: --help and --print_config print and end; type them in a shell") from None
    finally:
        if is_main and former is not None:
            signal.signal(signal.SIGINT, former)
