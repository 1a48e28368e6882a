"""`fgvc test RUN --data OTHER`: other labelled photographs than those that a run was made with."""

import importlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fgvc.config.run_cli import RunCLI
from fgvc.config.words import flags_of_data, given
from fgvc.config.yaml_files import read_text
from fgvc.data.relabelled import Relabelled
from fgvc.data.sources.base import DataSource
from fgvc.errors import UsageError
from fgvc.files import run_folder
from fgvc.files.lines import quoted
from fgvc.model_file.folder import read
from fgvc.taxonomy.tree import Taxonomy

SOURCE = "--data.source"
"""The key of a data source."""


@dataclass(frozen=True)
class OtherData:
    """Labelled photographs for the model of a run.

    run: the run. path: what was typed: a folder, a table, another run or a YAML file.
    """

    run: Path
    path: str

    @property
    def folder(self) -> Path:
        """Where the test writes: the run's own test stays as it is."""
        return self.run / f"test_{Path(self.path).resolve().stem}"

    def build(self, cli: RunCLI) -> None:
        """Build a parsed command's data and model with them, and with the classes of the run's model.

        Raises:
            UsageError: they cannot be read, or have classes that the model does not know.
        """
        taxonomy = Taxonomy.from_plain(read(self.run).described["taxonomy"])
        wanted: Any = cli.config["data"]["source"]
        module, _, name = str(wanted["class_path"]).rpartition(".")
        arguments = dict(vars(wanted.get("init_args") or {}))
        source = _opened(getattr(importlib.import_module(module), name), arguments)
        cli.config["data"]["source"] = Relabelled(source, taxonomy, self.path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\s*Unable to serialize instance")  # a source that is made has no YAML
            cli.build()


def asked_for(command: str, words: Sequence[str]) -> tuple[OtherData | None, list[str]]:
    """Return the other data that `--data PATH` asks for, and the words with the keys that it stands for.

    Raises:
        UsageError: no run before it, a run without a model, or nothing that can be tested on.
    """
    flag = next(given(words, "--data"), None)
    if flag is None:
        return None, list(words)
    if command != "test" or words[0].startswith("-") or flag.value is None:
        raise UsageError("--data: give it with a run and a folder or table: fgvc test RUN --data FOLDER")
    run = run_folder.resolve(Path(words[0]))
    if not (run / run_folder.MODEL).is_dir():
        raise UsageError(
            f"{run}: has no model yet, whose classes --data needs; let fgvc fit --resume {quoted(run)} end first"
        )
    rest = [*words[1 : flag.place.start], *words[flag.place.stop :]]
    return OtherData(run, flag.value), [words[0], *_keys(run, flag.value), *rest]


def _keys(run: Path, path: str) -> Iterator[str]:
    """Yield the keys of the data; what belongs to the run's own photographs is taken back."""
    for key in ("noise", "exclude", "relabel"):
        yield from (f"--data.{key}", "null")
    flags = flags_of_data(path)
    yield from flags
    if SOURCE not in flags:
        return
    kind = flags[flags.index(SOURCE) + 1]
    yield from (f"{SOURCE}.init_args.test_fraction", "0")
    own: Any = yaml.safe_load(read_text(run / run_folder.CONFIG))["data"]["source"]
    gone = ["taxonomy", "splits" if kind == "ImageFolder" else "root"]
    if str(own["class_path"]).rpartition(".")[2] != kind:
        gone.append("levels")
    for key in gone:
        yield from (f"{SOURCE}.init_args.{key}", "null")


def _opened(kind: type[DataSource], arguments: dict[str, Any]) -> DataSource:
    """Return a source; folders that are not nested as the run's were are read as one level."""
    try:
        return kind(**arguments)
    except UsageError:
        if not arguments.get("levels") or kind.__name__ != "ImageFolder":
            raise
        return kind(**arguments | {"levels": None})
