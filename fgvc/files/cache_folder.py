"""The folder of what can be made again: generated pictures and indexes."""

import os
from pathlib import Path


def cache_folder(root: str | None = None) -> Path:
    """Return the folder that generated data are kept in: `root`, else FGVC_CACHE, else ~/.cache/fgvc."""
    return Path(root or os.environ.get("FGVC_CACHE") or "~/.cache/fgvc").expanduser()
