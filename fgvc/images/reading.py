"""Read pictures in threads, a batch at a time, so that the one who takes the batches says when the next is begun."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

from fgvc.images.pictures import THREADS

Item = TypeVar("Item")
Made = TypeVar("Made")


class Reading(Generic[Item, Made]):
    """Batches of what was made of items, in order. On leaving, what is begun is finished and the rest is called off.

    Args:
        work: called from several threads at once.
        batches: items that belong together, to be taken one after the other; no batch goes across two of them.
        most: how many items a batch has at most.
    """

    def __init__(self, work: Callable[[Item], Made], batches: Iterable[Iterable[Item]], most: int) -> None:
        self._work = work
        self._rest = _pieces(batches, most)
        self._pool = ThreadPoolExecutor(THREADS)
        self._begun: deque[list[Future[Made]]] = deque()

    def begin(self) -> None:
        """Begin to read the next batch, where there is one."""
        if piece := next(self._rest, None):
            self._begun.append([self._pool.submit(self._work, item) for item in piece])

    def take(self) -> list[Made]:
        """Wait for the batch that was begun first; empty where none is."""
        return [future.result() for future in self._begun.popleft()] if self._begun else []

    def __enter__(self) -> "Reading[Item, Made]":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


def _pieces(batches: Iterable[Iterable[Item]], most: int) -> Iterator[list[Item]]:
    for batch in batches:
        rest = iter(batch)
        while piece := list(islice(rest, most)):
            yield piece
