"""Unpack an untrusted archive: only plain files and folders, only below one folder, only up to a limit."""

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple

from fgvc.data.downloads.partial_file import BLOCK, readable
from fgvc.errors import FgvcError
from fgvc.files.bars import byte_bar

HEADER = 512
"""Bytes that each file or folder adds to its contents, so that millions of empty ones reach the limit, too."""


class Member(NamedTuple):
    """Something in an archive; `stream` is None for a folder."""

    name: str
    stream: IO[bytes] | None


def unpack(archive: Path, folder: Path, limit: int) -> int:
    """Write the files of a .zip or .tar (plain, gz, bz2, xz) below a folder and return their number.

    Only contents are taken from the archive: owners, permissions (setuid) and dates are those of new files. Links,
    devices and names that lead out of the folder are refused, so that nothing written here can redirect what is
    written after it. This does what tarfile's `filter="data"` does, which Python lacks before 3.10.12 and 3.11.4 and
    which lets some links through; it also counts.

    Args:
        archive: the file.
        folder: a new folder of the caller's own; after an error it holds a part.
        limit: the bytes that all files may take.

    Raises:
        FgvcError: the archive is damaged, or holds more than the limit or what is refused, or the disk is full.
    """
    length, left, count = archive.stat().st_size, limit, 0
    watched = byte_bar(f"unpacking {archive.name}", length)
    try:
        with archive.open("rb") as raw, watched:
            for name, stream in _members(archive, raw):
                path = folder / _inside(archive, name)
                left = _spend(archive, left, HEADER, limit)
                if stream is None:
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with stream, path.open("wb") as file:
                    while block := stream.read(BLOCK):
                        left = _spend(archive, left, len(block), limit)
                        file.write(block)
                        watched.update(raw.tell() - watched.n)
                count += 1
    except _DAMAGE as error:
        raise _damaged(archive, error) from None
    except OSError as error:
        if error.errno is None:  # gzip and bz2 say so of their data
            raise _damaged(archive, error) from None
        raise FgvcError(f"{folder}: cannot be written ({error.strerror or error}) while unpacking {archive}") from None
    return count


_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # zipfile: encrypted, or an unknown compression
)


def _members(archive: Path, raw: IO[bytes]) -> Iterator[Member]:
    is_zip = raw.read(4) == b"PK\x03\x04"
    raw.seek(0)
    return _of_zip(archive, raw) if is_zip else _of_tar(archive, raw)


def _of_zip(archive: Path, raw: IO[bytes]) -> Iterator[Member]:
    with zipfile.ZipFile(raw) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(archive, info.filename, "is a link or a device")
            yield Member(info.filename, None if info.is_dir() else file.open(info))


def _of_tar(archive: Path, raw: IO[bytes]) -> Iterator[Member]:
    with tarfile.open(fileobj=raw) as file:
        while info := file.next():
            file.members.clear()  # type: ignore[attr-defined]  # else the headers of all files stay in memory
            if not info.isdir() and (not info.isfile() or info.issparse()):
                raise _refused(archive, info.name, "is a link, a device or a file with holes")
            yield Member(info.name, file.extractfile(info))
        while file.fileobj and file.fileobj.read(BLOCK):  # the checksum of a .gz stands at its very end
            pass


def _inside(archive: Path, name: str) -> Path:
    """Return the path of a member below the folder."""
    windows = PureWindowsPath(name)
    if name.startswith("/") or windows.anchor or ".." in windows.parts or "\0" in name:
        raise _refused(archive, name, "leads out of the folder")
    return Path(PurePosixPath(name))


def _spend(archive: Path, left: int, count: int, limit: int) -> int:
    if count > left:
        raise FgvcError(
            f"{archive}: unpacks to more than {readable(limit)}, which its size does not explain; it is not the "
            "archive that was meant"
        )
    return left - count


def _damaged(archive: Path, error: Exception) -> FgvcError:
    why = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")  # tarfile lists all that it tried
    return FgvcError(f"{archive}: damaged ({why}); delete it and give the same command again")


def _refused(archive: Path, name: str, why: str) -> FgvcError:
    return FgvcError(f"{archive}: its member {name!r} {why}; nothing of it is used: look for another source")
