"""From words and YAML to data, model and trainer, for `fgvc fit | validate | test | calibrate`."""

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonargparse
from pytorch_lightning import callbacks, loggers
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, _InstantiatorFn
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

import fgvc.data.sources  # noqa: F401 - the folder imports its own modules: short names work in YAML
from fgvc.config import class_help, moved, switches, trainer_flags, values
from fgvc.config.messages import in_one_line
from fgvc.config.preprocessing import follow_weights
from fgvc.config.typed_null import understand_null
from fgvc.config.yaml_files import with_short_names
from fgvc.data.datamodule import FineGrainedData
from fgvc.data.sources.base import named_sources
from fgvc.errors import UsageError
from fgvc.methods.slots import known_classes
from fgvc.training import callback_list, processes, users_callbacks
from fgvc.training.callbacks.phases import Phase
from fgvc.training.episodic import EpisodicModule
from fgvc.training.module import FineGrainedModule

FOLLOWS = {
    "data.seed": "seed_everything",
    "model.seed": "seed_everything",
    "data.image_size": "model.image_size",
    "model.taxonomy": "data.taxonomy",
    "model.class_counts": "data.class_counts",
}
"""Keys that nobody writes -> the key that decides them."""


class RunCLI(LightningCLI):
    """LightningCLI without sub-commands: it parses; the command then has it build data, model and trainer.

    Without sub-commands Lightning never lets the hyper-parameters of a checkpoint overrule what the user typed.
    `config` is what is built; `typed` is the same as the user typed it, which the run folder keeps. `evaluation` is one
    line on how evaluation will see a photograph.

    Args:
        command: fit, validate, test or calibrate.
        words: the words after it, with the paths of configs.
        resumes: whether a fit goes on with a run.
    """

    def __init__(self, command: str, words: list[str], resumes: bool = False) -> None:
        self._begins = command == "fit" and not resumes
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))  # classes of the user's own, as `python -m fgvc` finds them
        super().__init__(
            FineGrainedModule,
            FineGrainedData,
            save_config_callback=None,
            seed_everything_default=0,
            args=words,
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
        self.parser.add_instantiator(
            _OfItsKind(cli=self, key="model"), FineGrainedModule, subclasses=False, prepend=True
        )
        self.typed = self.config.clone()
        self.typed["overwrite"] = False  # whoever repeats the run from its config has not asked for that

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the words, whatever the process itself was started with; raises UsageError with one line."""
        flags = [flag for action in parser._actions for flag in action.option_strings]
        if key := class_help.asked_for(args, flags):
            class_help.print_help(parser.prog, key, args, {"model": FineGrainedModule, "data": FineGrainedData})
            raise SystemExit(0)
        understand_null()
        try:
            self.config = parser.parse_args(switches.valued(args, switches.flags(parser)))
        except jsonargparse.ArgumentError as error:
            classes = [*known_classes(), *named_sources()]
            for module, kind in ((callbacks, Callback), (loggers, loggers.Logger)):
                classes += [name for name in module.__all__ if issubclass(getattr(module, name), kind)]
            keys = [action.dest for action in parser._actions]
            raise UsageError(in_one_line(error, keys, classes, FOLLOWS)) from error
        self.evaluation = follow_weights(self.config)
        values.check(self.config, begins=self._begins)
        users_callbacks.check(map(_class_and_arguments, _listed(self.config["trainer"]["callbacks"])))
        for group, owner in (("data", FineGrainedData), ("model", FineGrainedModule)):
            values.check_nulls(vars(self.config[group]), owner, group)
        _check_episodes(self.config)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what belongs to a run, and say which numbers follow from others."""
        trainer_flags.whole_numbers_first(parser._actions)
        parser.add_argument("--name", type=str | None, default=None, help="the run; by default the configs' stems")
        parser.add_argument("--runs", type=str, default="runs", help="the folder of all runs")
        parser.add_argument("--overwrite", type=bool, default=False, help="replace a run of the same name")
        parser.add_argument("--ema", type=float, default=0.0, help="largest decay of averaged weights; 0 for none")
        parser.add_argument("--phases", type=list[Phase] | None, default=None, help="stages; see PhaseSchedule")
        parser.add_argument("--cycle_phases", type=bool, default=False, help="start again after the last phase")
        start = "a run or model folder, also of another method: start from its weights in place of pretrained ones"
        sweep = "take the learning rate that a sweep of 100 steps suggests, in place of model.lr"
        parser.add_argument("--find_lr", type=bool, default=False, help=sweep)
        fill = "take the largest batch, of powers of two, that the accelerator's memory holds"
        parser.add_argument("--find_batch_size", type=bool, default=False, help=fill)
        patience = "stop after so many epochs without a better validation; 0 for never"
        parser.add_argument("--early_stopping", type=int, default=0, help=patience)
        parser.add_argument("--init_from", type=str | None, default=None, help=start)
        again = "a run folder: go on from its last checkpoint, with its config and the flags given beside"
        parser.add_argument("--resume", type=str | None, default=None, help=again)
        often = "longest time between two checkpoints of the whole state; one is written after every epoch anyway"
        parser.add_argument("--save_every_minutes", type=float, default=5.0, help=often)
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="a checkpoint to validate or test")
        for target, source in FOLLOWS.items():
            made = {"apply_on": "instantiate"} if source.startswith("data.") else {}
            parser.link_arguments(source, target, compute_fn=int if source == "seed_everything" else None, **made)

    def instantiate_classes(self) -> None:
        """Build nothing while parsing: the command says when, see `build`."""

    def without_weights(self, only: str | None = None) -> bool:
        """Ask no backbone for weights, or for `only` these no more; return whether one had asked for them."""
        return _without_weights(self.config["model"], only)

    def build(self) -> None:
        """Build the data and the model, and the callbacks and loggers of the user.

        Raises:
            UsageError: one of them needs a package that is not installed; and see the classes. Of the data of a run it
                also says where their paths start.
        """
        try:
            self.config_init = self.parser.instantiate_classes(self.config)
        except UsageError as error:
            raise UsageError(f"{error}{'' if self._begins else moved.hint(self.config['data']['source'])}") from None
        except ValueError as error:
            key = next((key for key in ("callbacks", "logger") if _is_of(error, key)), None)
            if key is None:
                raise
            raise UsageError(trainer_flags.in_one_line(error, f"trainer.{key}")) from None
        self.datamodule: Any = self.config_init["data"]
        self.model: Any = self.config_init["model"]
        self.datamodule.show(self.model.recognizer.resize(self.datamodule.resize))

    def build_trainer(
        self, logger: Any = False, callbacks: Sequence[Callback] = (), plugins: Sequence[Any] = ()
    ) -> None:
        """Build the trainer from what the user asked for and what the command adds.

        Args:
            logger: beside those that the user gave; `--trainer.logger false` asks for none.
            callbacks, plugins: beside the user's own.

        Raises:
            UsageError: settings that Lightning refuses.
        """
        wanted = self.config_init["trainer"]
        theirs, own = _listed(wanted.get("callbacks")), [*callback_list.watching(), *callbacks]
        added: dict[str, Any] = {"callbacks": callback_list.arranged(theirs, own, wanted)}
        if plugins and any(isinstance(one, CheckpointIO) for one in _listed(wanted.get("plugins"))):
            raise UsageError(
                "trainer.plugins: a run writes its checkpoints in a way of its own; leave CheckpointIO out"
            )
        added["plugins"] = [*_listed(wanted.get("plugins")), *plugins] or None
        added["logger"] = _all_loggers(wanted.get("logger"), False if wanted["barebones"] else logger)
        if wanted["barebones"]:
            added["log_every_n_steps"] = None
        if self.config["phases"] and processes.are_several(wanted):
            added["strategy"] = "ddp_find_unused_parameters_true"
        with self.in_our_words():
            self.trainer = self.instantiate_trainer(**added)

    def check_batches(self, *splits: str) -> None:
        """Refuse flags of the trainer that leave no batch of a split; the trainer is built, so its processes are known.

        Raises:
            UsageError: see `trainer_flags.check_batches`.
        """
        self.datamodule.trainer = self.trainer
        loaders = {split: getattr(self.datamodule, f"{split}_dataloader")() for split in splits}
        counts = {split: len(loader) for split, loader in loaders.items()}
        trainer_flags.check_batches(self.config_init["trainer"], counts)

    @contextmanager
    def in_our_words(self) -> Iterator[None]:
        """Turn what Lightning refuses into one line; raises UsageError."""
        try:
            yield
        except (MisconfigurationException, ImportError) as error:
            if isinstance(error, ImportError) and not trainer_flags.missing_package(error):
                raise
            raise UsageError(trainer_flags.in_one_line(error)) from None

    def plain_config(self) -> str:
        """Return the YAML that repeats the run; the classes of fgvc stand by their short names."""
        return with_short_names(str(self.parser.dump(self.typed, skip_link_targets=True, skip_none=False)))


