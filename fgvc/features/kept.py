"""What a folder of features has already, and whether it goes with what is asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fgvc.errors import UsageError
from fgvc.features.folder import DESCRIPTION, read_description, table_of
from fgvc.features.part_files import Rows, Stamp, read_rows, read_stamp
from fgvc.features.unfinished import FOLDER


class Kept(NamedTuple):
    """A table that is there and was made by the same network. stamp: what it says of itself. rows: its photographs."""

    stamp: Stamp
    rows: Rows


def check_terms(folder: Path, terms: Mapping[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """Return what the folder says of itself, if its features are of the same network; None where there are none.

    Args:
        folder: of features, or where they will be.
        terms: what features depend on beside the photographs: name -> plain value.
        overwrite: features on other terms may be replaced.

    Raises:
        UsageError: features on other terms, or a folder of something else.
    """
    try:
        described = read_description(folder)
    except UsageError:
        if not overwrite:
            raise
        return None
    if described is None:
        others = [one.name for one in folder.iterdir() if one.name != FOLDER] if folder.is_dir() else []
        strange = [name for name in others if not name.startswith(".") and not name.endswith((".parquet", ".npy"))]
        if strange or (folder.exists() and not folder.is_dir()):
            raise UsageError(f"{folder}: no folder of features, so nothing is written there; choose another --output")
        return None
    before = described["terms"]
    for name in {**before, **terms}:
        old, now = before.get(name), terms.get(name)
        if old != now:
            if overwrite:
                return None
            raise UsageError(
                f"{folder}: holds features with {name} {_short(old)}, not {_short(now)}; choose another --output, or "
                "give --overwrite to replace them"
            )
    return described


def kept_tables(folder: Path, parts: Mapping[str, Mapping[str, Any]], terms: str) -> dict[tuple[str, str], Kept]:
    """Return (split, view) -> the table of it, where it is whole and of the same network.

    Args:
        folder: of features.
        parts: split -> view -> anything: which tables are looked for.
        terms: the hash of the terms.
    """
    found = {}
    for split, views in parts.items():
        for view in views:
            table = table_of(folder, split, view)
            try:
                stamp = read_stamp(table)
                if stamp.terms == terms and (not stamp.maps or (folder / stamp.maps).is_file()):
                    found[split, view] = Kept(stamp, read_rows(table))
            except (OSError, ValueError, KeyError):  # missing or damaged: it is made anew
                continue
    return found


def remove_others(folder: Path, parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Remove the files of features that the new description no longer names."""
    wanted = {DESCRIPTION}
    for split, views in parts.items():
        for view in views:
            table = table_of(folder, split, view)
            try:
                wanted |= {table.name, read_stamp(table).maps}
            except (OSError, ValueError, KeyError):  # of another split; whoever opens the folder is told
                return
    for file in folder.iterdir():
        if file.suffix in (".parquet", ".npy") and file.name not in wanted:
            file.unlink(missing_ok=True)


def _short(value: Any) -> str:
    text = ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, Mapping) else str(value)
    is_hash = len(text) in (16, 64) and set(text) <= set("0123456789abcdef")
    return f"{text[:8]}..." if is_hash else text
