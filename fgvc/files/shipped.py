"""The one look-up of files that travel with the package: configs by bare stem and label facts.

In an installed wheel they lie inside the package, in a clone beside it.
"""

from pathlib import Path

from fgvc.errors import FgvcError, UsageError, did_you_mean

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the package; its parent is the root of a clone."""

_SUBFOLDERS = ("", "data", "networks", "methods", "few_shot")


def config_file(stem_or_path: str | Path) -> Path:
    """Return a config: a file that exists is taken as it is, a bare stem is looked up among the shipped configs.

    Args:
        stem_or_path: `my/own.yaml`, or the name of a shipped config without folder and suffix, e.g. `cub`.

    Raises:
        UsageError: neither a file nor a known stem.
    """
    path = Path(stem_or_path).expanduser()
    if path.is_file():
        return path
    known = config_stems()
    if str(stem_or_path) in known:
        return known[str(stem_or_path)]
    places = ", ".join(str(folder) for folder in _config_folders())
    near = did_you_mean(path.stem, known)
    raise UsageError(f"config {str(stem_or_path)!r}: no such file and no such stem in {places}{near}")


def config_stems() -> dict[str, Path]:
    """Return stem -> file of every shipped config.

    Raises:
        FgvcError: two configs share a stem.
    """
    found: dict[str, Path] = {}
    for path in (path for folder in _config_folders() for path in sorted(folder.glob("*.yaml"))):
        if path.stem in found:
            raise FgvcError(f"{path}: the stem {path.stem!r} is taken by {found[path.stem]}; rename one of the two")
        found[path.stem] = path
    return found


def facts(relative: str) -> Path:
    """Return a file of label facts, e.g. `cub/taxonomy.csv`.

    Raises:
        FgvcError: the package was installed or cloned without it.
    """
    path = _shipped_folder("_facts", "data") / relative
    if not path.is_file():
        raise FgvcError(f"{path}: the label facts are missing from this installation; install fgvc again")
    return path


def download_stems() -> dict[str, Path]:
    """Return stem -> file of the facts about every data set that `fgvc data download` fetches."""
    return {path.stem: path for path in sorted((_shipped_folder("_facts", "data") / "downloads").glob("*.yaml"))}


def _config_folders() -> list[Path]:
    root = _shipped_folder("_configs", "configs")
    return [root / sub for sub in _SUBFOLDERS]


def _shipped_folder(in_package: str, in_clone: str) -> Path:
    packaged = PACKAGE / in_package
    return packaged if packaged.is_dir() else PACKAGE.parent / in_clone
