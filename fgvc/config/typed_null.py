"""`--KEY null` for a key inside a part, such as `--model.recognizer.backbone.last_stride null`.

jsonargparse hands the value of such a key down from parser to parser as text. There null has become `None`, which its
YAML loader takes for a word.
"""

from typing import Any

import jsonargparse
import yaml

_load_yaml = jsonargparse.get_loader("yaml")


def understand_null() -> None:
    """Let the parsers of this process read `None` as null, as they write it."""
    jsonargparse.set_loader("yaml", _load, (yaml.YAMLError,))


def _load(text: str) -> Any:
    return None if text == "None" else _load_yaml(text)
