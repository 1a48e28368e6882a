"""`fgvc validate RUN` and `fgvc test RUN`: score a run; and several runs or models that answer together."""

import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from fgvc.config.other_data import OtherData, asked_for
from fgvc.config.run_cli import RunCLI
from fgvc.config.words import evaluation_words
from fgvc.errors import UsageError
from fgvc.files import run_folder
from fgvc.files.answer_table import Answers, read_answers
from fgvc.files.lines import tell
from fgvc.files.run_folder import followed
from fgvc.files.whole_files import write_text
from fgvc.model_file.ensembles import load_many, names_of
from fgvc.model_file.folder import is_model
from fgvc.model_file.foreign_files import no_model_at
from fgvc.model_file.model import read_calibration, read_weights
from fgvc.report.class_tables import absent, macro_scores, write_tables
from fgvc.report.page import write_page
from fgvc.training import tta
from fgvc.training.callbacks.bad_images import BadImages
from fgvc.training.callbacks.prediction_table import PredictionTable
from fgvc.training.callbacks.progress import print_summary
from fgvc.training.checkpoints import load_weights

LONGEST = 100
"""Letters of the name of a folder."""
NAMED = 5
"""How many classes without test images are named."""


def validate(words: list[str]) -> int:
    """Run `fgvc validate` and return its exit code; raises FgvcError with one line where a person has to act."""
    return _main("validate", words)


def test(words: list[str]) -> int:
    """Run `fgvc test` and return its exit code; raises FgvcError with one line where a person has to act."""
    return _main("test", words)


def _main(command: str, args: list[str]) -> int:
    members, args = together_with(args)
    other, args = asked_for(command, args)
    words, run = evaluation_words(command, args)
    cli = RunCLI(command, words)
    if run is None and cli.config["ckpt_path"] is None:
        raise UsageError(f"fgvc {command}: give a run folder (fgvc {command} runs/NAME) or --ckpt_path with --config")
    if cli.config["trainer"]["barebones"]:
        raise UsageError(f"trainer.barebones: it counts nothing, and fgvc {command} is there to count; leave it out")
    cli.without_weights()
    if other and cli.config["data"]["episodes"]:
        raise UsageError("--data: this run is tested on episodes of its own test split; leave --data out")
    if other:
        other.build(cli)
    else:
        cli.build()
    if members:
        _answer_together(cli, members)
    else:
        _read_weights(cli, command, run)
    folder = _place(run, members, other)
    folder.mkdir(exist_ok=True)
    if command == "test" and cli.model.hparams["tta"]:
        tell(tta.cost(cli.model.hparams["tta"]))
    table = PredictionTable(folder / run_folder.ANSWERS)
    answers_images = command == "test" and cli.model.scores_classes
    callbacks = [BadImages(folder), *([table] if answers_images else [])]
    cli.build_trainer(callbacks=callbacks)
    cli.check_batches({"validate": "val"}.get(command, command))
    with cli.in_our_words():
        results = getattr(cli.trainer, command)(cli.model, datamodule=cli.datamodule, verbose=False)
    if cli.trainer.is_global_zero:
        values = {name: round(float(value), 6) for result in results for name, value in result.items()}
        answers = read_answers(table.path) if answers_images else None
        if answers is not None:
            values = _with_macro(values, macro_scores(answers))
        _tell(cli, command, values, run and folder)
        if answers is not None:
            _tell_tables(cli, answers, folder, bool(run) and not members)
    return 0