class _OfItsKind(_InstantiatorFn):
    """Makes the training module that goes with the recognizer."""

    def __call__(self, class_type: type[Any], *args: Any, applied_instantiation_links: Any, **keys: Any) -> Any:
        """Make it; the parser looks at the names of the arguments."""
        kind = EpisodicModule if _learns_from_episodes(self.cli.config) else class_type
        return super().__call__(kind, *args, applied_instantiation_links=applied_instantiation_links, **keys)


def _learns_from_episodes(config: Any) -> bool:
    recognizer = config["model"]["recognizer"]
    kind = _class_and_arguments(recognizer)[0] if recognizer else None
    return bool(getattr(kind, "learns_from_episodes", False))


def _check_episodes(config: Any) -> None:
    """Refuse a network for episodes on ordinary batches, and the other way round."""
    if _learns_from_episodes(config) and config["data"]["episodes"] is None:
        kind = str(config["model"]["recognizer"]["class_path"]).rpartition(".")[2]
        raise UsageError(
            f"data.episodes: null given, but {kind} learns from episodes; give e.g. --data.episodes.n_way 5"
        )
    if config["data"]["episodes"] is not None and not _learns_from_episodes(config):
        raise UsageError(
            "data.episodes: given, but model.recognizer learns from ordinary batches; give FewShotRecognizer"
        )


