"""Work on many files in processes on all cores: results come in order, few items wait, and a stop acts at once."""

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from fgvc.errors import FgvcError

WORKERS = os.cpu_count() or 1
CHUNK = 16
"""Files per task: to hand over a task costs a good part of decoding a small file."""

Item = TypeVar("Item")
Made = TypeVar("Made")


def in_processes(work: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Map over items in other processes, for work that holds Python's lock.

    When the caller leaves, also by Ctrl-C, the processes are stopped where they are. They end when this process ends.
    They import the script that was started, which needs its `if __name__ == "__main__":`.

    Args:
        work: a function of a module that is quick to import.
        items: plain data; at most `3 * WORKERS * CHUNK` are begun and not yet taken.

    Raises:
        FgvcError: a process died, as they do where memory runs out.
    """
    before = multiprocessing.active_children()
    pool = ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn"), _end_with_parent)
    try:
        rest = iter(items)
        waiting: deque[Future[list[Made]]] = deque()
        while chunk := list(itertools.islice(rest, CHUNK)):
            with _interrupts_held():
                waiting.append(pool.submit(_each, work, chunk))
            if len(waiting) >= 3 * WORKERS:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise FgvcError(
            "a process that reads pictures died, as they do where memory runs out: close other programs and try again"
        ) from None
    except BaseException:
        for process in multiprocessing.active_children():
            if process not in before:
                process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _each(work: Callable[[Item], Made], chunk: list[Item]) -> list[Made]:
    return [work(item) for item in chunk]


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while a process is started: that one then never sees it, and leaves it to this process."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def _end_with_parent() -> None:
    """Make a process of the pool end with the process that started it; else it would wait for work for ever."""
    parent: Any = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
