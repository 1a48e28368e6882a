"""The folder of painted birds. All cores write it, once; it is whole or not there.

Shape letters: n pictures of a split, B boxes, P body parts.
"""

import hashlib
import json
import multiprocessing
import os
import sys
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fgvc.data.birds.painting import PARTS, Painting, paint
from fgvc.data.birds.species import Species
from fgvc.errors import FgvcError, UsageError
from fgvc.files.bars import bar
from fgvc.files.whole_files import whole_folder

PAINTING_VERSION = 1
"""Raise it when the same seed no longer gives the same picture: the cache then starts a new folder."""

JPEG_QUALITY = 92
SPLITS = ("train", "val", "test")
POOL_FROM = 200
"""Fewer pictures than this are painted without starting other processes."""

Fractions = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """Everything that the pictures depend on. `counts`: split -> number of pictures."""

    species: list[Species]
    counts: dict[str, int]
    image_size: int
    mark_size: float
    seed: int

    @property
    def manifest(self) -> dict[str, Any]:
        """The plan as plain data, kept beside the pictures."""
        return {
            "painting_version": PAINTING_VERSION,
            "jpeg_quality": JPEG_QUALITY,
            "seed": self.seed,
            "image_size": self.image_size,
            "mark_size": self.mark_size,
            "pictures": self.counts,
            "species": [[*one.path, one.mark] for one in self.species],
        }

    @property
    def folder_name(self) -> str:
        """The name of the folder of these pictures."""
        digest = hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()
        return f"generated_birds_{digest[:12]}"

    def path(self, split: str, index: int) -> str:
        """Return where a picture lies below the folder: split/species/number.jpg, as image folders are laid out."""
        turn, label = divmod(index, len(self.species))
        return f"{split}/{self.species[label].path[-1].replace(' ', '_')}/{turn:05d}.jpg"

    def paint(self, split: str, index: int) -> Painting:
        """Return picture `index` of a split, a function of (seed, split, index) whatever was painted before."""
        rng = np.random.default_rng([self.seed, SPLITS.index(split), index])
        return paint(self.species[index % len(self.species)], rng, self.image_size, self.mark_size)


def write_once(plan: Plan, folder: Path, num_processes: int | None = None) -> None:
    """Paint all pictures into a draft and rename it to `folder`; if two processes do so, the first folder stays.

    Args:
        plan: what to paint.
        folder: must not exist.
        num_processes: how many processes paint; by default one per core.

    Raises:
        UsageError: the folder above cannot be written.
        FgvcError: writing failed midway; nothing is left behind.
    """
    begun = False
    try:
        with whole_folder(folder) as draft:
            begun = True
            _write(plan, draft, num_processes or _cores())
    except OSError as error:
        if begun:
            raise FgvcError(
                f"{folder}: writing failed ({error.strerror}); make room, or set `root` elsewhere"
            ) from None
        advice = "set `root` or FGVC_CACHE to a folder that can"
        raise UsageError(f"{folder.parent}: cannot be written ({error.strerror}); {advice}") from None


def read_annotations(folder: Path) -> dict[str, Fractions]:
    """Return `<split>_boxes` (n, B, 4) xyxy and `<split>_points` (n, P, 2), fractions; NaN where a part is hidden.

    Raises:
        FgvcError: the file is missing or damaged.
    """
    try:
        # Opened here, because numpy leaves a damaged file open.
        with (folder / "annotations.npz").open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        advice = "delete the folder to start anew"
        raise FgvcError(f"{folder}/annotations.npz cannot be read ({error}); {advice}") from None


def _write(plan: Plan, draft: Path, num_processes: int) -> None:
    annotations: dict[str, Any] = {}
    total = sum(plan.counts.values())
    processes = num_processes if total >= POOL_FROM else 1
    with bar("painting birds", total=total, unit=" pictures") as watched:
        for split, count in plan.counts.items():
            for folder in {Path(draft, plan.path(split, index)).parent for index in range(count)}:
                folder.mkdir(parents=True)
            rows = []
            for row in _mapped(partial(_paint_file, plan, draft, split), count, processes):
                rows.append(row)
                watched.update()
            annotations[f"{split}_boxes"], annotations[f"{split}_points"] = map(np.stack, zip(*rows, strict=True))
    np.savez(draft / "annotations.npz", **annotations)
    (draft / "manifest.json").write_text(json.dumps(plan.manifest, indent=1) + "\n", encoding="utf-8")


def _mapped(work: "partial[tuple[Fractions, Fractions]]", count: int, processes: int) -> Iterator[tuple[Any, Any]]:
    """Yield work(0), work(1) ... in order."""
    if processes == 1:
        yield from map(work, range(count))
        return
    # Forking needs no `if __name__ == "__main__"` in the user's script; the children touch neither torch nor a GPU,
    # so Python's warning about forking a process with threads does not concern them. macOS does not fork safely.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        method = "fork" if sys.platform == "linux" else "spawn"
        pool = multiprocessing.get_context(method).Pool(processes, cv2.setNumThreads, (0,))
    with pool:
        yield from pool.imap(work, range(count), chunksize=8)


def _paint_file(plan: Plan, draft: Path, split: str, index: int) -> tuple[Fractions, Fractions]:
    """Write one picture; return its boxes (B, 4) and points (P, 2) as fractions."""
    painting = plan.paint(split, index)
    bgr = cv2.cvtColor(painting.pixels, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    Path(draft, plan.path(split, index)).write_bytes(data.tobytes())
    boxes = np.array([painting.object_box, painting.mark_box]) / plan.image_size
    points = np.array([painting.points.get(part, (np.nan, np.nan)) for part in PARTS]) / plan.image_size
    return boxes.astype(np.float32), points.astype(np.float32)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
