"""`fgvc fit`, and with `--folds K` K runs, each trained without a part of the training images, and their answers."""

import json
import shutil
from pathlib import Path

import numpy as np

from fgvc.commands import evaluate
from fgvc.commands import fit as one_run
from fgvc.confidence.vouching import best_precision, count, summarise, threshold
from fgvc.config.own_data import from_data
from fgvc.config.run_cli import RunCLI
from fgvc.config.words import fit_words, given
from fgvc.errors import StoppedError, UsageError
from fgvc.files import fold_tables, run_folder
from fgvc.files.answer_table import read_answers
from fgvc.files.lines import tell
from fgvc.files.whole_files import write_text
from fgvc.model_file.folder import read
from fgvc.training import processes

STATE = "folds.json"
"""The file of the folder of folds that holds their number and the words that they are trained with."""


def main(words: list[str]) -> int:
    """Run the command and return its exit code."""
    fit(words)
    return 0


def fit(words: list[str]) -> Path:
    """Train one run, or the runs of all folds, and return the folder.

    Folds that are done are kept: the same command, or `--resume FOLDER`, goes on where it was stopped.

    Raises:
        FgvcError: see `fgvc.commands.fit`.
        UsageError: no number of folds, or a folder of other folds.
    """
    resume, asked = next(given(words, "--resume"), None), next(given(words, "--folds"), None)
    if resume is not None and resume.value is not None and (Path(resume.value) / STATE).is_file():
        if len(words) > len(words[resume.place]):
            raise UsageError("--resume: folds go on with the words that they were begun with; give no others")
        folds, stored = _read(Path(resume.value) / STATE)
        return _all(Path(resume.value), folds, stored)
    if asked is None:
        return one_run.fit(words)
    rest = [*words[: asked.place.start], *words[asked.place.stop :]]
    if resume is not None:
        raise UsageError("--folds: goes with no --resume RUN; give --resume the folder of all folds")
    if not str(asked.value).isdecimal() or int(str(asked.value)) < 2:
        raise UsageError(f"--folds {asked.value}: give a number of 2 or more, e.g. --folds 5")
    rest = from_data(rest).words
    cli = RunCLI("fit", fit_words(rest).words)
    if processes.are_several(cli.config["trainer"]):
        raise UsageError("--folds: one process trains the folds in turn; give --trainer.devices 1")
    folder = Path(cli.config["runs"], cli.config["name"])
    for flag in reversed(list(given(rest, "--overwrite"))):
        del rest[flag.place]
    _claim(folder, int(str(asked.value)), rest, cli.config["overwrite"])
    return _all(folder, int(str(asked.value)), rest)


def _claim(folder: Path, folds: int, words: list[str], overwrite: bool) -> None:
    """Note what is trained; refuse a folder of something else."""
    state = folder / STATE
    if overwrite and state.is_file():
        shutil.rmtree(folder)
    elif (folder / "fold1").exists() and state.is_file() and _read(state) != (folds, words):
        raise UsageError(f"{folder}: folds of other words lie there; choose another --name, or give --overwrite true")
    elif not state.is_file() and folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: a run or something else lies there; choose another --name")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(state, json.dumps({"folds": folds, "words": words}, indent=1))


def _read(state: Path) -> tuple[int, list[str]]:
    try:
        stored = json.loads(state.read_text(encoding="utf-8"))
        return int(stored["folds"]), [str(word) for word in stored["words"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{state}: damaged ({error}); train again under another --name") from None


def _all(folder: Path, folds: int, words: list[str]) -> Path:
    runs = [folder / f"fold{number}" for number in range(1, folds + 1)]
    try:
        for number, run in enumerate(runs, start=1):
            tell(f"\nfold {number} of {folds}: {run}")
            _one(run, [*words, "--data.folds", str(folds), "--data.fold", str(number)])
    except StoppedError as error:
        raise StoppedError(f"{error}; all folds: fgvc fit --resume {folder}", error.exit_code - 128) from None
    images = fold_tables.join(runs, folder)
    tell(f"\n{images} training images, each answered by a run that was trained without it ({folds} folds)")
    for name, score in fold_tables.summarise(runs, folder).items():
        if name.count("/") == 2 and name.endswith("/top1"):
            spread = f"{100 * score.mean:.2f} % +- {100 * score.std:.2f} (standard deviation over folds)"
            tell(f"  {name.removeprefix('test/'):<40} {spread}")
    tell(prospect(folder / fold_tables.TABLE))
    tell(f"every answer: {folder / fold_tables.TABLE}\nevery score:  {folder / fold_tables.SUMMARY}")
    return folder


def prospect(table: Path) -> str:
    """Return what could be vouched for if every training image counts once, by the run that did not see it."""
    answers = read_answers(table)
    if answers.lineage is None or not answers.known.any():
        return "nothing can be vouched for: no image has a known class"
    scores, correct = np.nan_to_num(answers.lineage[answers.known]), (answers.truth == answers.answer)[answers.known]
    first = np.arange(len(scores)) % 2 == 0
    counts = count(scores[~first], correct[~first], count(scores[first], correct[first]))
    if (best := best_precision(counts)) is None or (least := threshold(counts, best)) is None:
        return f"nothing can be vouched for yet ({len(scores)} images counted over the folds)"
    share = summarise(scores, correct, least).coverage
    return (
        f"over the folds {len(scores)} images count: answers can be vouched for up to a precision of {best:g}, of "
        f"{share:.0%} of the images; a model that is trained on all of them is another one, so for it this is a plan"
    )


def _one(run: Path, words: list[str]) -> None:
    """Train a fold and answer what it was not trained on, as far as that is not done."""
    if (run / run_folder.ANSWERS).is_file() and (run / run_folder.FINAL).is_file():
        return
    model = run / run_folder.MODEL
    if model.is_dir() and "calibration" not in read(run).described["provenance"]:  # stopped between the two savings
        shutil.rmtree(model)
    if not model.is_dir():
        begun = ["--resume", str(run)]
        anew = [*words, "--runs", str(run.parent), "--name", run.name, "--overwrite", "true"]
        one_run.fit(begun if run_folder.last(run).is_file() else anew)
    evaluate.test([str(run)])
