"""The one entry point: each sub-command imports only what it needs, so that `fgvc --help` answers at once."""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version

from fgvc.errors import FgvcError

HELP = """usage: fgvc COMMAND ...

Fine-grained image classification.

  fgvc fit --config DATA --config METHOD [--KEY VALUE ...]   train; writes runs/NAME/
  fgvc validate RUN [--KEY VALUE ...]                        score a run on its validation images
  fgvc test RUN [--KEY VALUE ...]                            score a run on its test images
  fgvc predict MODEL INPUT... [--output out.csv]             name what is in photographs
  fgvc calibrate RUN                                         make its probabilities honest; what can be vouched for
  fgvc report RUN                                            a page of curves, mistakes and reliability: RUN/report.html
  fgvc explain MODEL INPUT... --output DIR                   draw where the model looked and what it saw there
  fgvc info MODEL                                            what a model is, what it knows, how good it is
  fgvc data verify|stats|download ...                        check, count or fetch photographs

DATA and METHOD are YAML files, or the stems of those that come with fgvc: `fgvc configs` lists them.
`fgvc COMMAND --help` lists the keys; `fgvc fit ... --print_config` shows the whole config.
FGVC_DEBUG=1 shows the trace of an error; FGVC_CACHE is where generated data and indexes are kept.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 work failed, 2 usage, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(words)
        sys.stdout.flush()  # a reader that has gone is met here, not at exit
        return code
    except FgvcError as error:
        return _fail(_message(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; Python's exit must not fail
        return 0
    except Exception as error:
        text = " ".join(str(error).split())[:500]
        return _fail(f"unexpected {type(error).__name__}: {text} (FGVC_DEBUG=1 shows the trace)", 1)


def _dispatch(words: list[str]) -> int:
    command, rest = (words[0], words[1:]) if words else ("--help", [])
    if command in ("-h", "--help", "help"):
        print(HELP, end="")
    elif command == "--version":
        print(version("fgvc"))
    elif command == "fit":
        from fgvc import fit_command

        return fit_command.main(rest)
    elif command in ("validate", "test"):
        from fgvc import evaluate_command

        return evaluate_command.main(command, rest)
    elif command == "predict":
        from fgvc import predict_command

        return int(predict_command.main(rest))
    elif command == "calibrate":
        from fgvc import calibrate_command

        return int(calibrate_command.main(rest))
    elif command == "report":
        from fgvc import report_command

        return int(report_command.main(rest))
    elif command == "explain":
        from fgvc import explain_command

        return int(explain_command.main(rest))
    elif command == "info":
        from fgvc import info_command

        return int(info_command.main(rest))
    elif command == "data":
        from fgvc import data_command

        return int(data_command.main(rest))
    elif command == "configs":
        from fgvc.shipped import config_stems

        print("\n".join(f"{stem:<20} {path}" for stem, path in config_stems().items()))
    else:
        from fgvc.errors import UsageError, did_you_mean

        known = ["fit", "validate", "test", "predict", "calibrate", "report", "explain", "info", "data", "configs"]
        raise UsageError(f"no command {command!r}; there are {', '.join(known)}{did_you_mean(command, known)}")
    return 0


def _message(error: FgvcError) -> str:
    """Return the one line; torch wraps what a loader's process raises in that process's whole trace."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if lines[0].startswith("Caught "):
        return lines[-1].partition(f"{type(error).__name__}: ")[2] or lines[-1]
    return " ".join(lines)


def _fail(message: str, code: int) -> int:
    if os.environ.get("FGVC_DEBUG"):
        traceback.print_exc()
    print(f"fgvc: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
