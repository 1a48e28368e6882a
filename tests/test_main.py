import os
import subprocess
import sys
from importlib.metadata import version

import pytest
from torch._utils import ExceptionWrapper

import fgvc
from fgvc import __main__
from fgvc.__main__ import main
from fgvc.commands import predict as predict_command
from fgvc.errors import FgvcError, UsageError


def python(*words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, **options)


def test_help_answers_within_a_second_and_imports_nothing_heavy():
    before = work_of_children()
    done = python("-X", "importtime", "-m", "fgvc", "--help")
    seconds = work_of_children() - before
    assert (done.returncode, done.stdout) == (0, __main__.help_text())
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "fgvc" in imported
    assert not {"torch", "timm", "pytorch_lightning", "numpy", "cv2", "PIL", "albumentations"} & imported
    assert seconds < 1


def work_of_children() -> float:
    """Seconds of processor time: how busy the machine is does not count."""
    times = os.times()
    return times.children_user + times.children_system


@pytest.mark.parametrize("words", [[], ["-h"], ["help"]])
def test_help_goes_to_stdout(words, capsys):
    assert main(words) == 0
    assert capsys.readouterr() == (__main__.help_text(), "")


def test_the_version_is_the_packages(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == version("fgvc") + "\n"


def test_configs_are_listed(capsys):
    assert main(["configs"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    kinds = {row[0]: " ".join(row[1:-1]) for row in rows}
    assert {kinds[stem] for stem in ("whole_image", "hse")} == {"method"}
    assert (kinds["mobilenetv2_100"], kinds["cub"], kinds["quickstart"]) == ("network", "data", "all of a run")


def test_an_unknown_command_is_one_line_and_exit_code_2(capsys):
    assert main(["predcit", "x"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fgvc: no command 'predcit'; there are fit, ")
    assert err.endswith("did you mean 'predict'?\n")
    assert err.count("\n") == 1


def worker_error() -> Exception:
    """Return an error as it arrives from a data loader's worker process."""
    try:
        raise FgvcError("x.jpg: broken")
    except FgvcError:
        wrapper = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(FgvcError) as caught:
        wrapper.reraise()
    assert "Traceback" in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (FgvcError("a\nb.jpg: broken"), 1, "fgvc: a b.jpg: broken\n"),
        (worker_error(), 1, "fgvc: x.jpg: broken\n"),
        (UsageError("no such thing"), 2, "fgvc: no such thing\n"),
        (KeyboardInterrupt(), 130, "fgvc: interrupted\n"),
        (
            ZeroDivisionError("by\n\n zero"),
            1,
            "fgvc: unexpected ZeroDivisionError: by zero (FGVC_DEBUG=1 shows the trace)\n",
        ),
    ],
)
def test_an_error_is_one_line_on_stderr_and_its_exit_code(monkeypatch, capsys, error, code, line):
    def fail(rest):
        assert rest == ["model", "--top_k", "3"]
        raise error

    monkeypatch.setattr(predict_command, "main", fail)
    monkeypatch.delenv("FGVC_DEBUG", raising=False)
    assert main(["predict", "model", "--top_k", "3"]) == code
    assert capsys.readouterr() == ("", line)
    monkeypatch.setenv("FGVC_DEBUG", "1")
    assert main(["predict", "model", "--top_k", "3"]) == code
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith(line)


def test_the_exit_code_of_a_command_is_handed_on(monkeypatch):
    monkeypatch.setattr(predict_command, "main", lambda _rest: 1)
    assert main(["predict"]) == 1


def test_a_reader_that_has_gone_is_no_error():
    script = (
        "import subprocess, sys\n"
        "reader = subprocess.Popen([sys.executable, '-c', ''], stdin=subprocess.PIPE)\n"
        "reader.wait()\n"
        "sys.exit(subprocess.run([sys.executable, '-m', 'fgvc', '--help'], stdout=reader.stdin).returncode)\n"
    )
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = python("-c", script, env=buffered)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_offers_only_what_it_names():
    with pytest.raises(AttributeError, match="module 'fgvc' has no attribute 'laod'"):
        fgvc.laod  # noqa: B018
    assert fgvc.load.__module__ == "fgvc.prediction.predictor"
