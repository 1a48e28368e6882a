"""A run whose photographs lie where they are not looked for: its paths start at the folder in which it was made."""

from pathlib import Path
from typing import Any

PLACES = ("root", "path", "taxonomy")
"""The arguments of data sources that hold a path."""


def hint(source: Any) -> str:
    """Return what to add to an error of a run's data source: "" where a missing relative path is not the cause.

    Args:
        source: the part of a config that says how the source is made.
    """
    given = source.get("init_args") if hasattr(source, "get") else None
    paths = {key: given.get(key) for key in PLACES} if given else {}
    for key, path in paths.items():
        if isinstance(path, str) and not Path(path).is_absolute() and not Path(path).exists():
            return (
                f" (the run keeps {key}: {path}, which starts at the folder in which it was made, and this is "
                f"{Path.cwd()}: start fgvc there, or give --data.source.init_args.{key} PATH)"
            )
    return ""
