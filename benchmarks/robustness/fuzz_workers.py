"""Processes that try mutated items one by one, watched for hangs and hard crashes. See fuzz.py."""

import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tqdm import tqdm

from fgvc.errors import FgvcError

Outcome = Literal["accepted", "refused", "crash", "hang"]
LONGEST = 600  # characters of a refusal
MEMORY = 6 * 2**30  # bytes that a worker may take: one that wants all of the machine must fail alone
START = 300  # seconds for the imports of a worker


class Result(NamedTuple):
    """What came of one item: `said` is the refusal or the crash, `peak` the worker's largest resident set in bytes."""

    number: int
    outcome: Outcome
    said: str
    seconds: float
    peak: int


@dataclass
class Tally:
    """The results of one kind; `told` holds all but the accepted ones, `seconds` is the wall time of all together."""

    kind: str
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    slowest: Result | None = None
    peak: int = 0
    seconds: float = 0.0
    told: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count one result."""
        self.outcomes[result.outcome] += 1
        if self.slowest is None or result.seconds > self.slowest.seconds:
            self.slowest = result
        self.peak = max(self.peak, result.peak)
        if result.outcome != "accepted":
            self.told.append(result)

    @property
    def failed(self) -> list[Result]:
        """The crashes and hangs."""
        return [result for result in self.told if result.outcome != "refused"]


def draw_of(seed: int, kind: str, number: int) -> random.Random:
    """Return the generator that decides one item."""
    return random.Random(f"{seed}/{kind}/{number}")


def attempt(kind: Any, files: dict[str, bytes]) -> tuple[Outcome, str]:
    """Try one item; an exception that is no good refusal is a crash, told with the place that raised it."""
    try:
        kind.run(files)
    except FgvcError as error:
        said = str(error)
        if not said.strip() or len(said.splitlines()) > 1 or len(said) >= LONGEST:
            return "crash", f"a refusal that is no short line: {said!r}"
        return "refused", said
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "an unknown place"
        return "crash", f"{type(error).__name__} at {place}: {' '.join(str(error).split())[:300]}"
    return "accepted", ""


def serve(name: str, seed: int, connection: Connection, folder: str) -> None:
    """Try the items whose numbers come, until None comes: the life of a worker process."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    os.chdir(folder)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    kind = import_module(f"benchmarks.robustness.fuzz_{name}")
    kind.prepare()
    connection.send(None)
    while (number := connection.recv()) is not None:
        files = kind.make(draw_of(seed, name, number))
        start = time.perf_counter()
        outcome, said = attempt(kind, files)
        seconds = time.perf_counter() - start
        scale = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
        connection.send(Result(number, outcome, said, seconds, peak))


class Worker:
    """One process, and the item that it is busy with (None: its imports)."""

    def __init__(self, name: str, seed: int, scratch: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        arguments = (name, seed, theirs, tempfile.mkdtemp(dir=scratch))
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self.number: int | None = None
        self.since = time.perf_counter()

    def give(self, number: int) -> None:
        """Start an item."""
        self.number, self.since = number, time.perf_counter()
        self.connection.send(number)

    def take(self, limit: float) -> Result | Literal["busy"] | None:
        """Return a result, None once the imports are done, or `busy`; a process that died or hangs is ended.

        Raises:
            RuntimeError: the process died or hung before its first item.
        """
        died = False
        try:
            if self.connection.poll():
                found: Result | None = self.connection.recv()
                return found
        except (EOFError, ConnectionResetError):
            died = True
        seconds = time.perf_counter() - self.since
        if not died and seconds < (limit if self.number is not None else START):
            return "busy"
        if died:
            self.process.join()
        code = self.process.exitcode
        self.end()
        if self.number is None:
            raise RuntimeError(f"a worker did not start (exit code {code})")
        said = f"the process died (exit code {code})" if died else f"not done after {limit:g} s"
        return Result(self.number, "crash" if died else "hang", said, seconds, 0)

    def send_home(self) -> None:
        """Let the process end by itself."""
        self.connection.send(None)
        self.process.join(5)
        self.end()

    def end(self) -> None:
        """Stop the process, whatever it does."""
        self.process.kill()
        self.process.join()


def fuzz(name: str, count: int, seed: int, workers: int, limit: float, keep: Path) -> Tally:
    """Try `count` items of a kind; the inputs of crashes and hangs are written below `keep`.

    Args:
        name: of the module `fuzz_<name>`: `prepare()` fills the working folder, `make(draw)` returns the files of one
            item and `run(files)` does with them what fgvc does.
        count, seed: how many items, and which.
        workers: processes.
        limit: seconds after which an item hangs.
        keep: made when it is needed.
    """
    tally, start, numbers = Tally(name), time.perf_counter(), iter(range(count))
    with tempfile.TemporaryDirectory(prefix="fgvc_fuzz_") as scratch, tqdm(total=count, desc=name, delay=1) as bar:
        crew = [Worker(name, seed, scratch) for _ in range(min(workers, count))]
        try:
            while crew:
                wait([worker.connection for worker in crew], timeout=0.2)
                for place, worker in reversed(list(enumerate(crew))):
                    result = worker.take(limit)
                    if result == "busy":
                        continue
                    if result is not None:
                        tally.add(result)
                        bar.update()
                        if result.outcome in ("crash", "hang"):
                            _keep(name, seed, result, keep)
                    if not worker.process.is_alive():
                        crew[place] = Worker(name, seed, scratch)
                    elif (number := next(numbers, None)) is not None:
                        worker.give(number)
                    else:
                        crew.pop(place).send_home()
        finally:
            for worker in crew:
                worker.end()
    tally.seconds = time.perf_counter() - start
    return tally


def _keep(name: str, seed: int, result: Result, keep: Path) -> None:
    folder = keep / f"{name}_{seed}_{result.number}"
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in (
        import_module(f"benchmarks.robustness.fuzz_{name}").make(draw_of(seed, name, result.number)).items()
    ):
        (folder / file).write_bytes(content)
    (folder / "said.txt").write_text(f"{result.outcome}: {result.said}\n", encoding="utf-8", errors="replace")
