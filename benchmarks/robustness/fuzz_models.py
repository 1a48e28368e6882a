"""Mutated model files, each read with `fgvc.model_file.model.load`. See fuzz.py."""

import copy
import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

STORED = Path(__file__).parents[2] / "tests/stored/format_3"
DESCRIPTION, WEIGHTS = "fgvc.json", "model.safetensors"
HEADS = {DESCRIPTION: 1200, WEIGHTS: 9000}  # the part of each file whose bytes mean most
JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2, 3, 7, 10**5, 10**6, 10**30, 0.5, 1e-300, float("nan"), float("inf"), "", "x", "none",
    "/etc/passwd", "../x", "\ud800", "hf-hub:timm/resnet50", "local-dir:x", "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224", [], {}, [[]], [0] * 50, {"class_path": "GeMPooling"}, {"class_path": "os.system"},
)  # fmt: skip
KEYS = (
    "x", "layers", "channels", "width", "name", "pooling", "head", "img_size", "block", "stem_type", "output_stride",
    "aa_layer", "act_layer", "drop_path_rate", "num_classes", "global_pool", "dropout", "init_args", "class_path",
)  # fmt: skip


def prepare() -> None:
    """Nothing is needed in the working folder."""


def make(draw: random.Random) -> dict[str, bytes]:
    """Return the two files of a model folder: bytes of either changed, or the described tree."""
    files = dict(whole())
    how = draw.random()
    if how < 0.5:
        files[DESCRIPTION] = json.dumps(_other_tree(draw)).encode()
    else:
        name = DESCRIPTION if how < 0.75 else WEIGHTS
        if name == WEIGHTS and draw.random() < 0.5:  # as in formats that had no hash: the content must be looked at
            files[DESCRIPTION] = json.dumps({**json.loads(files[DESCRIPTION]), "weights_sha256": None}).encode()
        files[name] = _other_bytes(draw, files[name], HEADS[name])
    return files


def run(files: dict[str, bytes]) -> None:
    """Load it."""
    from fgvc.model_file.model import load

    folder = Path("model")
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    load(folder)


@cache
def whole() -> dict[str, bytes]:
    """Return the files that are mutated."""
    return {name: (STORED / name).read_bytes() for name in (DESCRIPTION, WEIGHTS)}


def _other_tree(draw: random.Random) -> Any:
    """Return the description with one or two values changed, taken out or put in, most of them in the architecture."""
    tree = json.loads(whole()[DESCRIPTION])
    tree["weights_sha256"] = None  # so that the architecture is looked at
    for _ in range(draw.randint(1, 2)):
        places = list(_places(tree))
        inside = [(holder, key, top) for holder, key, top in places if top == "architecture"]
        holder, key, _top = draw.choice(inside if draw.random() < 0.6 and inside else places)
        how = draw.random()
        if how < 0.6:
            holder[key] = copy.deepcopy(draw.choice(JUNK))
        elif how < 0.75:
            del holder[key]
        elif isinstance(holder, dict):
            holder[draw.choice(KEYS)] = copy.deepcopy(draw.choice(JUNK))
    return tree


def _places(value: Any, top: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Yield (holder, key, key of the outermost mapping) of everything in a tree, of long lists the first five."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value[:5]) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield value, key, top or key
        yield from _places(inner, top or key)


def _other_bytes(draw: random.Random, content: bytes, head: int) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        place, how = draw.randrange(min(len(changed), head)), draw.random()
        if how < 0.6:
            changed[place] = draw.randrange(256)
        elif how < 0.8:
            del changed[place : place + draw.randint(1, 50)]
        else:
            changed[place:place] = draw.randbytes(draw.randint(1, 20))
    return bytes(changed)
