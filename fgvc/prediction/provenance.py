"""`NAME.provenance.json` beside a table of predictions: which model, which versions, which command made it."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fgvc.files.origin import now, versions
from fgvc.files.whole_files import open_whole
from fgvc.model_file.folder import read, sha256

WORDS = 50
"""A command with more words (a shell has written out `photos/*.jpg`) is cut there."""


def provenance_of(output: Path) -> Path:
    """Return the path of the file that goes with an output."""
    return output.with_name(f"{output.name}.provenance.json")


def hashes_of(model: Path) -> dict[str, str]:
    """Return file name -> SHA-256 of the two files of a model.

    Raises:
        ModelFileError: no model there.
    """
    stored = read(model)
    return {
        stored.weights.name: sha256(stored),
        stored.description.name: hashlib.sha256(stored.description.read_bytes()).hexdigest(),
    }


def hashes_of_all(models: Sequence[Path]) -> dict[str, str]:
    """Return what `hashes_of` does; of several models the hashes in their order.

    Raises:
        ModelFileError: no model there.
    """
    found = [hashes_of(model) for model in models]
    return {name: ", ".join(one[name] for one in found) for name in found[0]}


def save(
    output: Path,
    command: Sequence[str],
    model: Mapping[str, Any],
    options: Mapping[str, Any],
    counts: Mapping[str, int],
    started: str,
) -> Path:
    """Write the file; nothing in it names the machine or its user, beyond what stands in the command.

    Args:
        output: the table.
        command: the words after `fgvc`.
        model: path, hashes, device.
        options: flag -> value.
        counts: of pictures.
        started: ISO 8601, see `now`.

    Raises:
        FgvcError: it cannot be written.
    """
    cut = [] if len(command) <= WORDS else [f"... {len(command) - WORDS} more"]
    plain = {
        "output": output.name,
        "command": ["fgvc", *command[:WORDS], *cut],
        "model": dict(model),
        "options": dict(options),
        "counts": dict(counts),
        "started": started,
        "ended": now(),
        "versions": versions(),
        "platform": platform.platform(),
    }
    path = provenance_of(output)
    with open_whole(path) as file:
        file.write(json.dumps(plain, indent=1, ensure_ascii=False, default=str) + "\n")
    return path
