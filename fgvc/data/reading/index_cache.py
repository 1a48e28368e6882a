"""The index of a large annotation file, kept in files so that no later start reads the whole text again."""

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fgvc.data.packed_paths import map_array
from fgvc.files.cache_folder import cache_folder

Arrays = Mapping[str, npt.NDArray[Any]]

FORMAT = 1
"""Raise it when the arrays of the same file change: older indexes are then passed by."""

KEPT_FROM = 2**25
"""Bytes of the smallest file whose index is kept; a smaller one is read in half a second."""

_ABANDONED = 600
"""Seconds after which a draft is taken for that of a process that was killed."""


def indexed(path: Path, names: tuple[str, ...], make: Callable[[], Arrays], check: Callable[[Arrays], bool]) -> Arrays:
    """Return what `make` returns; of a large file from the cache folder, where an earlier start has left it.

    The index is known by the file's path, size and time of change: after a change it is made anew. One that is damaged
    is made anew, too, and without a folder that can be written, it is made in memory. stderr is told of all this.

    Args:
        path: the file that `make` reads.
        names: of the arrays.
        make: reads the file.
        check: whether kept arrays fit together.

    Returns:
        name -> array, mapped from files or in memory.
    """
    try:
        status = path.stat()
    except OSError:
        return make()  # which says what is wrong
    if status.st_size < KEPT_FROM:
        return make()
    folder = _folder(path, status)
    _clear(folder.parent)
    if folder.is_dir():
        kept = _load(folder, names, check)
        if kept is not None:
            return kept
        _say(f"{folder}: the index of {path} is damaged and is made anew")
    _say(f"reading {path} ({status.st_size / 1e6:,.0f} MB) once; later starts read its index in {folder}")
    made, error = make(), None
    if _load(folder, names, check) is None:  # another process may have been faster
        try:
            _save(folder, made)
        except OSError as caught:
            error = caught
    # mapped, the arrays are shared with other processes, and what was read gives its memory back
    kept = _load(folder, names, check)
    if kept is None:
        why = (error and error.strerror) or error or "it does not read back"
        advice = "set FGVC_CACHE to a folder that can be written and has room"
        _say(f"{folder}: the index is not kept ({why}), so the next start reads all again; {advice}")
    return made if kept is None else kept


def _folder(path: Path, status: os.stat_result) -> Path:
    known = [FORMAT, str(path.resolve()), status.st_size, status.st_mtime_ns]
    digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()
    return cache_folder() / "indexes" / f"{path.stem}_{digest[:16]}"


def _clear(folder: Path) -> None:
    for draft in folder.glob(".*"):
        try:
            if time.time() - draft.stat().st_mtime > _ABANDONED:
                shutil.rmtree(draft)
        except OSError:
            pass  # another process has cleared it, or it is not ours


def _load(folder: Path, names: tuple[str, ...], check: Callable[[Arrays], bool]) -> Arrays | None:
    try:
        arrays = {name: map_array(folder / f"{name}.npy") for name in names}
        return arrays if check(arrays) else None
    except (OSError, ValueError):
        return None


def _save(folder: Path, arrays: Arrays) -> None:
    """Write all arrays into a draft and rename it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, array in arrays.items():
            with (draft / f"{name}.npy").open("wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())  # a power cut must not leave a whole name with half a content
        draft.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
