"""`fgvc configs`: the configs that come with fgvc, by stem."""

from fgvc.files.shipped import config_stems


def main(words: list[str]) -> int:
    """Print stem, kind and path of every config, whatever words follow, and return the exit code."""
    kinds = {"data": "data", "networks": "network", "methods": "method", "few_shot": "few-shot"}
    rows = [(stem, kinds.get(path.parent.name, "all of a run"), path) for stem, path in config_stems().items()]
    print("\n".join(f"{stem:<20} {kind:<13} {path}" for stem, kind, path in rows))
    return 0
