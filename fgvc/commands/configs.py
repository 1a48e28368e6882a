"""`fgvc configs`: the configs that come with fgvc, by stem."""

from fgvc.files.shipped import config_stems


def main(words: list[str]) -> int:
    """Print the stem and the path of every config, whatever words follow, and return the exit code."""
    print("\n".join(f"{stem:<20} {path}" for stem, path in config_stems().items()))
    return 0
