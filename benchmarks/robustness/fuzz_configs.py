"""Mutated configs and command lines, each taken through `fgvc fit` up to the first step of training. See fuzz.py."""

import copy
import os
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from benchmarks.robustness.fuzz_config_text import other_text
from benchmarks.robustness.fuzz_config_tree import JUNK, misspelt, other_tree

METHODS = Path(__file__).parents[2] / "configs/methods"
TREE = {"Larus canus": "Larus", "Larus fuscus": "Larus", "Sterna hirundo": "Sterna"}
SOURCES: tuple[dict[str, Any], ...] = (
    {"class_path": "ImageFolder", "init_args": {"root": "photos", "levels": ["genus", "species"], "seed": 0}},
    {"class_path": "ImageFolder", "init_args": {"root": "photos", "levels": None, "taxonomy": None}},
    {"class_path": "Table", "init_args": {"path": "photos.csv", "levels": ["genus", "species"], "group_column": None}},
    {"class_path": "Table", "init_args": {"path": "photos.csv", "label_column": "species", "split_column": "split"}},
)
SETTINGS: dict[str, Any] = {
    "data": {"batch_size": 4, "val_fraction": 0.0, "num_workers": 0, "fit": "crop", "crop_fraction": 0.9},
    "model": {"image_size": 32, "mixup": 0.0, "tta": ["flip"], "channels_last": True},
    "trainer": {"accelerator": "cpu", "devices": 1, "max_epochs": 2},
    "seed_everything": 0, "runs": "runs", "name": "fuzz", "ema": 0.99,
}  # fmt: skip


class Begun(Exception):  # noqa: N818 - nothing is wrong
    """Everything is made; training would begin."""


def prepare() -> None:
    """Paint a few photographs with a table of them, and stop every fit where it begins."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # `weights: pretrained` would wait for the network
    from pytorch_lightning import Trainer

    rows = ["path,genus,species,split"]
    for name, genus in TREE.items():
        for split, count in (("train", 4), ("val", 2), ("test", 1)):
            for number in range(count):
                path = Path("photos", split, genus, name, f"{number}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((40, 48, 3), 40 * number, np.uint8)).save(path)
                rows.append(f"{path},{genus},{name},{split}")
    Path("photos.csv").write_text("\n".join(rows), encoding="utf-8")
    Trainer.fit = _stop  # type: ignore[method-assign, assignment]


def make(draw: random.Random) -> dict[str, bytes]:
    """Return a config and the words beside it, one of the two or both wrong."""
    plain = _merged(draw.choice(methods()), {"data": {"source": draw.choice(SOURCES)}}, SETTINGS)
    how, words = draw.random(), []
    if how < 0.55:
        plain = other_tree(draw, plain)
    if how > 0.8:
        words = _other_words(draw, plain)
    text = _dumped(plain)
    content = other_text(draw, text) if 0.45 < how < 0.8 else text.encode()
    return {"config.yaml": content, "words.txt": "\n".join(words).encode("utf-8", "surrogatepass")}


def run(files: dict[str, bytes]) -> None:
    """Do what `fgvc fit --config config.yaml WORDS` does, in the working folder, then tidy it up."""
    from fgvc.commands import fit as fit_command

    Path("config.yaml").write_bytes(files["config.yaml"])
    words = files["words.txt"].decode("utf-8", "surrogatepass")
    known = set(Path().iterdir())
    try:
        fit_command.main(["--config", "config.yaml", *(words.split("\n") if words else [])])
    except Begun:
        pass  # accepted: training itself is not tried
    except SystemExit as end:  # --help and --print_config
        if end.code:
            raise
    finally:
        for path in set(Path().iterdir()) - known:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _stop(*_args: object, **_more: object) -> None:
    raise Begun


@cache
def methods() -> list[dict[str, Any]]:
    """Return the shipped methods with a small network that starts from random values."""
    found = []
    for path in sorted(METHODS.glob("*.yaml")):
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        _each_backbone(plain, lambda arguments: arguments.update(name="test_resnet", weights="none"))
        if "source_size" in plain.get("data", {}):
            plain["data"]["source_size"] = 64
        found.append(plain)
    return found


def _each_backbone(plain: Any, change: Callable[[dict[str, Any]], None]) -> None:
    if isinstance(plain, dict):
        if plain.get("class_path") == "Backbone":
            change(plain["init_args"])
        for value in plain.values():
            _each_backbone(value, change)


def _merged(*plains: dict[str, Any]) -> dict[str, Any]:
    """Return mappings laid over one another, key by key."""
    found: dict[str, Any] = {}
    for plain in plains:
        for key, value in plain.items():
            both = isinstance(value, dict) and isinstance(found.get(key), dict)
            found[key] = _merged(found[key], value) if both else copy.deepcopy(value)
    return found


def _dumped(plain: Any) -> str:
    try:
        return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    except RecursionError:
        return "{" * 5000


def _other_words(draw: random.Random, plain: dict[str, Any]) -> list[str]:
    """Return one to three flags: keys of the config with other values, misspelt, without a value or without dashes."""
    flags = list(_flags(plain))
    words = []
    for _ in range(draw.randint(1, 3)):
        flag = draw.choice(
            [*flags, "config", "resume", "init_from", "overwrite", "phases", "ckpt_path", "print_config"]
        )
        flag = misspelt(draw, flag) if draw.random() < 0.3 else flag
        value = str(draw.choice(JUNK)) if draw.random() < 0.6 else draw.choice(flags).rpartition(".")[2]
        value = value.replace("\n", " ")
        dashes = draw.choice(["--", "--", "--", "--", "-", "", "---"])
        words += [[f"{dashes}{flag}={value}"], [f"{dashes}{flag}", value], [f"{dashes}{flag}"]][
            draw.choice([0, 1, 1, 2])
        ]
    return words


def _flags(plain: dict[str, Any], above: str = "") -> list[str]:
    """Return the dotted keys, as flags spell them."""
    found = []
    for key, value in plain.items():
        dotted = f"{above}.{key}".lstrip(".")
        found.append(dotted.removesuffix(".class_path"))
        found += _flags(value, dotted) if isinstance(value, dict) else []
    return found
