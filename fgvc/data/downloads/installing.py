"""Install a data set in its folder: check the room, lock, fetch, check, unpack, move into place."""

import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fgvc.data.downloads.facts import Archive, DataSet
from fgvc.data.downloads.fetching import fetch
from fgvc.data.downloads.partial_file import readable
from fgvc.data.downloads.unpacking import unpack
from fgvc.errors import FgvcError, UsageError
from fgvc.files.lines import tell
from fgvc.files.locks import lock

SLACK = 2**30
"""Bytes that any archive may unpack to beyond twice what is expected of it."""


def describe(chosen: DataSet) -> str:
    """Return lines about a data set: its title, makers, terms, files and sizes."""
    lines = [chosen.title, f"  source  {chosen.source}", *(f"  terms   {line}" for line in chosen.terms)]
    if chosen.part:
        lines.append(f"  part    {chosen.part} (--part: {', '.join(chosen.parts)})")
    for archive in chosen.archives:
        about = "" if archive.is_exact else "about "
        lines.append(
            f"  file    {archive.url} ({about}{readable(archive.bytes)}, md5 {archive.md5 or 'not published'})"
        )
    fetched, unpacked = (sum(sizes) for sizes in zip(*((a.bytes, a.unpacked) for a in chosen.archives), strict=True))
    return "\n".join([*lines, f"  in all  {readable(fetched)} to fetch, about {readable(unpacked)} unpacked"])


def next_steps(chosen: DataSet, home: Path) -> str:
    """Return the two commands that a user gives next."""
    arguments = {"root": home / chosen.root, **chosen.arguments}
    values = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in arguments.items()}
    flags = " ".join(f"--data.source.init_args.{key} {shlex.quote(value)}" for key, value in values.items())
    return (
        f"next: fgvc data verify --config {chosen.config} {flags}\n"
        f"      fgvc fit --config {chosen.config} --config whole_image {flags}"
    )


def space_needed(archives: Sequence[Archive], folder: Path, keep: bool) -> int:
    """Return about how many more bytes a folder holds at the worst moment.

    Args:
        archives: what is fetched and unpacked there, one after the other.
        folder: where that happens; bytes that have arrived there are not counted again.
        keep: archives stay after they are unpacked.
    """
    used = worst = 0
    for archive in archives:
        waiting = [folder / archive.name, folder / f"{archive.name}.part"]
        had = min(archive.bytes, sum(file.stat().st_size for file in waiting if file.is_file()))
        used += archive.bytes - had
        worst = max(worst, used + archive.unpacked)
        used += archive.unpacked - (0 if keep else archive.bytes)
    return worst


def obtain(chosen: DataSet, home: Path, keep: bool) -> None:
    """Fetch and unpack what is missing of a data set.

    Args:
        chosen: the data set, of one part.
        home: the folder that it goes into.
        keep: archives stay after they are unpacked.

    Raises:
        FgvcError: it cannot be fetched, is not the published one, or does not fit on the disk.
        UsageError: `home` is no folder that can be written.
    """
    folder = home / chosen.into
    missing = []
    for archive in chosen.archives:
        if archive.is_unpacked(folder):
            tell(f"{folder / archive.makes[-1]}: already there, left as it is")
        else:
            missing.append(archive)
    if not missing:
        return
    _check_space(home, space_needed(missing, folder, keep))
    with _alone(folder):
        for archive in missing:
            size, at_most = (archive.bytes, None) if archive.is_exact else (None, 2 * archive.bytes)
            fetch(archive.url, folder / archive.name, archive.md5, size, at_most)
            try:
                count = _install(archive, folder)
                if not keep:
                    (folder / archive.name).unlink()
            except OSError as error:
                raise FgvcError(f"{folder}: cannot be written ({error.strerror}); mend it and repeat") from None
            tell(f"{folder / archive.makes[-1]}: {count:,} files of {archive.name}")


def _install(archive: Archive, folder: Path) -> int:
    """Unpack an archive into a temporary folder, then move its files into place, so that none is there half written."""
    temporary = folder / f".{archive.name}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    temporary.mkdir()
    try:
        count = unpack(folder / archive.name, temporary, 2 * archive.unpacked + SLACK)
        for name in archive.makes:
            places = [path for path in (temporary / name, *temporary.glob(f"*/{name}")) if path.exists()]
            if not places:
                raise FgvcError(f"{folder / archive.name}: holds no {name}; look for another source")
            if not os.path.lexists(folder / name):
                places[0].rename(folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return count


def _check_space(home: Path, needed: int) -> None:
    existing = next(path for path in (home, *home.parents) if path.exists())
    if not existing.is_dir():
        raise UsageError(f"--to {home}: {existing} is a file, not a folder")
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise FgvcError(
            f"{home}: {readable(free)} free, about {readable(needed)} needed; make room, or choose another --to"
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder and lock it against a second run; the lock ends when the process ends."""
    path = folder / ".fgvc_download"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise UsageError(f"--to {folder}: cannot be written ({error.strerror}); choose another folder") from None
    with file:
        if not lock(file):
            raise FgvcError(f"{folder}: another `fgvc data download` is at work there; wait for it")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
