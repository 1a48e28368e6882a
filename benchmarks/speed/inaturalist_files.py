"""Annotation files like those of iNaturalist 2021, of any size: all fields of the real ones, a function of the seed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

RANKS = ("kingdom", "phylum", "class", "order", "family", "genus")
ABOVE = (3, 13, 51, 273, 1103, 4884)
"""How many of each rank stand above the 10,000 species of 2021."""

PEOPLE = (
    "Anna Müller",
    "佐藤 花子",
    "🦉 Owl \U0001d4d0",
    'Jo "Jay" {Lee}',
    "c:\\[photos]",
    "",
    "Zoë, no rights reserved",
)
BATCH = 20_000


def write(root: Path, classes: int, images: int, val_images: int, seed: int = 0) -> int:
    """Write train.json and val.json, and an empty file where each one's first photograph is looked for.

    Args:
        root: the folder; made where it is missing.
        classes: number of species.
        images: photographs of train; each species has one at least, where there are enough.
        val_images: photographs of val.
        seed: decides all of it.

    Returns:
        The bytes of both files.
    """
    species = categories(classes)
    root.mkdir(parents=True, exist_ok=True)
    for number, (split, count) in enumerate({"train": images, "val": val_images}.items()):
        draw = np.random.default_rng([seed, number])
        labels = np.concatenate([np.arange(classes), draw.integers(0, classes, max(0, count - classes))])[:count]
        labels = draw.permutation(labels)
        with (root / f"{split}.json").open("w", encoding="utf-8", newline="") as file:
            file.write('{"info": {"year": 2021, "description": "made up, for measuring"}, "images": [')
            for start in range(0, count, BATCH):
                lines = list(_images(split, start, labels[start : start + BATCH].tolist(), species, draw))
                file.write(", " * (start > 0) + ", ".join(lines))
                if start == 0:
                    _touch(root / json.loads(lines[0])["file_name"])
            file.write(f'], "categories": {json.dumps(species)}, "annotations": [')
            for start in range(0, count, BATCH):
                numbered = enumerate(labels[start : start + BATCH].tolist(), start)
                lines = [f'{{"id": {i}, "image_id": {i}, "category_id": {label}}}' for i, label in numbered]
                file.write(", " * (start > 0) + ", ".join(lines))
            file.write('], "licenses": [{"id": 0, "name": "Public Domain", "url": "http://example.org/"}]}')
    return sum((root / f"{split}.json").stat().st_size for split in ("train", "val"))


def categories(classes: int) -> list[dict[str, Any]]:
    """Return species with six ranks above them, which narrow as those of 2021 do."""
    sizes = [max(1, classes * size // 10_000) for size in ABOVE]
    found = []
    for index in range(classes):
        place, ranks = index, []
        for rank, size in reversed(list(zip(RANKS, sizes, strict=True))):
            place %= size
            ranks.append(f"{rank.capitalize()}{place:04d}")
        lineage = dict(zip(RANKS, reversed(ranks), strict=True))
        name = {"name": f"{lineage['genus']} vulgaris{index}", "common_name": f"Möwe {index} 鳥"}
        folder = "_".join((f"{index:05d}", *lineage.values(), f"vulgaris{index}"))
        more = {"specific_epithet": f"vulgaris{index}", "image_dir_name": folder}
        found.append({"id": index, **name, "supercategory": "Birds", **lineage, **more})
    return found


def _images(
    split: str, start: int, labels: list[int], species: list[dict[str, Any]], draw: np.random.Generator
) -> Iterator[str]:
    count = len(labels)
    names = draw.bytes(16 * count).hex()
    people = [json.dumps(person, ensure_ascii=person.isascii()) for person in PEOPLE]
    places = draw.uniform((-90, -180), (90, 180), (count, 2)).round(5).tolist()
    for i, label in enumerate(labels):
        name = names[32 * i : 32 * i + 32]
        uuid = f"{name[:8]}-{name[8:12]}-{name[12:16]}-{name[16:20]}-{name[20:]}"
        latitude, longitude = places[i] if i % 50 else ("null", "null")
        yield (
            f'{{"id": {start + i}, "width": 500, "height": {300 + i % 200}, '
            f'"file_name": "{split}/{species[label]["image_dir_name"]}/{uuid}.jpg", "license": {i % 7}, '
            f'"rights_holder": {people[i % len(people)]}, "date": "2014-07-{1 + i % 28:02d} 18:45:{i % 60:02d}+00:00", '
            f'"latitude": {latitude}, "longitude": {longitude}, "location_uncertainty": {i % 1000 or "null"}}}'
        )


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
