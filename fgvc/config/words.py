"""The words of a command line, read in one place: the run or the data that they name, and where their configs lie."""

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fgvc.config import networks
from fgvc.config.yaml_files import check_file
from fgvc.errors import UsageError
from fgvc.files import run_folder
from fgvc.files.lines import tell
from fgvc.files.shipped import config_file, config_stems

METHOD = "--model.recognizer"
EVEN_CELLS = {"FCAN|WSDAN": "init_args.", "SCDABox": "init_args.attention.init_args."}
"""What reads places from cells -> where its arguments stand."""


class Given(NamedTuple):
    """A flag as it was typed: `--name VALUE`, two words, or `--name=VALUE`, one.

    value: None where the words end after the name.
    place: where it stands among the words.
    """

    name: str
    value: str | None
    place: slice

    def with_value(self, value: str) -> list[str]:
        """Return the same words with another value."""
        joined = self.place.stop - self.place.start == 1
        return [f"{self.name}={value}"] if joined else [self.name, value]


class FitWords(NamedTuple):
    """The words of `fgvc fit`, and the run folder that it goes on in, or None."""

    words: list[str]
    resumed: Path | None


def given(words: Sequence[str], *names: str) -> Iterator[Given]:
    """Yield every use of some flags."""
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in names:
            following = words[i + 1] if i + 1 < len(words) else None
            yield Given(name, value if equals else following, slice(i, i + (1 if equals else 2)))


def with_config_paths(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Replace the stems of configs by their paths, or their texts; return the words, and the stems in order.

    The configs of networks go into those of methods, see `fgvc.config.networks`.

    Raises:
        UsageError: a config that is not there or is no YAML, or a network that cannot be told.
    """
    used = [flag for flag in given(words, "--config", "-c") if flag.value is not None]
    configs = [networks.read(check_file(config_file(str(flag.value)))) for flag in used]
    found = networks.combined(configs, has_method=any(given(words, METHOD)))
    typed = {key: one.value for key in (*networks.BELONGS, "name") for one in given(words, *networks.flags(key))}
    networks.check_flag(configs, typed)
    if found.told:
        from fgvc.training.processes import is_first  # imports torch, which other words do without

        if is_first():
            tell(found.told)
    replaced = list(words)
    for flag, text in reversed(list(zip(used, found.words, strict=True))):
        replaced[flag.place] = [] if text is None else flag.with_value(text)
    if found.network is not None:  # what goes into the method of a flag comes after it
        end = max(flag.place.stop for flag in given(replaced, METHOD))
        replaced[end:end] = ["--config", found.network]
    return replaced, [config.path.stem for config in configs]


def fit_words(words: Sequence[str]) -> FitWords:
    """Read the words of `fgvc fit`.

    `--resume RUN` stands for that run's config, followed by what else was typed: it wins over what was stored. A run
    without `--name` is named after its configs.

    Raises:
        UsageError: a run or a config that is not there, or a flag that does not go with `--resume`.
    """
    resume = next(given(words, "--resume"), None)
    if resume is None:
        replaced, stems = with_config_paths(words)
        name = [] if any(given(words, "--name")) else ["--name", "-".join(stems) or "run"]
        return FitWords([*name, *replaced], None)
    if resume.value is None:
        raise UsageError("--resume: give the run folder to go on with, e.g. fgvc fit --resume runs/latest")
    rest = [*words[: resume.place.start], *words[resume.place.stop :]]
    for other in given(rest, "--name", "--runs", "--overwrite", "--init_from"):
        raise UsageError(f"--resume goes on in the same run; {other.name} does not go with it")
    run = run_folder.resolve(Path(resume.value))
    if not run_folder.last(run).is_file():
        raise UsageError(f"{run}: no checkpoint to go on from; start the run again with --overwrite")
    own = ["--name", run.resolve().name, "--runs", str(run.resolve().parent)]
    return FitWords(of_run(run, [*own, *rest]), run)


def evaluation_words(command: str, words: Sequence[str]) -> tuple[list[str], Path | None]:
    """Read the words of `fgvc validate` and `fgvc test`: a run folder first, or a config and a checkpoint.

    Returns:
        The words, and the run folder, or None.

    Raises:
        UsageError: no word, or a run or a config that is not there.
    """
    if not words:
        raise UsageError(f"fgvc {command}: give a run folder, e.g. fgvc {command} runs/latest")
    if words[0].startswith("-"):
        return with_config_paths(words)[0], None
    run = run_folder.resolve(Path(words[0]))
    return of_run(run, words[1:]), run


def of_run(run: Path, words: Sequence[str]) -> list[str]:
    """Return the words that stand for a run's config, followed by others, which win."""
    config = run / run_folder.CONFIG
    before = _of_older(check_file(config).read_text(encoding="utf-8"))
    return with_config_paths(["--config", str(config), *before, *words])[0]


def _of_older(config: str) -> list[str]:
    """Return the words for what an older run had no key for, as it was then."""
    words = [] if "interpolation:" in config else ["--data.interpolation", "area"]
    if "true_places:" not in config:
        for names, part in EVEN_CELLS.items():
            if re.search(rf"class_path: ([\w.]*\.)?({names})$", config, re.MULTILINE):
                words += [f"{METHOD}.{part}true_places", "false"]
    return words


def data_words(command: str, words: Sequence[str], switches: Collection[str]) -> list[str]:
    """Replace the one word that is no flag and no flag's value by the flags that it stands for.

    Args:
        command: what the user typed, for messages.
        words: what follows the command: FOLDER, TABLE, RUN or a YAML file among the flags, or `--config` alone.
        switches: the flags that take no value.

    Raises:
        UsageError: a word too many, or one that names nothing.
    """
    place = free_word(command, words, switches)
    if place is None:
        return list(words)
    name = words[place]
    if any(given(words, "--config")):
        raise UsageError(
            f"{command}: give {name!r} or --config, not both; a config's folder is --data.source.init_args.root"
        )
    return [*flags_of_data(name), *words[:place], *words[place + 1 :]]


def free_word(command: str, words: Sequence[str], switches: Collection[str]) -> int | None:
    """Return where the one word stands that is no flag and no flag's value; None where there is none.

    Raises:
        UsageError: there is more than one.
    """
    free = [
        i
        for i, (before, word) in enumerate(zip(["", *words], words, strict=False))
        if not word.startswith("-") and (not before.startswith("-") or "=" in before or before in switches)
    ]
    if len(free) > 1:
        raise UsageError(f"{command}: {words[free[1]]!r} is one word too many; give one folder, table or run")
    return free[0] if free else None


def flags_of_data(name: str) -> list[str]:
    """Return the flags that a folder of photographs, a table, a run folder or a YAML file stands for.

    Raises:
        UsageError: it is none of them.
    """
    path = Path(name)
    if (path.name == "latest" and not path.is_dir()) or (path / run_folder.CONFIG).is_file():
        return ["--config", str(run_folder.resolve(path) / run_folder.CONFIG)]
    if path.suffix.lower() in (".yaml", ".yml"):
        return ["--config", name]
    if path.is_dir():
        return ["--data.source", "ImageFolder", "--data.source.init_args.root", name]
    if path.is_file():
        return ["--data.source", "Table", "--data.source.init_args.path", name]
    hint = f"; for the config of that name give --config {name}" if name in config_stems() else ""
    raise UsageError(f"{name}: no such folder of photographs, table or run{hint}")
