"""`fgvc validate RUN` and `fgvc test RUN`: score a run."""

import json
from pathlib import Path

from fgvc.config.run_cli import RunCLI
from fgvc.config.words import evaluation_words
from fgvc.errors import UsageError
from fgvc.files import run_folder
from fgvc.files.lines import tell
from fgvc.files.whole_files import write_text
from fgvc.model_file.model import read_calibration, read_weights
from fgvc.report.page import write_page
from fgvc.training.callbacks.bad_images import BadImages
from fgvc.training.callbacks.prediction_table import PredictionTable
from fgvc.training.callbacks.progress import print_summary
from fgvc.training.checkpoints import load_weights


def validate(words: list[str]) -> int:
    """Run `fgvc validate` and return its exit code; raises FgvcError with one line where a person has to act."""
    return _main("validate", words)


def test(words: list[str]) -> int:
    """Run `fgvc test` and return its exit code; raises FgvcError with one line where a person has to act."""
    return _main("test", words)


def _main(command: str, args: list[str]) -> int:
    words, run = evaluation_words(command, args)
    cli = RunCLI(command, words)
    if run is None and cli.config["ckpt_path"] is None:
        raise UsageError(f"fgvc {command}: give a run folder (fgvc {command} runs/NAME) or --ckpt_path with --config")
    if cli.config["trainer"]["barebones"]:
        raise UsageError(f"trainer.barebones: it counts nothing, and fgvc {command} is there to count; leave it out")
    cli.without_weights()
    cli.build()
    _read_weights(cli, command, run)
    table = PredictionTable((run or Path()) / run_folder.ANSWERS)
    callbacks = [BadImages(run or Path()), *([table] if command == "test" else [])]
    cli.build_trainer(callbacks=callbacks)
    cli.check_batches({"validate": "val"}.get(command, command))
    with cli.in_our_words():
        results = getattr(cli.trainer, command)(cli.model, datamodule=cli.datamodule, verbose=False)
    if cli.trainer.is_global_zero:
        values = {name: round(float(value), 6) for result in results for name, value in result.items()}
        _tell(cli, command, values, run, table.path)
    return 0


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


def _tell(cli: RunCLI, command: str, values: dict[str, float], run: Path | None, table: Path) -> None:
    """Print the scores, and write them into the run folder; a test also notes where its photographs lie."""
    split = {"validate": "val"}.get(command, command)
    records = cli.datamodule.records(split)
    if run:
        said = {run_folder.PHOTOGRAPHS: str(Path(records.root).absolute()), run_folder.READOUT: cli.model.readout}
        write_text(run / f"{command}.json", json.dumps(values | (said if command == "test" else {}), indent=1))
    print_summary(f"{len(records)} {split} images", values, f"{split}/")
    if command == "test":
        tell(f"every answer: {table}")
    if command == "test" and run:
        tell(f"to look at:   {write_page(run)}")
