"""Millions of paths as two arrays, in memory or in files that all processes read in place."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

Blob = npt.NDArray[np.uint8]
Ends = npt.NDArray[np.int64]


class PackedPaths(Sequence[str]):
    """An immutable sequence of paths.

    Arrays that `map_array` returned are not copied into another process, however it is started: it maps the same files.

    Args:
        blob: all paths in UTF-8, one after the other, without separators.
        ends: (N + 1,) where each path ends in the blob, after a 0.
    """

    def __init__(self, blob: Blob, ends: Ends) -> None:
        self.blob, self.ends = blob, ends

    @classmethod
    def of(cls, paths: Iterable[str]) -> "PackedPaths":
        """Pack paths."""
        packer = PathPacker()
        packer.extend(paths)
        return packer.packed()

    @property
    def mapped(self) -> bool:
        """Whether the paths lie in a file instead of memory."""
        return isinstance(self.blob, np.memmap)

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return self.blob[self.ends[index] : self.ends[index + 1]].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {name: _place(value) if isinstance(value, np.memmap) else value for name, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(
            {name: map_array(value) if isinstance(value, Path) else value for name, value in state.items()}
        )


class PathPacker:
    """Takes paths as they come."""

    def __init__(self) -> None:
        self._blob, self._ends = bytearray(), array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def extend(self, paths: Iterable[str]) -> None:
        """Add paths at the end."""
        blob, ends = self._blob, self._ends
        for path in paths:
            blob += path.encode("utf-8", "surrogateescape")
            ends.append(len(blob))

    def packed(self) -> PackedPaths:
        """Return what was taken; nothing can be added any more."""
        return PackedPaths(np.frombuffer(self._blob, dtype=np.uint8), np.frombuffer(self._ends, dtype=np.int64))


def map_array(path: Path) -> "np.memmap[Any, Any]":
    """Return the array of a .npy file, read from there when it is looked at.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no whole .npy file of plain numbers.
    """
    return np.lib.format.open_memmap(path, mode="r")


def _place(array: "np.memmap[Any, Any]") -> Path:
    return Path(str(array.filename))
