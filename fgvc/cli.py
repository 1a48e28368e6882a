"""`fgvc fit | validate | test`: a config becomes a run."""

import json
import sys
from pathlib import Path
from typing import Any

import jsonargparse
import pytorch_lightning as pl
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

import fgvc.attention
import fgvc.data
import fgvc.heads
import fgvc.pooling
import fgvc.recognizers  # noqa: F401 - the slot folders import their own modules: short names work in YAML
from fgvc import quiet
from fgvc.architecture import known_classes, to_plain
from fgvc.config_errors import check_file, in_one_line
from fgvc.data.base import DataSource
from fgvc.data.datamodule import FineGrainedData
from fgvc.errors import FgvcError, UsageError
from fgvc.model_file import Model, read_temperatures, read_weights, save
from fgvc.report_command import write_page
from fgvc.shipped import config_file
from fgvc.training import callbacks, processes, run_folder
from fgvc.training.calibration import calibrate, collected
from fgvc.training.checkpoints import load_weights
from fgvc.training.module import FineGrainedModule
from fgvc.training.phases import Phase
from fgvc.training.prediction_table import PredictionTable
from fgvc.training.progress import print_summary
from fgvc.training.warm_start import find, init_from


class RunCLI(LightningCLI):
    """LightningCLI without sub-commands: it parses and builds; what is then run is decided in `main`.

    Without sub-commands Lightning never lets the hyper-parameters of a checkpoint overrule what the user typed.

    Args:
        command: fit, validate or test.
        args: the words after it.
    """

    def __init__(self, command: str, args: list[str]) -> None:
        self.command = command
        super().__init__(
            FineGrainedModule,
            FineGrainedData,
            save_config_callback=None,
            seed_everything_default=0,
            args=args,
            run=False,
            auto_configure_optimizers=False,
            trainer_defaults={"max_epochs": 10, "use_distributed_sampler": False, "log_every_n_steps": 10},
            parser_kwargs={
                "prog": f"fgvc {command}",
                "description": __doc__,
                "exit_on_error": False,
                "allow_abbrev": False,  # a key cut short is a misspelt key
            },
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the words, whatever the process itself was started with; raises UsageError with one line."""
        try:
            self.config = parser.parse_args(args)
        except jsonargparse.ArgumentError as error:
            classes = [*known_classes(), *(source.__name__ for source in DataSource.__subclasses__())]
            raise UsageError(in_one_line(error, [action.dest for action in parser._actions], classes)) from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what belongs to a run, and say which numbers follow from others."""
        parser.add_argument("--name", type=str | None, default=None, help="the run; by default the configs' stems")
        parser.add_argument("--runs", type=str, default="runs", help="the folder of all runs")
        parser.add_argument("--overwrite", type=bool, default=False, help="replace a run of the same name")
        parser.add_argument("--ema", type=float, default=0.0, help="largest decay of averaged weights; 0 for none")
        parser.add_argument("--phases", type=list[Phase] | None, default=None, help="stages; see PhaseSchedule")
        parser.add_argument("--cycle_phases", type=bool, default=False, help="start again after the last phase")
        start = "a run or model folder, also of another method: start from its weights in place of pretrained ones"
        parser.add_argument("--init_from", type=str | None, default=None, help=start)
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="a checkpoint to validate or test")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "model.seed", compute_fn=int)
        parser.link_arguments("model.image_size", "data.image_size")
        parser.link_arguments("data.taxonomy", "model.taxonomy", apply_on="instantiate")
        parser.link_arguments("data.class_counts", "model.class_counts", apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        """Refuse a taken name before any work; a model that is read from a file asks for no pretrained weights."""
        self.kept, start = self.config.clone(), self.config["init_from"]
        if self.command == "fit":
            self.folder = Path(self.config["runs"], self.config["name"])
            if processes.is_first():
                run_folder.check(self.folder, self.config["overwrite"])
                self.kept["init_from"] = start and str(find(start))  # `latest` will soon be this run
            self.bare = bool(start) and _without_weights(self.config["model"], "pretrained")
        else:
            _without_weights(self.config["model"])

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Make the trainer, and the run folder it writes into now that data, model and trainer stand."""
        if self.command == "fit":
            self.datamodule.train_dataloader()  # too few images for a batch: say so before anything is written
            if start := self.kept["init_from"] if processes.is_first() else None:  # DDP tells the others
                print(f"start from {start}: {init_from(self.model.recognizer, start, self.bare)}", file=sys.stderr)
        wanted = self.config_init["trainer"]
        if wanted.get("logger") is None:
            kwargs["logger"] = callbacks.loggers(self.folder) if self.command == "fit" else False
        if self.config["phases"] and processes.are_several(wanted):
            kwargs["strategy"] = "ddp_find_unused_parameters_true"
        kwargs["callbacks"] = [*(wanted.get("callbacks") or []), *callbacks.watching()]
        if self.command == "fit":
            own, data = self.config, self.datamodule
            stages = (self.config_init["phases"], self.config_init["cycle_phases"])
            monitor = f"val/{data.taxonomy.leaf_level}/top1" if "val" in data.splits else None
            kwargs["callbacks"] += callbacks.training(self.folder, *stages, own["ema"], monitor)
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise UsageError(f"trainer: {' '.join(str(error).split())}") from None
        if self.command == "fit" and processes.is_first():
            self.kept["overwrite"] = False  # whoever repeats the run from its config has not asked for that
            run_folder.create(self.folder, self.parser.dump(self.kept, skip_link_targets=True, skip_none=False))
        return trainer


def main(command: str, args: list[str]) -> int:
    """Run one of the three commands; raises FgvcError with one line where a person has to act."""
    quiet.libraries()
    sys.path.append(str(Path.cwd()))  # classes of the user's own, as `python -m fgvc` finds them
    words, run = _expand(command, args)
    cli = RunCLI(command, words)
    if command == "fit":
        _fit(cli)
    else:
        _evaluate(cli, command, run)
    return 0


def _expand(command: str, args: list[str]) -> tuple[list[str], Path | None]:
    """Replace config stems by paths, give the run a name, and read `fgvc test RUN` as that run's config."""
    words, run, stems = list(args), None, []
    if command != "fit" and words and not words[0].startswith("-"):
        run = run_folder.resolve(Path(words.pop(0)))
        words = ["--config", str(run / run_folder.CONFIG), *words]
    elif command != "fit" and not words:
        raise UsageError(f"fgvc {command}: give a run folder, e.g. fgvc {command} runs/latest")
    for i, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag in ("--config", "-c") and (equals or i + 1 < len(words)):
            path = check_file(config_file(value if equals else words[i + 1]))
            stems.append(path.stem)
            words[i if equals else i + 1] = f"{flag}={path}" if equals else str(path)
    if command == "fit" and not any(word.partition("=")[0] == "--name" for word in words):
        words = ["--name", "-".join(stems) or "run", *words]
    return words, run


def _fit(cli: RunCLI) -> None:
    try:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    except FgvcError:
        if cli.trainer.is_global_zero and cli.trainer.global_step == 0:
            run_folder.discard(cli.folder)
        raise
    if not cli.trainer.is_global_zero:
        return
    chosen = run_folder.checkpoint(cli.folder)
    values = {name: round(float(value), 6) for name, value in cli.trainer.callback_metrics.items()}
    try:
        architecture = to_plain(cli.config["model"]["recognizer"].as_dict())
    except UsageError as error:
        print(f"no model file: {error}; {chosen} holds the whole training state", file=sys.stderr)
        return
    load_weights(cli.model.recognizer, chosen)
    best = callbacks.best_of(cli.trainer)
    provenance = {
        "run": cli.config["name"],
        "checkpoint": chosen.name,
        "metrics": best or values,
        **run_folder.environment(),
    }
    model = Model(cli.model.recognizer.eval(), architecture, cli.datamodule.resize, {}, provenance)
    path = save(model, cli.folder / run_folder.MODEL)  # at once: the calibration reads images, which may fail
    told = ""
    if "val" in cli.datamodule.splits:
        try:
            told = calibrated(cli, model, "val")
            save(model, path)
        except FgvcError as error:
            told = f"not calibrated ({error}); mend it and run fgvc calibrate {cli.folder}\n"
    print_summary(f"trained {cli.trainer.current_epoch} epochs", values, "val/")
    print(f"{told}model: {path}", file=sys.stderr)
    print(f"next:  fgvc test {cli.folder}\n       fgvc predict {cli.folder} PHOTO...", file=sys.stderr)


def calibrated(cli: RunCLI, model: Model, split: str) -> str:
    """Fit temperatures and counts of a model on a split of its data, and say in a line what that changed."""
    logits, labels = collected(model.recognizer, cli.datamodule, split, cli.trainer.strategy.root_device)
    found = calibrate(logits, labels, model.taxonomy)
    model.temperatures, model.vouching = found.temperatures, found.vouching
    model.provenance["calibration"] = found.to_plain(split)
    leaf = model.taxonomy.leaf_level
    before, after = found.ece_before[leaf], found.ece_after[leaf]
    return f"calibrated on {found.images} {split} images: {leaf} calibration error {before:.3f} -> {after:.3f}\n"


def _evaluate(cli: RunCLI, command: str, run: Path | None) -> None:
    if run is None and cli.config["ckpt_path"] is None:
        raise UsageError(f"fgvc {command}: give a run folder (fgvc {command} runs/NAME) or --ckpt_path with --config")
    if cli.config["ckpt_path"]:
        load_weights(cli.model.recognizer, cli.config["ckpt_path"])
    elif run and (run / run_folder.MODEL).is_dir():
        read_weights(cli.model.recognizer, run)
        cli.model.temperatures, fitted_on = read_temperatures(run)
        if command == fitted_on:
            print(f"the temperatures were fitted on {command} images: {command}/ece is no news", file=sys.stderr)
    elif run:
        load_weights(cli.model.recognizer, run_folder.checkpoint(run))
    table = PredictionTable((run or Path()) / "predictions_test.csv")
    trainer: Any = cli.trainer
    if command == "test":
        trainer.callbacks.append(table)
    results = getattr(trainer, command)(cli.model, datamodule=cli.datamodule, verbose=False)
    values = {name: round(float(value), 6) for result in results for name, value in result.items()}
    if cli.trainer.is_global_zero:
        split = {"validate": "val"}.get(command, command)
        if run:
            run_folder.write(run / f"{command}.json", json.dumps(values, indent=1))
        print_summary(f"{len(cli.datamodule.records(split))} {split} images", values, f"{split}/")
        if command == "test":
            print(f"every answer: {table.path}", file=sys.stderr)
        if command == "test" and run:
            print(f"to look at:   {write_page(run)}", file=sys.stderr)


def _without_weights(config: Any, only: str | None = None) -> bool:
    """Set the weights of every backbone in a parsed config to none, or `only` these; return whether there were any."""
    if not isinstance(config, jsonargparse.Namespace):
        return False
    found = [_without_weights(value, only) for value in vars(config).values()]
    if str(config.get("class_path", "")).rpartition(".")[2] == "Backbone":
        found.append(only in (None, config["init_args"]["weights"]))
        config["init_args"]["weights"] = "none" if found[-1] else config["init_args"]["weights"]
    return any(found)