def _all_loggers(users: Any, own: Any) -> Any:
    if users is None or users is True:
        return own
    return users if users is False or own is False else [*own, *_listed(users)]


def _is_of(error: Exception, key: str) -> bool:
    """Say whether the parser could not make the entries of a key of the trainer."""
    kind = {"callbacks": ".callback.Callback'", "logger": ".logger.Logger'"}[key]
    return isinstance(error, ValueError) and kind in str(error) and "any of the Union subtypes" in str(error)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _class_and_arguments(callback: Any) -> tuple[type, dict[str, Any]]:
    """Return the class and the arguments of a callback that was parsed but not made."""
    module, _, name = str(callback["class_path"]).rpartition(".")
    return getattr(importlib.import_module(module), name), dict(vars(callback.get("init_args") or argparse.Namespace()))


def _without_weights(config: Any, only: str | None = None) -> bool:
    if isinstance(config, list):
        asked = [_without_weights(one, only) for one in config]  # every one, not up to the first
        return any(asked)
    if not isinstance(config, jsonargparse.Namespace):
        return False
    asked = [_without_weights(value, only) for value in vars(config).values()]
    if str(config.get("class_path", "")).rpartition(".")[2] == "Backbone":
        asked.append(only in (None, config["init_args"]["weights"]))
        config["init_args"]["weights"] = "none" if asked[-1] else config["init_args"]["weights"]
    return any(asked)
