"""`fgvc configs`: the configs that come with fgvc, by stem."""

from fgvc.errors import UsageError
from fgvc.files.shipped import config_stems


def main(words: list[str]) -> int:
    """Print the stem and the path of every config and return the exit code.

    Raises:
        UsageError: words after the command.
    """
    if words:
        raise UsageError(f"fgvc configs: takes no words; {words[0]!r} given")
    print("\n".join(f"{stem:<20} {path}" for stem, path in config_stems().items()))
    return 0
