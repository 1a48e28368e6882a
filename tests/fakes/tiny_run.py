"""A run small enough for tests: coloured pictures in class folders, timm's smallest network, one process."""

import csv
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

TREE = {"Larus canus": "Larus", "Larus fuscus": "Larus", "Sterna hirundo": "Sterna"}
COLOURS = {"Larus canus": (200, 40, 40), "Larus fuscus": (40, 200, 40), "Sterna hirundo": (40, 40, 200)}

BACKBONE = "--model.recognizer.init_args.backbone.init_args"
CPU = ["--trainer.accelerator", "cpu", "--trainer.devices", "1"]
NET = [
    "--model.recognizer", "WholeImage", "--model.recognizer.init_args.backbone", "Backbone",
    f"{BACKBONE}.name", "test_resnet", f"{BACKBONE}.weights", "none", "--model.image_size", "32",
]  # fmt: skip


def make_photos(root: Path, train: int = 6, val: int = 3, test: int = 3, noise: int = 60, above: str = "") -> Path:
    """Write `root/<split>/<above>/<genus>/<species>/*.png`, each split with its number of pictures per species.

    Args:
        root: the folder to make.
        train, val, test: pictures per species; 0 leaves the split out.
        above: folders of one order and family, say, above the genera.
        noise: half the width of the grey noise on each species' colour; 200 makes them hard to tell apart.
    """
    for split, number in {"train": train, "val": val, "test": test}.items():
        for s, (species, genus) in enumerate(TREE.items()):
            for i in range(number):
                folder = root / split / above / genus / species
                folder.mkdir(parents=True, exist_ok=True)
                rng = np.random.default_rng([s, i, len(split)])
                pixels = np.array(COLOURS[species]) + rng.integers(-noise, noise + 1, (40, 48, 1))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{split}{i}.png")
    return root


def make_new_classes(root: Path, images: int = 5, train: int = 3, val: int = 2, test: int = 2, above: str = "") -> Path:
    """Write `root/<split>/<above>/<genus>/<split> <species>/*.png`: each split has classes of its own.

    Args:
        root: the folder to make.
        images: pictures per species.
        train, val, test: species of each split, at most three; 0 leaves the split out.
        above: folders of one order and family, say, above the genera.
    """
    for split, number in {"train": train, "val": val, "test": test}.items():
        made = make_photos(root / f"made {split}", images, 0, 0, above=above) / "train" / above
        for species, genus in list(TREE.items())[:number]:
            folder = root / split / above / genus
            folder.mkdir(parents=True, exist_ok=True)
            (made / genus / species).rename(folder / f"{split} {species}")
        shutil.rmtree(root / f"made {split}")
    return root


def data_flags(
    root: Path, batch_size: int = 4, val_fraction: float = 0.0, levels: str = "[genus, species]"
) -> list[str]:
    """Return the flags of an image folder that was written by `make_photos`."""
    return [
        "--data.source", "ImageFolder", "--data.source.init_args.root", str(root),
        "--data.source.init_args.levels", levels, "--data.batch_size", str(batch_size),
        "--data.val_fraction", str(val_fraction), "--data.num_workers", "0",
    ]  # fmt: skip


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
