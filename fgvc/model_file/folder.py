"""The two files of a model in their folder: found, checked and read, and written so that a kill leaves a whole model.

Neither torch nor timm is loaded. The description holds the hash of its weights, so that two files that do not belong
together are told. Both are first written into `.unfinished`, then renamed, the weights first. A kill between the two
renames leaves the new weights and, in `.unfinished`, the description that belongs to them: it is read in place of the
old one. To swap whole folders would leave a moment without any model, and lose what else lies in the folder.
"""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from fgvc.errors import FgvcError, UsageError
from fgvc.files import weight_files
from fgvc.files.run_folder import followed
from fgvc.model_file import schema
from fgvc.model_file.foreign_files import DESCRIPTION, WEIGHTS, describe_bytes, no_model_at
from fgvc.model_file.migrations import FORMAT, migrate

UNFINISHED = ".unfinished"
LARGEST = {DESCRIPTION: 64 * 2**20, WEIGHTS: weight_files.LARGEST}
"""In bytes; what is larger is no model of fgvc's."""


class ModelFileError(FgvcError):
    """A folder that holds no model we can read; the message names the file and says what was found."""


class NoModelError(ModelFileError, UsageError):
    """A path where no model is; exit code 2."""


@dataclass(frozen=True)
class Tensor:
    """What the header of the weights says of one. dtype: as safetensors writes it, `F32`. shape: its sizes."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Stored:
    """A model in its folder.

    home: the folder. described: its description, checked, as today's format has it. format: as it was written.
    """

    home: Path
    described: dict[str, Any]
    format: int

    @property
    def description(self) -> Path:
        """The path of `fgvc.json`."""
        return self.home / DESCRIPTION

    @property
    def weights(self) -> Path:
        """The path of `model.safetensors`."""
        return self.home / WEIGHTS


def read(folder: str | Path) -> Stored:
    """Read the description of the model in a run folder or its `model` folder; its weights are not needed.

    Raises:
        ModelFileError: no model there, or one that is damaged, newer than this fgvc, or not fgvc's.
    """
    path = followed(Path(folder))
    home = next((one for one in (path, path / "model") if os.path.lexists(one / DESCRIPTION)), None)
    if home is None:
        raise NoModelError(no_model_at(path))
    return _cut_off(home) or _described(home, home / DESCRIPTION)


def is_model(path: str | Path) -> bool:
    """Say whether a model lies in a run folder or its `model` folder; whether it is whole is not asked."""
    try:
        folder = followed(Path(path))
        return any(os.path.lexists(one / DESCRIPTION) for one in (folder, folder / "model"))
    except (OSError, ValueError):  # a name that no file can have
        return False


def header(stored: Stored) -> dict[str, Tensor]:
    """Return what the header of the weights says that they hold, by name.

    Raises:
        ModelFileError: they are missing, too large or no safetensors.
    """
    path = _checked(stored.home, stored.weights)
    try:
        if odd := weight_files.too_large(path):
            raise ModelFileError(f"{path}: {odd}; not the weights of a model of fgvc's")
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return {name: Tensor(one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path}: {_odd(path, error)}") from None
    except MemoryError:
        size = path.stat().st_size / 2**20
        raise ModelFileError(f"{path}: {size:.0f} MiB; this machine has no memory for it") from None


def tensors(stored: Stored) -> dict[str, Tensor]:
    """Return what the weights hold, by name; every byte is compared with the hash that the description has of them.

    Raises:
        ModelFileError: they are missing, damaged, no safetensors, or not those of the description.
    """
    found, path = header(stored), stored.weights
    wanted = stored.described["weights_sha256"]
    if wanted is not None and (digest := _sha256(path)) != wanted:
        raise ModelFileError(
            f"{path}: damaged, or not the weights of {DESCRIPTION} beside it (sha256 {digest[:8]}..., not "
            f"{wanted[:8]}...); copy both files again"
        )
    return found


def sha256(stored: Stored) -> str:
    """Return the hash of the weights, as hexadecimal digits."""
    return stored.described["weights_sha256"] or _sha256(stored.weights)


def write(folder: Path, described: dict[str, Any], write_weights: Callable[[Path], object]) -> None:
    """Write a model in place of the one that may be there, which stays whole until the new one is.

    Args:
        folder: made where it is missing; what else lies in it stays.
        described: without `format` and `weights_sha256`.
        write_weights: writes a safetensors file to a path.

    Raises:
        FgvcError: the folder cannot be written, or the description would not be read again.
    """
    parts = folder / UNFINISHED
    weights, description = parts / WEIGHTS, parts / DESCRIPTION
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if parts.is_dir():  # of a write that was killed
            if _cut_off(folder):
                description.replace(folder / DESCRIPTION)
            shutil.rmtree(parts)
        parts.mkdir()
        write_weights(weights)
        whole = {"format": FORMAT, **described, "weights_sha256": _sha256(weights)}
        text = json.dumps(whole, indent=1, ensure_ascii=False)
        schema.check(schema.parse(text))
        description.write_text(text, encoding="utf-8", errors="surrogateescape")  # names of folders
        shutil.copymode(description, weights)  # safetensors lets the owner alone read it
        for path in (weights, description):
            with path.open("rb+") as file:
                os.fsync(file.fileno())  # or a power cut after the rename could leave an empty file
    except (OSError, SafetensorError, ValueError, TypeError, UsageError) as error:
        shutil.rmtree(parts, ignore_errors=True)
        raise FgvcError(f"{folder}: the model cannot be written ({error})") from None
    try:
        weights.replace(folder / WEIGHTS)
        description.replace(folder / DESCRIPTION)
        parts.rmdir()
    except OSError as error:  # what is in `.unfinished` stays, for `read`
        raise FgvcError(f"{folder}: the model cannot be written ({error})") from None


def _cut_off(home: Path) -> Stored | None:
    """Return the description that a killed write left in `.unfinished`, if its weights are in their place already."""
    try:
        if not (home / UNFINISHED / DESCRIPTION).is_file():
            return None
        found = _described(home, home / UNFINISHED / DESCRIPTION)
        return found if found.described["weights_sha256"] == _sha256(_checked(home, home / WEIGHTS)) else None
    except ModelFileError:
        return None


def _described(home: Path, path: Path) -> Stored:
    try:
        with _checked(home, path).open("rb") as file:
            content = file.read()
        if kind := describe_bytes(content[:64]):
            raise ModelFileError(f"{path}: {kind}")
        parsed = schema.parse(content.decode(errors="surrogateescape"))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path}: damaged ({error}); copy it again") from None
    if not isinstance(parsed, dict):
        raise ModelFileError(f"{path}: {schema.shown(parsed)}; not an fgvc model description")
    try:
        described = migrate(parsed)
        schema.check(described)
    except RecursionError:
        raise ModelFileError(f"{path}: nested too deep; not an fgvc model description") from None
    except UsageError as error:
        raise ModelFileError(f"{path}: {error}") from None
    return Stored(home, described, parsed["format"])


def _checked(home: Path, path: Path) -> Path:
    """Return the path of a file that lies in its folder and can be read to its end."""
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(home)):
        raise ModelFileError(f"{path}: points outside its folder, to {real}; copy the file itself")
    try:
        found = real.stat()
    except OSError as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise ModelFileError(f"{path}: {reason}; copy it again") from None
    if not stat.S_ISREG(found.st_mode):
        raise ModelFileError(f"{path}: not a file; a model folder holds the two files {WEIGHTS} and {DESCRIPTION}")
    if found.st_size > LARGEST[path.name]:
        raise ModelFileError(f"{path}: {found.st_size / 2**20:.0f} MiB; at most {LARGEST[path.name] // 2**20} MiB")
    return path


def _odd(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        head = file.read(64)
    if kind := describe_bytes(head):
        return kind
    if head[8:9] == b"{":
        return f"cut short or damaged ({error}); copy it again"
    return f"not a safetensors file (it begins {head[:12]!r}); copy it again"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
