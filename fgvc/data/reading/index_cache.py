"""The record table of a large annotation file, kept as an Arrow file: later starts do not read the text again."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from fgvc.data.record_table import RecordTable, open_table
from fgvc.files.cache_folder import cache_folder
from fgvc.files.lines import tell
from fgvc.files.whole_files import flush, whole_folder

FORMAT = 2
"""Raise it when the table of the same file changes: older indexes are then ignored."""

KEPT_FROM = 2**25
"""Bytes of the smallest file whose index is kept; a smaller one is read in half a second."""

_ABANDONED = 600
"""Seconds after which a draft counts as left by a process that was killed."""


def indexed(path: Path, kinds: Mapping[str, type[np.generic]], make: Callable[[], RecordTable]) -> RecordTable:
    """Return what `make` returns; for a large file, return the table that an earlier start left in the cache folder.

    The index is found by the file's path, size and time of change: a changed file is read again. A damaged index is
    made again, too. Without a folder that can be written, the table stays in memory. stderr is told of all this.

    Args:
        path: the file that `make` reads.
        kinds: the columns of numbers that the table has.
        make: reads the file.

    Returns:
        The table, mapped from a file or in memory.
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
        kept = _load(folder, kinds)
        if kept is not None:
            return kept
        _say(f"{folder}: the index of {path} is damaged and is made anew")
    _say(f"reading {path} ({status.st_size / 1e6:,.0f} MB) once; later starts read its index in {folder}")
    table, error = make(), None
    if _load(folder, kinds) is None:  # another process may have been faster
        try:
            _save(folder, table)
        except OSError as caught:
            error = caught
    # a mapped table is shared with other processes, and gives back the memory of what was read
    kept = _load(folder, kinds)
    if kept is None:
        why = (error and error.strerror) or error or "it does not read back"
        advice = "set FGVC_CACHE to a folder that can be written and has room"
        _say(f"{folder}: the index is not kept ({why}), so the next start reads all again; {advice}")
    return table if kept is None else kept


def _folder(path: Path, status: os.stat_result) -> Path:
    identity = [FORMAT, str(path.resolve()), status.st_size, status.st_mtime_ns]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return cache_folder() / "indexes" / f"{path.stem}_{digest[:16]}"


def _clear(folder: Path) -> None:
    for draft in folder.glob(".*"):
        try:
            if time.time() - draft.stat().st_mtime > _ABANDONED:
                shutil.rmtree(draft)
        except OSError:
            pass  # another process has removed it, or it belongs to another user


def _load(folder: Path, kinds: Mapping[str, type[np.generic]]) -> RecordTable | None:
    try:
        return open_table(folder / "records.arrow", kinds)
    except (OSError, ValueError):
        return None


def _save(folder: Path, table: RecordTable) -> None:
    with whole_folder(folder) as draft:
        with (draft / "records.arrow").open("wb") as file:
            table.save(file)
            flush(file)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one


def _say(line: str) -> None:
    tell(line)
