"""Read a picture in a process of its own, which the system ends when it takes too much: no decoder escapes that.

Photographs as cameras write them do not come here: see `unpack` with `plain`. The process is kept for the next picture;
each thread has its own. It says nothing on stderr and ends with the process that wants the picture.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from fgvc.images.limits import ImageError, Limits
from fgvc.images.unpacking import unpack
from fgvc.images.value_range import Pixels

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

HANDING_OVER = 1
"""Second of the limit that is left for this process, which gets the pixels through a pipe."""

_OWN = threading.local()
_MAIN = "from fgvc.images.apart import serve; serve()"


def unpack_apart(data: bytes, label: str, at_least: int | None, limits: Limits) -> tuple[Pixels, str | None]:
    """Do what `unpack` does, in at most `limits.seconds` of processor time and `limits.memory` bytes.

    Raises:
        ImageError: it cannot be read, or takes more.
    """
    if resource is None:
        return unpack(data, label, at_least, limits)
    reader: Reader | None = getattr(_OWN, "reader", None)
    if reader is None or not reader.is_mine():
        reader = _OWN.reader = Reader(label)
    try:
        return reader.read(data, label, at_least, limits)
    except BaseException as error:
        if not isinstance(error, ImageError) or not reader.is_mine():
            _OWN.reader = None  # interrupted between question and answer, or gone
            reader.end()
        raise


class Reader:
    """The process that reads.

    Args:
        label: of the first picture, for an error.

    Raises:
        ImageError: it cannot be started.
    """

    def __init__(self, label: str) -> None:
        paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _MAIN],  # -P: never import from the folder that the user is in
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | environment,
            )
        except OSError as error:
            raise ImageError(f"{label}: is read in a process of its own, which cannot start ({error})") from None
        self._owner = os.getpid()
        self.end = weakref.finalize(self, _end, self._process, self._owner)

    def is_mine(self) -> bool:
        """Whether it can be asked: it lives, and this process was not forked from the one that has started it."""
        return self._owner == os.getpid() and self._process.poll() is None

    def read(self, data: bytes, label: str, at_least: int | None, limits: Limits) -> tuple[Pixels, str | None]:
        """Ask for one picture."""
        question = {"size": len(data), "label": label, "at_least": at_least}
        question |= {"max_pixels": limits.max_pixels, "any_format": limits.any_format}
        asked, told = self._process.stdin, self._process.stdout
        assert asked is not None and told is not None
        try:
            asked.write(json.dumps(question).encode() + b"\n")
            asked.write(data)
            asked.flush()
            answer = json.loads(told.readline())
            if "error" in answer:
                raise ImageError(answer["error"])
            pixels = np.empty(answer["shape"], np.uint8)
            if told.readinto(pixels.data.cast("B")) < pixels.size:  # type: ignore[attr-defined]
                raise EOFError
        except (BrokenPipeError, EOFError, json.JSONDecodeError):
            raise ImageError(_why(self._process.wait(), label, limits)) from None
        return pixels, answer["warning"]


def _why(code: int, label: str, limits: Limits) -> str:
    if code == -signal.SIGXCPU:
        return f"{label}: not read within {limits.seconds} s of processor time; save it again, or raise max_pixels"
    return f"{label}: its decoder broke off (exit code {code}); save it again"


def _end(process: "subprocess.Popen[bytes]", owner: int) -> None:
    """Let the process go; in a process that was forked meanwhile, only its ends of the pipes."""
    if os.getpid() == owner:
        process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # it is gone, and what was not written yet with it
                pipe.close()
    if os.getpid() == owner:
        process.wait()


def serve() -> None:
    """Read what is asked for on stdin until it ends: the life of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    _quiet_crashes()
    while line := sys.stdin.buffer.readline():
        _answer(json.loads(line), sys.stdin.buffer, sys.stdout.buffer)


def _answer(question: dict[str, Any], asked: IO[bytes], told: IO[bytes]) -> None:
    data = asked.read(question["size"])
    limits = Limits(question["max_pixels"], question["any_format"])
    label = question["label"]
    Image.MAX_IMAGE_PIXELS = -(-limits.max_pixels // 2)  # Pillow refuses twice as many
    _bound(limits, len(data))
    pixels = None
    try:
        pixels, warning = unpack(data, label, question["at_least"], limits)
        answer: dict[str, Any] = {"shape": pixels.shape, "warning": warning}
    except ImageError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {
            "error": f"{label}: not read within {limits.memory / 2**30:g} GiB of memory; "
            "save it again, or raise max_pixels"
        }
    told.write(json.dumps(answer).encode() + b"\n")
    if pixels is not None:
        told.write(np.ascontiguousarray(pixels).data.cast("B"))
    told.flush()


def _bound(limits: Limits, size: int) -> None:
    """Let the system stop what takes more than the limits from now on; the file is in memory there, too."""
    spent = int(time.process_time())
    for kind, most in (
        (resource.RLIMIT_CPU, spent + limits.seconds - HANDING_OVER),
        (resource.RLIMIT_DATA, max(2**28, limits.memory - size)),
    ):
        try:
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
        except (ValueError, OSError):  # macOS does not know all of them
            continue


def _quiet_crashes() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
