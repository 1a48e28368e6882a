"""A stand-in for CUB-200-2011: the archive's true layout with tiny pictures, made by code."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

TAXONOMY = Path(__file__).parents[2] / "data" / "cub" / "taxonomy.csv"
PARTS = [
    "back", "beak", "belly", "breast", "crown", "forehead", "left eye", "left leg",
    "left wing", "nape", "right eye", "right leg", "right wing", "tail", "throat",
]  # fmt: skip
WIDTH, HEIGHT = 40, 32


BEAK = {"beak": (10.0, 8.0)}
BIRD = BEAK | {
    "crown": (8.0, 9.0), "left eye": (9.0, 11.0), "nape": (5.0, 12.0), "throat": (11.0, 13.0),
    "back": (14.0, 11.0), "belly": (15.0, 22.0), "left wing": (17.0, 16.0), "tail": (23.0, 23.0),
}  # fmt: skip
"""Points of a bird that looks to the left; the other parts are hidden."""


def make_fake_cub(
    root: Path, num_classes: int = 200, images_per_class: int = 6, points: Mapping[str, tuple[float, float]] = BEAK
) -> Path:
    """Write the archive and return its folder.

    Within a class the images are train, test, train, test ... like the official file's rough half. The object's box is
    x 4, y 8, width 20, height 16 in a 40 x 32 picture. The visible parts are at `points`, in pixels; every other part
    is hidden. Each class has its own colour, so that a net can learn it.
    """
    (root / "parts").mkdir(parents=True)
    lists: dict[str, list[str]] = {}
    image = 0
    for label, folder in enumerate(class_folders()[:num_classes], start=1):
        (root / "images" / folder).mkdir(parents=True)
        lists.setdefault("classes.txt", []).append(f"{label} {folder}")
        for number in range(1, images_per_class + 1):
            image += 1
            name = f"{folder}/{folder[4:]}_{number:04d}_{1000 + image}.jpg"
            _picture(label, image).save(root / "images" / name, quality=90)
            lists.setdefault("images.txt", []).append(f"{image} {name}")
            lists.setdefault("image_class_labels.txt", []).append(f"{image} {label}")
            lists.setdefault("train_test_split.txt", []).append(f"{image} {number % 2}")
            lists.setdefault("bounding_boxes.txt", []).append(f"{image} 4.0 8.0 20.0 16.0")
            for part in range(1, len(PARTS) + 1):
                x, y = points.get(PARTS[part - 1], (0.0, 0.0))
                place = f"{x} {y} {int(PARTS[part - 1] in points)}"
                lists.setdefault("parts/part_locs.txt", []).append(f"{image} {part} {place}")
    lists["parts/parts.txt"] = [f"{part} {name}" for part, name in enumerate(PARTS, start=1)]
    for name, lines in lists.items():
        (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def class_folders() -> list[str]:
    """Return CUB's 200 folder names, `001.Black_footed_Albatross` and so on."""
    with TAXONOMY.open(encoding="utf-8", newline="") as file:
        return [f"{int(row['class_id']):03d}.{row['class_name']}" for row in csv.DictReader(file)]


def _picture(label: int, image: int) -> Image.Image:
    pixels = np.random.default_rng(image).integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    colour = np.random.default_rng(10_000 + label).integers(60, 255, 3, dtype=np.uint8)
    pixels[8:24, 4:24] = colour
    return Image.fromarray(pixels)


def make_fake(root):
    return {"root": str(make_fake_cub(root / "CUB_200_2011", images_per_class=2))}
