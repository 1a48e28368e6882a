"""Configs as people err in what they say: keys, values, classes and places. See fuzz_configs.py."""

import copy
import random
from collections.abc import Iterator
from typing import Any

JUNK: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, -3, 2, 7, 31, 33, 1.5, -0.5, 0.0, 1e-30, 1e30, 10**6, 10**12, 10**30, float("nan"),
    float("inf"), "", " ", "x", "fast", "1e-3", "0.1", "12abc", "null", "none", "auto", "nowhere", "photos/",
    "photos.csv", "../x", "a/b", "~", "/", ".", "\0", "é", "鳥", "\x1b[31m", "a: b", "@", "%", "2020-01-01", "0x1F",
    "1_000", "x" * 3000, "WholeImage", "LinearHead", "HSEHead", "RACNN", "CosineHead", "GeMPooling", "AveragePooling",
    "APN", "Backbone", "ImageFolder", "Table", "torch.nn.Linear", "os.system", "sys.exit", "builtins.print",
    "fgvc.methods.heads.linear.LinearHead", "nomodule.Net", "fgvc.nothing.Net", "resnet10t.x", "not_a_net",
    "vit_tiny_patch16_224", "genus", "species", "family", [], [0], [1, 2, 3], [0.5, 0.2], [-1, 1], ["x"], [None],
    [[]], ["family", "genus", "species"], ["species", "genus"], ["genus", "genus"], [{"name": "head", "epochs": 1}],
    [{"name": "all"}], [{"name": "all", "epochs": 0}], [{"name": "head", "epochs": "two"}], {}, {"x": 1},
    {"class_path": "LinearHead"}, {"class_path": None}, {"class_path": "WholeImage", "init_args": None},
    {"class_path": "Nothing", "init_args": {"a": 1}}, {"init_args": {}}, {"class_path": ["LinearHead"]},
    {"class_path": "AveragePooling", "init_args": {"x": 1}}, {1: 2}, {None: None},
)  # fmt: skip
KEYS = (
    "x", "init_args", "class_path", "lr", "levels", "pooling", "dropout", "head", "backbone", "weights", "root", "name",
    "batch-size", "batchsize", "learning_rate", "epochs", "num_classes", "image_size", "Model", "data ", "", "taxonomy",
    "class_counts", "seed", "callbacks", "logger", "plugins", "strategy", "precision", "fast_dev_run", "in_channels",
    "config", "help", "print_config", "overwrite", "cycle_phases", "phases", "balance", "augmentation", "optimizer",
    "on_bad_image", "split_seed", "source_size", "layer_decay", "cutmix", "readouts", "compile", "gradient_clip_val",
    "limit_train_batches", "accumulate_grad_batches", "val_check_interval", "check_val_every_n_epoch", "detect_anomaly",
)  # fmt: skip
NEVER = ("name", "runs")  # whose value is a place that is written to: see `other_tree`
Place = tuple[dict[Any, Any], Any]


def misspelt(draw: random.Random, word: str) -> str:
    """Return a word with a letter left out, doubled, exchanged or changed."""
    if not word:
        return "x"
    i = draw.randrange(len(word))
    return draw.choice(
        [
            word[:i] + word[i + 1 :],
            word[:i] + word[i] + word[i:],
            word[:i] + word[i : i + 2][::-1] + word[i + 2 :],
            word[:i] + draw.choice("abcxyz_-. ") + word[i + 1 :],
            word.upper(),
            word.replace("_", "-"),
        ]
    )


def other_tree(draw: random.Random, plain: dict[str, Any]) -> Any:
    """Return a config with one to three errors."""
    plain = copy.deepcopy(plain)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        places = list(_places(plain))
        if not places:
            break
        draw.choice([_value, _value, _value, _key, _key, _drop, _add, _up, _down, _swap, _list, _deep])(draw, places)
    if draw.random() < 0.01:
        return draw.choice(JUNK)
    return plain


def _places(plain: Any) -> Iterator[Place]:
    """Yield (mapping, key) at every depth, in lists too."""
    if isinstance(plain, dict):
        for key, value in plain.items():
            yield plain, key
            yield from _places(value)
    elif isinstance(plain, list):
        for value in plain:
            yield from _places(value)


def _value(draw: random.Random, places: list[Place]) -> None:
    """Put something else in place of a value: often a near miss, or a number of another size."""
    holder, key = draw.choice(places)
    value = holder[key]
    if isinstance(value, str) and draw.random() < 0.4:
        holder[key] = misspelt(draw, value)
    elif isinstance(value, int | float) and draw.random() < 0.4:
        holder[key] = draw.choice(
            [-value, 0, -1, value * 1000, value + 0.5, str(value), f"{value}px", [value], 1 - value]
        )
    else:
        holder[key] = copy.deepcopy(draw.choice(JUNK))


def _key(draw: random.Random, places: list[Place]) -> None:
    """Misspell a key, where it stands."""
    holder, key = draw.choice(places)
    pairs = [(misspelt(draw, str(k)) if k == key else k, v) for k, v in holder.items()]
    holder.clear()
    holder.update(pairs)


def _drop(draw: random.Random, places: list[Place]) -> None:
    """Leave a key out."""
    holder, key = draw.choice(places)
    del holder[key]


def _add(draw: random.Random, places: list[Place]) -> None:
    """Put in a key that belongs elsewhere, or nowhere."""
    holder, _ = draw.choice(places)
    holder[draw.choice(KEYS)] = copy.deepcopy(draw.choice(JUNK))


def _up(draw: random.Random, places: list[Place]) -> None:
    """Move what is inside a mapping one level up."""
    holder, key = draw.choice(places)
    if isinstance(holder[key], dict):
        holder.update(holder.pop(key))


def _down(draw: random.Random, places: list[Place]) -> None:
    """Move a key into the mapping beside it, or into a mapping of its own."""
    holder, key = draw.choice(places)
    beside = [value for k, value in holder.items() if isinstance(value, dict) and k != key]
    draw.choice(beside or [holder.setdefault("x", {})])[key] = holder.pop(key)


def _swap(draw: random.Random, places: list[Place]) -> None:
    """Exchange two values, which may be whole classes."""
    (first, a), (second, b) = draw.choice(places), draw.choice(places)
    first[a], second[b] = copy.deepcopy(second[b]), copy.deepcopy(first[a])


def _list(draw: random.Random, places: list[Place]) -> None:
    """Wrap a value in a list or a mapping, or a mapping in its keys."""
    holder, key = draw.choice(places)
    value = holder[key]
    holder[key] = draw.choice([[value], {"value": value}, list(value) if isinstance(value, dict) else [value, value]])


def _deep(draw: random.Random, places: list[Place]) -> None:
    """Bury a value."""
    holder, key = draw.choice(places)
    for _ in range(draw.choice([5, 60])):
        holder[key] = draw.choice([[holder[key]], {draw.choice(KEYS): holder[key]}])