def together_with(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the models that leading words name where there are several, and the words without all but the first.

    Raises:
        UsageError: a second word that is no flag and no model.
    """
    count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    if count < 2:
        return [], list(words)
    for word in words[1:count]:
        if not is_model(word):
            hint = "; other photographs are --data FOLDER"
            raise UsageError(f"{no_model_at(followed(Path(word)))}{hint}")
    return [Path(word) for word in words[:count]], [words[0], *words[count:]]


def scored_in(command: str, words: Sequence[str]) -> Path | None:
    """Return the folder that scores are written into, where it is not the run's own."""
    members, rest = together_with(words)
    other, _ = asked_for(command, rest)
    return _place(run_folder.resolve(Path(rest[0])), members, other) if members or other else None


def _place(run: Path | None, members: Sequence[Path], other: OtherData | None) -> Path:
    if run is None or not members:
        return other.folder if other else run or Path()
    named = "_".join(names_of(members)[1:])
    if len(named) > LONGEST:
        named = f"{len(members) - 1}_{blake2b(named.encode(), digest_size=4).hexdigest()}"
    return run / f"with_{named}{f'_{other.folder.name}' if other else ''}"


def _answer_together(cli: RunCLI, members: Sequence[Path]) -> None:
    """Put the ensemble of some models in the place of the run's own."""
    found = load_many(members)
    if found.taxonomy != cli.datamodule.taxonomy:
        raise UsageError(f"{members[0]}: the model knows other classes than the data; test it on data with its classes")
    cli.model.recognizer = found.recognizer
    cli.datamodule.show(found.resize)
    tell(f"{len(members)} models answer together, each counting alike; they run one after the other")


def _read_weights(cli: RunCLI, command: str, run: Path | None) -> None:
    """Fill the model: from the checkpoint that was given, else from the run's model, else from its checkpoint."""
    if cli.config["ckpt_path"]:
        load_weights(cli.model.recognizer, cli.config["ckpt_path"])
    elif run and (run / run_folder.MODEL).is_dir():
        read_weights(cli.model.recognizer, run)
        cli.model.temperatures, cli.model.readout, fitted_on = read_calibration(run)
        if command == fitted_on:
            tell(f"the temperatures were fitted on {command} images: {command}/ece is no news")
    elif run:
        load_weights(cli.model.recognizer, run_folder.checkpoint(run))


def _with_macro(values: dict[str, float], macro: dict[str, float]) -> dict[str, float]:
    """Return the scores with `macro_precision` and `macro_f1` behind the `mean_per_class` of each level."""
    told: dict[str, float] = {}
    for name, value in values.items():
        told[name] = value
        level = name.removeprefix("test/").removesuffix("/mean_per_class")
        found = ((one, macro.get(f"{level}/{one}")) for one in ("macro_precision", "macro_f1"))
        if name.endswith("/mean_per_class"):
            told |= {f"test/{level}/{one}": round(score, 6) for one, score in found if score is not None}
    return told


def _tell(cli: RunCLI, command: str, values: dict[str, float], folder: Path | None) -> None:
    """Print the scores, and write them into a folder; a test also notes where its photographs lie."""
    split = {"validate": "val"}.get(command, command)
    records = cli.datamodule.records(split)
    if folder:
        said = {run_folder.PHOTOGRAPHS: str(Path(records.root).absolute()), run_folder.READOUT: cli.model.readout}
        write_text(folder / f"{command}.json", json.dumps(values | (said if command == "test" else {}), indent=1))
    episodes = cli.datamodule.episodes
    title = f"{len(records)} {split} images"
    print_summary(f"{title}, {episodes.kind(split)}" if episodes else title, values, f"{split}/")


def _training_images(data: Any) -> dict[str, list[int]]:
    """Return level -> training images of its classes; empty where the data have none, as data to test on."""
    counts, taxonomy = data.class_counts, data.taxonomy
    if not bool(counts.any()):
        return {}
    leaves = torch.arange(taxonomy.num_classes)
    places = ((level, taxonomy.targets(leaves, level)) for level in taxonomy.levels)
    return {
        level: torch.zeros(taxonomy.size(level), dtype=counts.dtype).index_add(0, place, counts).tolist()
        for level, place in places
    }


def _tell_tables(cli: RunCLI, answers: Answers, folder: Path, of_run: bool) -> None:
    """Write the tables of classes and the report, and say where they lie and which classes were not tested."""
    taxonomy = cli.datamodule.taxonomy
    classes = {level: taxonomy.unique_names(level) for level in taxonomy.levels}
    missing = absent(answers, classes)
    if missing:
        names = ", ".join(missing[:NAMED]) + (", ..." if len(missing) > NAMED else "")
        leaf = f"{len(missing)} of {taxonomy.num_classes} classes of level {taxonomy.leaf_level}"
        tell(f"{leaf} have no test image and count in no mean over classes: {names}")
    tell(f"every answer: {folder / run_folder.ANSWERS}")
    per_class, pairs = write_tables(folder, answers, classes, _training_images(cli.datamodule))
    tell(f"every class:  {per_class} (precision, recall, F1), {pairs} (confusion matrix)")
    if of_run:
        tell(f"to look at:   {write_page(folder)}")
