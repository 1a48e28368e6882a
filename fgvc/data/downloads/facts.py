"""The facts about each data set that `fgvc data download` fetches: one shipped YAML each, `downloads/<stem>.yaml`."""

from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import yaml

from fgvc.errors import UsageError, did_you_mean
from fgvc.files.shipped import download_stems

_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class Archive:
    """A .tar, .tar.gz or .zip file.

    Args:
        url: its address.
        size: in bytes where it is known exactly, else rounded, e.g. `42 GiB`.
        makes: the files and folders it holds that are kept, in the order in which they are moved to their place; the
            last one there means that the archive is unpacked.
        md5: as its makers publish it, or None.
        part: the part of the data set that it belongs to; None: to all.
        expands: about how many times its size its files take; 1.1 for photographs.
    """

    url: str
    size: int | str
    makes: list[str]
    md5: str | None = None
    part: str | None = None
    expands: float = 1.1

    @property
    def name(self) -> str:
        """The name of the file."""
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def is_exact(self) -> bool:
        """Whether `size` is exact."""
        return isinstance(self.size, int)

    @property
    def bytes(self) -> int:
        """The size in bytes, exact or not."""
        if isinstance(self.size, int):
            return self.size
        number, unit = self.size.split()
        return int(float(number) * _UNITS[unit])

    @property
    def unpacked(self) -> int:
        """About how many bytes its files take."""
        return int(self.bytes * self.expands)

    def is_unpacked(self, folder: Path) -> bool:
        """Whether its files lie in a folder."""
        return (folder / self.makes[-1]).exists()


@dataclass(frozen=True)
class DataSet:
    """Archives, where they go, and what a user is told about them.

    Args:
        title: name and size, one line.
        source: the page of its makers.
        terms: the terms of use.
        config: stem of the config that reads it.
        root: the folder that its `root` names, below the one that the user chose.
        archives: small ones first, so that trouble shows early.
        into: the folder that the archives are unpacked in, below the one that the user chose.
        arguments: further `init_args` of its source.
        parts: name of a part -> `init_args` that read it; the first part is the default.
        part: the part that was chosen, see `of_part`.
    """

    title: str
    source: str
    terms: list[str]
    config: str
    root: str
    archives: list[Archive]
    into: str = "."
    arguments: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    part: str | None = None

    def of_part(self, part: str | None) -> "DataSet":
        """Return the data set with the archives and arguments of one part alone, the first one for None.

        Raises:
            UsageError: it has no such part.
        """
        if part is not None and part not in self.parts:
            there = f"it comes in the parts {', '.join(self.parts)}" if self.parts else "it comes whole"
            raise UsageError(f"--part {part}: no part of {self.title}; {there}{did_you_mean(part, self.parts)}")
        part = part or next(iter(self.parts), None)
        archives = [archive for archive in self.archives if archive.part in (None, part)]
        arguments = {**self.arguments, **self.parts.get(part or "", {})}
        return replace(self, archives=archives, arguments=arguments, part=part)


def data_set(stem: str) -> DataSet:
    """Read the facts of a data set.

    Raises:
        UsageError: there are none of that stem.
    """
    stems = download_stems()
    if stem not in stems:
        raise UsageError(f"{stem}: no data set that can be fetched; there are {', '.join(stems)}{_near(stem, stems)}")
    facts = yaml.safe_load(stems[stem].read_text(encoding="utf-8"))
    return DataSet(**{**facts, "archives": [Archive(**archive) for archive in facts["archives"]]})


def _near(stem: str, stems: dict[str, Path]) -> str:
    return did_you_mean(stem.lower().replace("_", ""), stems)
