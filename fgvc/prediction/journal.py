"""What `fgvc predict --output` has answered so far, on disk, so that a kill loses nothing.

`.NAME.part.jsonl` beside the output: a line about the run, then a line per answer, handed to the system as soon as it
is known. The output is made from it at the end. Answers themselves are not kept in memory: a million pictures cost
25 MB there, a hash and an offset for each that was answered before and an offset for each of this run.

Not SQLite: it took 152 lines for these 201 (the aim was half) and 31 to 58 us an answer, not 19 (100,000 answers).
"""

import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from fgvc.errors import FgvcError, UsageError
from fgvc.files.lines import counted
from fgvc.files.locks import lock
from fgvc.files.origin import now
from fgvc.files.whole_files import check_plain
from fgvc.images.pictures import Picture
from fgvc.prediction.results import Result

NEW, UNREAD = -1, -2
"""In place of an offset: not answered yet; could not be read, and is tried again."""


class Journal:
    """The answers for an output.

    Args:
        output: the file that will be made of them.
        terms: what the answers depend on: name -> value, as JSON knows it.
        restart: throw away what was answered on other terms.

    Attributes:
        path: of the journal.
        found: how many pictures a stopped run had answered.
        taken: how many of them were taken over.
        started: when the first run began, ISO 8601 in UTC.

    Raises:
        UsageError: a stopped run left answers on other terms, or the run goes on still.
        FgvcError: it cannot be written.
    """

    def __init__(self, output: Path, terms: Mapping[str, Any], restart: bool = False) -> None:
        check_plain(output)
        self.path = output.with_name(f".{output.name}.part.jsonl")
        self.found = self.taken = self._added = 0
        self.started = now()
        self._order = array("q")  # of every picture of this run, the offset of its answer
        self._asked = array("b")  # and whether the network sees it
        self._hashes, self._offsets = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        self._output = output
        with ExitStack() as opened:
            try:
                output.parent.mkdir(parents=True, exist_ok=True)
                # Unbuffered: nothing waits in memory that a kill would lose.
                self._file = opened.enter_context(self.path.open("ab", buffering=0))
                if not lock(self._file):
                    taken = "another fgvc predict is writing it; wait for it, or choose another name"
                    raise UsageError(f"{self._output}: {taken}")
                self._reader = opened.enter_context(self.path.open("rb"))
                self._end = self._read(dict(terms), restart)
                os.ftruncate(self._file.fileno(), self._end)
            except OSError as error:
                raise FgvcError(f"{output}: cannot be written ({error.strerror or error})") from None
            if not self._end:
                self._append({"started": self.started, "terms": dict(terms)})
            self._opened = opened.pop_all()

    @property
    def kept(self) -> str:
        """What is kept, in words for somebody whose run has stopped."""
        answers = counted(self.found + self._added, "answer")
        return f"{answers} kept in {self.path}, the same command goes on from there"

    def answered(
        self,
        pictures: Iterable[Picture],
        predict: Callable[[Iterable[Iterable[Picture]]], Iterator[Result]],
        batch_size: int = 1,
    ) -> Iterator[Result]:
        """Yield an answer for each picture, in order: those that are known from before, the others predicted.

        A network's last digits depend on the batch. So a batch in which a picture is new is predicted whole, as it
        would be by a run that was never stopped. A picture that could not be read before is tried again by itself.

        Args:
            pictures: all of them.
            predict: batches, to be read one after the other -> an answer for each picture in them.
            batch_size: how many pictures the network sees at once.
        """
        told = 0
        for result in predict(self._batches(pictures, batch_size)):
            while not self._asked[told]:
                yield self._before(told)
                told += 1
            if self._order[told] == NEW:
                self._order[told] = self._append(result.to_dict())
                self._added += 1
                yield result
            else:
                yield self._before(told)
            told += 1
        for number in range(told, len(self._order)):
            yield self._before(number)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield what `Result.to_dict` said of each picture of this run, in order."""
        with self.path.open("rb") as file:
            for offset in self._order:
                file.seek(offset)
                yield json.loads(file.readline())

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let go of the file, which stays where an error ends the run, unless no answer is in it."""
        if kind is None or not self.found + self._added:
            with suppress(OSError):
                self.path.unlink()
        self._opened.close()

    def _batches(self, pictures: Iterable[Picture], size: int) -> Iterator[Iterator[Picture]]:
        rest = iter(pictures)
        for first in rest:
            yield self._unknown(chain((first,), islice(rest, size - 1)))

    def _unknown(self, batch: Iterable[Picture]) -> Iterator[Picture]:
        """Yield all pictures of a batch as soon as one is new, else those that could not be read."""
        waiting: dict[int, Picture] = {}  # by their place in the run
        unread: dict[int, Picture] = {}
        some_new = False
        for picture in batch:
            offset, number = self._known(str(picture)), len(self._order)
            self._order.append(max(offset, NEW))
            self._asked.append(False)
            self.taken += offset >= 0
            some_new = some_new or offset == NEW
            waiting[number] = picture
            if some_new:
                yield from self._ask(waiting)
                waiting.clear()
            elif offset == UNREAD:
                unread[number] = picture
        if not some_new:
            yield from self._ask(unread)

    def _ask(self, pictures: Mapping[int, Picture]) -> Iterator[Picture]:
        for number, picture in pictures.items():
            self._asked[number] = True
            yield picture

    def _known(self, path: str) -> int:
        # 8 bytes: among a million paths two have the same with probability 3e-8.
        wanted = np.uint64(_hash(path))
        place = np.searchsorted(self._hashes, wanted, side="right") - 1  # the last answer counts
        return int(self._offsets[place]) if place >= 0 and self._hashes[place] == wanted else NEW

    def _before(self, number: int) -> Result:
        self._reader.seek(self._order[number])
        return Result.from_dict(json.loads(self._reader.readline()))

    def _append(self, plain: Mapping[str, Any]) -> int:
        """Write a line and return where it begins."""
        begin = self._end
        left = memoryview(json.dumps(plain).encode() + b"\n")
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise FgvcError(
                f"{self.path}: cannot be written ({error.strerror or error}); make room: {self.kept}"
            ) from None
        self._end = self._file.tell()
        return begin

    def _read(self, terms: dict[str, Any], restart: bool) -> int:
        """Read the answers of a stopped run, and return how many bytes its whole lines have."""
        end = 0
        hashes, offsets = array("Q"), array("q")
        for line in self._reader:
            plain = _parsed(line)
            if plain is None:  # cut off by the kill
                break
            if not end:
                if restart and plain.get("terms") != terms:
                    return 0
                self._check(plain, terms)
                self.started = plain["started"]
            else:
                hashes.append(_hash(plain["path"]))
                offsets.append(UNREAD if plain["error"] else end)
                self.found += not plain["error"]
            end += len(line)
        order = np.argsort(np.array(hashes, np.uint64), kind="stable")
        self._hashes, self._offsets = np.array(hashes, np.uint64)[order], np.array(offsets, np.int64)[order]
        return end

    def _check(self, head: Mapping[str, Any], terms: Mapping[str, Any]) -> None:
        before = head.get("terms")
        if not isinstance(before, dict):
            raise UsageError(f"{self.path}: not left by a stopped fgvc predict; move it away, or give --overwrite")
        for name in {**before, **terms}:
            old, now = ("none" if one.get(name) is None else one[name] for one in (before, terms))
            if old != now:
                raise UsageError(
                    f"{self._output}: a stopped run left answers in {self.path.name} with {name} {old}, not {now}; "
                    "give the same again to go on, or --overwrite to start over"
                )


def _hash(path: str) -> int:
    return int.from_bytes(blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        plain = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return plain if isinstance(plain, dict) else None
