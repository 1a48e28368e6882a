"""The one entry point: each sub-command imports only what it needs, so that `fgvc --help` answers at once."""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from fgvc.config import quiet
from fgvc.errors import FgvcError, UsageError, did_you_mean
from fgvc.files import streams
from fgvc.files.lines import printable, tell

COMMANDS = {
    "fit": ("folds:main", "FOLDER | --config DATA --config METHOD [--KEY ...]", "train; writes runs/NAME/"),
    "validate": ("evaluate:validate", "RUN [--KEY VALUE ...]", "score a run on its validation images"),
    "test": (
        "evaluate:test",
        "RUN... [--data FOLDER] [--KEY VALUE ...]",
        "score a run on its test images, or on others",
    ),
    "predict": ("predict:main", "MODEL... INPUT... [--output out.csv]", "name what is in photographs"),
    "calibrate": ("calibrate:main", "RUN", "make its probabilities honest; what can be vouched for"),
    "ensemble": ("ensemble:main", "MODEL... --output M", "several models that answer together, as one model"),
    "soup": ("soup:main", "RUN... --output M", "the mean of the weights of runs with one start, as one model"),
    "report": ("report:main", "RUN", "a page of curves, mistakes and reliability: RUN/report.html"),
    "compare": ("compare:main", "A.csv B.csv", "is B better than A on the same photographs? (predictions_test.csv)"),
    "explain": ("explain:main", "MODEL INPUT... --output DIR", "draw where the model looked and what it saw there"),
    "embed": ("embed:main", "MODEL DATA [--output features/NAME]", "what a network says of photographs, computed once"),
    "probe": ("probe:main", "FEATURES --output MODEL", "a linear classifier of cached features, as a model"),
    "curriculum": (
        "curriculum:main",
        "FEATURES --output stages.csv",
        "which photographs of each class have clean labels, by density",
    ),
    "search": (
        "search:main",
        "GALLERY QUERY... | --evaluate FEATURES",
        "the nearest photographs; how well features find them",
    ),
    "info": ("info:main", "MODEL", "what a model is, what it knows, how good it is"),
    "few-shot": (
        "few_shot:main",
        "FEATURES... [--method M ...] [--n_shot 1 5]",
        "score few-shot methods on episodes of cached features",
    ),
    "few-shot enroll": (
        "enroll:main",
        "MODEL PHOTOS --output DIR [--keep_old]",
        "teach a model new classes by a few photographs each",
    ),
    "data verify": (
        "data_verify:main",
        "DATA [--output problems.csv]",
        "decode every photograph; what is wrong with it",
    ),
    "data stats": ("data_stats:main", "DATA [--output stats.json]", "images per split, level and class; sizes"),
    "data audit": (
        "data_audit:main",
        "FEATURES --output audit.csv [--page audit.html]",
        "which labels are probably wrong",
    ),
    "data download": (
        "data_download:main",
        "[WHAT] [--to FOLDER]",
        "fetch a public data set; without WHAT, which there are",
    ),
    "configs": ("configs:main", "", "the configs that come with fgvc"),
    "demo": ("demo:main", "[--output DIR]", "train, test and predict on generated birds, in minutes"),
}
"""Command, of one or two words -> (module of `fgvc.commands` : function, its words, what it does)."""

NOTES = """
DATA and METHOD are YAML files, or the stems of those that come with fgvc: `fgvc configs` lists them, networks too.
For `fgvc data`, DATA is a folder of photographs, a table (.csv, .parquet), a run folder, or --config and --data.KEY;
for `fgvc embed` too. MODEL is a run folder or a model folder, for `fgvc embed` the name of a network of timm too.
`fgvc fit FOLDER` takes the first three too, and a METHOD that fits the machine where none is given.
`fgvc fit ... --folds 5` trains five runs, and answers every training image by one that was trained without it.
`fgvc COMMAND --help` lists the keys; `fgvc fit ... --print_config` shows the whole config.
FGVC_DEBUG=1 shows the trace of an error; FGVC_CACHE is where generated data and indexes are kept.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 work failed, 2 usage, 130 interrupted."""
    if argv is None:
        streams.open_all()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(words)
        sys.stdout.flush()  # a reader that has gone is met here, not at exit
        return code
    except FgvcError as error:
        return _fail(_message(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # nobody reads on
        streams.give_up()
        return 0
    except MemoryError:
        return _fail("out of memory; give a smaller batch, fewer worker processes or a machine with more", 1)
    except Exception as error:
        if line := _of_the_system(error):
            return _fail(line, 1)
        text = " ".join(str(error).split())[:500]
        return _fail(f"unexpected {type(error).__name__}: {text} (FGVC_DEBUG=1 shows the trace)", 1)


def help_text(group: str = "") -> str:
    """Return the help of all commands, or of those that begin with a word."""
    rows = [(f"  fgvc {name} {words}", what) for name, (_, words, what) in COMMANDS.items() if name.startswith(group)]
    usage = f"usage: fgvc {group} COMMAND ...".replace("  ", " ")
    lines = [usage, "", "Fine-grained image classification.", "", *(f"{row:<58} {what}" for row, what in rows)]
    return "\n".join(lines) + "\n" + NOTES


def _dispatch(words: list[str]) -> int:
    group = f"{words[0]} " if words and any(name.startswith(f"{words[0]} ") for name in COMMANDS) else ""
    if group and words[0] in COMMANDS and " ".join(words[:2]) not in COMMANDS:
        group = ""  # a command of one word that also begins one of two
    count = 2 if group else 1
    command, rest = " ".join(words[:count]), words[count:]
    if command in COMMANDS:
        module, _, function = COMMANDS[command][0].partition(":")
        run = getattr(import_module(f"fgvc.commands.{module}"), function)
        quiet.libraries()  # now: Lightning sets its own loggers when it is imported
        return int(run(rest))
    asked = words[count - 1] if len(words) >= count else "--help"
    if asked in ("-h", "--help", "help"):
        print(help_text(group), end="")
    elif asked == "--version" and not group:
        print(version("fgvc"))
    else:
        known = [name.removeprefix(group) for name in COMMANDS if name.startswith(group)]
        where = f"fgvc {group.strip()}: " if group else ""
        raise UsageError(f"{where}no command {asked!r}; there are {', '.join(known)}{did_you_mean(asked, known)}")
    return 0


def _message(error: FgvcError) -> str:
    """Return the one line; torch wraps what a loader's process raises in that process's whole trace."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if lines[0].startswith("Caught "):
        return lines[-1].partition(f"{type(error).__name__}: ")[2] or lines[-1]
    return " ".join(lines)


def _of_the_system(error: Exception) -> str | None:
    """Return one line of a file that the system would not have: what is wrong lies outside of fgvc."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror or error}"
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop from "):  # of pathlib before 3.13
        return f"{str(error).removeprefix('Symlink loop from ')}: a link that leads back to itself"
    return None


def _fail(message: str, code: int) -> int:
    if os.environ.get("FGVC_DEBUG"):
        traceback.print_exc()
    tell(f"fgvc: {printable(message)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
