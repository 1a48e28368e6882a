"""`fgvc fit | validate | test`: from words and YAML to data, model and trainer."""

import sys
from pathlib import Path
from typing import Any

import jsonargparse
import pytorch_lightning as pl
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

import fgvc.data.sources
import fgvc.methods.attention
import fgvc.methods.heads
import fgvc.methods.pooling
import fgvc.methods.recognizers  # noqa: F401 - the slot folders import their own modules: short names work in YAML
from fgvc.config import quiet, values
from fgvc.config.messages import in_one_line
from fgvc.config.yaml_files import check_file
from fgvc.data.datamodule import FineGrainedData
from fgvc.data.sources.base import DataSource
from fgvc.errors import UsageError
from fgvc.files import run_folder
from fgvc.files.shipped import config_file
from fgvc.methods.slots import known_classes
from fgvc.training import callback_list, processes
from fgvc.training.callbacks.phases import Phase
from fgvc.training.checkpoints import WholeCheckpointIO
from fgvc.training.module import FineGrainedModule
from fgvc.training.warm_start import find, init_from

FOLLOWS = {
    "data.seed": "seed_everything",
    "model.seed": "seed_everything",
    "data.image_size": "model.image_size",
    "model.taxonomy": "data.taxonomy",
    "model.class_counts": "data.class_counts",
}
"""Keys that nobody writes -> the key that decides them."""


class RunCLI(LightningCLI):
    """LightningCLI without sub-commands: it parses and builds; what is then run is decided in `main`.

    Without sub-commands Lightning never lets the hyper-parameters of a checkpoint overrule what the user typed.

    Args:
        command: fit, validate, test or calibrate.
        args: the words after it, with the paths of configs.
        resumed: the run folder that a fit goes on in, or None.
    """

    def __init__(self, command: str, args: list[str], resumed: Path | None = None) -> None:
        self.command, self.resumed = command, resumed
        quiet.libraries()
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))  # classes of the user's own, as `python -m fgvc` finds them
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
            keys = [action.dest for action in parser._actions]
            raise UsageError(in_one_line(error, keys, classes, FOLLOWS)) from error
        values.check(self.config, begins=self.command == "fit" and not self.resumed)
        for group, owner in (("data", FineGrainedData), ("model", FineGrainedModule)):
            values.check_nulls(vars(self.config[group]), owner, group)

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
        again = "a run folder: go on from its last checkpoint, with its config and the flags given beside"
        parser.add_argument("--resume", type=str | None, default=None, help=again)
        often = "longest time between two checkpoints of the whole state; one is written after every epoch anyway"
        parser.add_argument("--save_every_minutes", type=float, default=5.0, help=often)
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="a checkpoint to validate or test")
        for target, source in FOLLOWS.items():
            made = {"apply_on": "instantiate"} if source.startswith("data.") else {}
            parser.link_arguments(source, target, compute_fn=int if source == "seed_everything" else None, **made)

    def before_instantiate_classes(self) -> None:
        """Refuse a taken name before any work; a model that is read from a file asks for no pretrained weights."""
        self.kept, self.bare = self.config.clone(), False
        self.kept["overwrite"] = False  # whoever repeats the run from its config has not asked for that
        if self.command != "fit" or self.resumed:
            self.folder = self.resumed or Path()
            _without_weights(self.config["model"])
            return
        self.folder = Path(self.config["runs"], self.config["name"])
        if processes.is_first():
            run_folder.check(self.folder, self.config["overwrite"])
            if start := self.config["init_from"]:
                self.kept["init_from"] = str(find(start))  # `latest` will soon be this run
        self.bare = bool(self.config["init_from"]) and _without_weights(self.config["model"], "pretrained")

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Make the trainer, and the run folder it writes into now that data, model and trainer stand."""
        if self.command == "fit":
            self.datamodule.train_dataloader()  # too few images for a batch: say so before anything is written
            if (start := self.kept["init_from"]) and processes.is_first() and not self.resumed:  # DDP tells the others
                print(f"start from {start}: {init_from(self.model.recognizer, start, self.bare)}", file=sys.stderr)
        wanted = self.config_init["trainer"]
        if wanted.get("logger") is None:
            kwargs["logger"] = callback_list.loggers(self.folder) if self.command == "fit" else False
        if self.config["phases"] and processes.are_several(wanted):
            kwargs["strategy"] = "ddp_find_unused_parameters_true"
        kwargs["callbacks"] = [*(wanted.get("callbacks") or []), *callback_list.watching()]
        if self.command == "fit":
            own, data = self.config, self.datamodule
            stages = (self.config_init["phases"], self.config_init["cycle_phases"])
            monitor = f"val/{data.taxonomy.leaf_level}/top1" if "val" in data.splits else None
            kwargs["callbacks"] += callback_list.training(
                self.folder, *stages, own["ema"], monitor, own["save_every_minutes"]
            )
            kwargs["plugins"] = [*(wanted.get("plugins") or []), WholeCheckpointIO()]
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise UsageError(f"trainer: {' '.join(str(error).split())}") from None
        if self.command == "fit" and processes.is_first() and not self.resumed:
            run_folder.create(self.folder, self.plain_config())
        return trainer

    def plain_config(self) -> str:
        """Return the YAML that repeats the run."""
        return str(self.parser.dump(self.kept, skip_link_targets=True, skip_none=False))


def with_config_paths(words: list[str]) -> tuple[list[str], list[str]]:
    """Replace the stems of configs by their paths; return the words, and the stems in order.

    Raises:
        UsageError: a config that is not there or is no YAML.
    """
    found, stems = list(words), []
    for i, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag in ("--config", "-c") and (equals or i + 1 < len(words)):
            path = check_file(config_file(value if equals else words[i + 1]))
            stems.append(path.stem)
            found[i if equals else i + 1] = f"{flag}={path}" if equals else str(path)
    return found, stems


def _without_weights(config: Any, only: str | None = None) -> bool:
    """Set the weights of every backbone in a parsed config to none, or `only` these; return whether there were any."""
    if not isinstance(config, jsonargparse.Namespace):
        return False
    found = [_without_weights(value, only) for value in vars(config).values()]
    if str(config.get("class_path", "")).rpartition(".")[2] == "Backbone":
        found.append(only in (None, config["init_args"]["weights"]))
        config["init_args"]["weights"] = "none" if found[-1] else config["init_args"]["weights"]
    return any(found)
