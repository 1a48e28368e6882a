"""The batches that were computed so far, in `.unfinished`, so that a kill loses the batch that was under way alone.

A batch is a file, named after what its numbers depend on: the network and every photograph in it. So a batch is known
again or it is not; none is ever wrong. The last digits of a network's answer depend on what it sees at once, and a
batch is taken over whole, so that the features of a stopped run are those of one that was not.
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fgvc.errors import FgvcError, UsageError
from fgvc.features.part_files import Features
from fgvc.files.locks import lock
from fgvc.files.whole_files import whole_file

FOLDER = ".unfinished"


class Batch(NamedTuple):
    """Features (n, ...) of a batch, and (n,) int64 which of its photographs they are of: some could not be read."""

    features: Features
    places: npt.NDArray[np.int64]


class Unfinished:
    """The computed batches of a folder of features.

    Args:
        folder: of the features; the batches lie in it.
        terms: the hash of what the numbers depend on beside the photographs.
    """

    def __init__(self, folder: Path, terms: str) -> None:
        self._folder, self._terms = folder / FOLDER, terms

    def key(self, view: str, files: Sequence[tuple[str, int, int]]) -> str:
        """Return the name of a batch: of a view of photographs, each with its path, size and time."""
        said = json.dumps([self._terms, view, files])
        return hashlib.sha256(said.encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def load(self, key: str) -> Batch | None:
        """Return a batch, or None where it is not there, or cut off by a power cut."""
        try:
            with self._path(key).open("rb") as file, np.load(file, allow_pickle=False) as held:
                return Batch(held["features"], held["places"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def save(self, key: str, batch: Batch) -> None:
        """Keep a batch.

        Raises:
            FgvcError: it cannot be written.
        """
        with whole_file(self._path(key)) as draft, draft.open("wb") as file:
            np.savez(file, features=batch.features, places=batch.places)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out while batches are computed. At the end they are thrown away; a stop leaves them.

        Raises:
            UsageError: another process is at it.
            FgvcError: the folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = (self._folder / "lock").open("ab")
        except OSError as error:
            raise FgvcError(f"{self._folder.parent}: cannot be written ({error.strerror or error})") from None
        with file:
            taken = "another fgvc embed is writing it; wait for it, or choose another --output"
            if not lock(file):
                raise UsageError(f"{self._folder.parent}: {taken}")
            try:
                yield
            except BaseException:
                if not any(self._folder.glob("*.npz")):
                    self.clear()
                raise
            self.clear()

    def clear(self) -> None:
        """Throw the batches away, and the folder of features where nothing else is in it."""
        shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(OSError):
            self._folder.parent.rmdir()

    @property
    def is_there(self) -> bool:
        """Whether a stopped call has left something."""
        return self._folder.is_dir()

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npz"
