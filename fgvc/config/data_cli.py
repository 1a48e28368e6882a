"""The data part of a config as a datamodule, for commands that need no model: the keys and messages of `fgvc fit`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import yaml

import fgvc.data.sources  # noqa: F401 - the folder imports its own modules: short names work in YAML
from fgvc.config import moved, switches
from fgvc.config.meanings import nearest_key
from fgvc.config.messages import in_one_line
from fgvc.config.typed_null import understand_null
from fgvc.config.words import data_words, given
from fgvc.config.yaml_files import check_file, read_text
from fgvc.data.datamodule import FineGrainedData
from fgvc.data.sources.base import named_sources
from fgvc.errors import UsageError, did_you_mean
from fgvc.files.run_folder import CONFIG
from fgvc.files.shipped import config_file

Options = Callable[[jsonargparse.ArgumentParser], None]


def parse(
    command: str, about: str, words: Sequence[str], add_options: Options | None = None
) -> tuple[jsonargparse.Namespace, Callable[[], FineGrainedData]]:
    """Parse the words of a command that works on data.

    The data are what `--config` and `--data.KEY` say, as in `fgvc fit`, or one word alone: a folder of photographs, a
    table, a run folder or a YAML file. The other parts of a config are not read, so the config of a training will do.
    Only `model.image_size` is read too, because `data.source_size` is checked against it.

    Args:
        command: what the user typed, for messages.
        about: one paragraph for `--help`.
        words: what follows the command.
        add_options: adds the command's own options to the parser, if it has any; each takes a value, or is a
            `store_true`.

    Returns:
        The parsed options, and a function that opens the data, which may take long. Their splits are those of a
        training. It raises UsageError where they cannot be opened.

    Raises:
        UsageError: a word that means nothing; one line.
    """
    understand_null()
    parser = _parser(command, about)
    if add_options is not None:
        add_options(parser)
    if not words:
        raise UsageError(
            f"{command}: give a folder of photographs, a table, a run folder, or --config DATA; "
            f"{command} --help lists the keys"
        )
    sys.path.append(str(Path.cwd()))  # classes of the user's own, as `python -m fgvc` finds them
    keys = [action.dest for action in parser._actions]
    alone = {flag for action in parser._actions if action.nargs == 0 for flag in action.option_strings}
    typed = switches.valued(data_words(command, switches.bare(words, alone), alone), switches.flags(parser))
    of_run = any(Path(flag.value or "").name == CONFIG for flag in given(typed, "--config"))
    try:
        options = parser.parse_args(_data_part(typed, keys))
    except jsonargparse.ArgumentError as error:
        sources = [*named_sources()]
        raise UsageError(in_one_line(error, keys, sources, {"data.image_size": "model.image_size"})) from error
    return options, lambda: _opened(parser, options, of_run)


def _opened(parser: jsonargparse.ArgumentParser, options: jsonargparse.Namespace, of_run: bool) -> FineGrainedData:
    try:
        return parser.instantiate_classes(options).data  # type: ignore[no-any-return]
    except UsageError as error:
        raise UsageError(f"{error}{moved.hint(options.data.source) if of_run else ''}") from None


def _parser(command: str, about: str) -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(
        prog=command,
        usage=f"{command} FOLDER|TABLE|RUN|--config DATA [--KEY VALUE ...]",
        description=about,
        exit_on_error=False,
        allow_abbrev=False,  # a key cut short is a misspelt key
    )
    parser.add_argument("--config", action="config", help="a YAML file, or the stem of one that comes with fgvc")
    parser.add_argument("--model.image_size", type=int, default=224, help="as in the training; read from its config")
    # Without `seed`: it decides the order and the augmentation, and in a training follows `seed_everything`.
    parser.add_class_arguments(FineGrainedData, "data", skip={"seed"})
    parser.link_arguments("model.image_size", "data.image_size")
    return parser


def _data_part(words: list[str], keys: Sequence[str]) -> list[str]:
    """Replace each config by the text of its part about the data."""
    replaced = list(words)
    for flag in given(words, "--config"):
        if flag.value is not None:
            replaced[flag.place] = flag.with_value(yaml.safe_dump(_checked(check_file(config_file(flag.value)), keys)))
    return replaced


def _checked(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """Return the part of a config about the data; refuse a key that the parser would misread or lose."""
    content = yaml.safe_load(read_text(path))
    for key in content:
        if key != "data" and did_you_mean(str(key), ["data"]):
            raise UsageError(f"{path}: {key}: unknown key{did_you_mean(str(key), ['data'])}")
    data, model = content.get("data") or {}, content.get("model") or {}
    if not isinstance(data, dict):
        raise UsageError(f"{path}: data holds a {type(data).__name__}; it holds keys such as source and val_fraction")
    for key in data:
        dotted = f"data.{key}"
        if not any(known == dotted or known.startswith(f"{dotted}.") for known in keys):
            raise UsageError(f"{dotted}: unknown key{nearest_key(dotted, keys)}")
    sized = isinstance(model, dict) and "image_size" in model
    return {"data": data, **({"model": {"image_size": model["image_size"]}} if sized else {})}
