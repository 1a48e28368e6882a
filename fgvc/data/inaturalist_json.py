"""Read COCO-like annotation files (images, annotations, categories) without keeping a dictionary per image."""

import json
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from fgvc.errors import UsageError

REPORT_EVERY = 10_000


class Annotated(NamedTuple):
    """What one annotation file says.

    path: the file.
    files: N paths of photographs.
    category_ids: (N,) int64.
    categories: dicts with id, name and more, sorted by id; empty where the file lists none.
    """

    path: Path
    files: list[str]
    category_ids: npt.NDArray[np.int64]
    categories: list[dict[str, Any]]


class _Collector:
    """Takes each JSON object as it is parsed, keeps two numbers or a path, and lets the rest go."""

    def __init__(self, bar: Any) -> None:
        self.files: list[str] = []
        self.image_ids, self.annotated_ids, self.category_ids = array("q"), array("q"), array("q")
        self._bar = bar

    def __call__(self, thing: dict[str, Any]) -> dict[str, Any] | None:
        if "file_name" in thing:
            self.image_ids.append(thing["id"])
            self.files.append(thing["file_name"])
            if len(self.files) % REPORT_EVERY == 0:
                self._bar.update(REPORT_EVERY)
        elif "image_id" in thing:
            self.annotated_ids.append(thing["image_id"])
            self.category_ids.append(thing["category_id"])
        else:
            return thing
        return None


def read_annotations(path: Path) -> Annotated:
    """Return photographs and labels in the order of the file's images.

    Raises:
        UsageError: no such file, no such content, or an image with no category or with two.
    """
    with tqdm(desc=f"reading {path.name}", unit=" images", delay=3, leave=False) as bar:
        found = _Collector(bar)
        top = _load(path, found)
    if not isinstance(top, dict) or not found.files:
        raise UsageError(f"{path}: no list of images in it; is it an iNaturalist annotation file?")
    if not found.annotated_ids:
        raise UsageError(f"{path}: images without annotations; a competition's test file has no labels")
    categories = _by_id(path, top["categories"]) if top.get("categories") else []
    return Annotated(path, found.files, _join(path, found), categories)


def read_categories(path: Path) -> list[dict[str, Any]]:
    """Return the categories of a file that is a list of them, or an object that has one, sorted by id.

    Raises:
        UsageError: no such file or no such content.
    """
    content = _load(path, lambda thing: thing)
    return _by_id(path, content.get("categories") if isinstance(content, dict) else content)


def _load(path: Path, hook: Any) -> Any:
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file, object_hook=hook)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; download and unpack it (data/README.md says where from)") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not an iNaturalist annotation file ({type(error).__name__}: {error})") from None


def _by_id(path: Path, categories: Any) -> list[dict[str, Any]]:
    if not isinstance(categories, list) or not categories or not all(_is_category(each) for each in categories):
        raise UsageError(f"{path}: no list of categories, each with an id and a name")
    return sorted(categories, key=lambda category: int(category["id"]))


def _is_category(thing: Any) -> bool:
    return isinstance(thing, Mapping) and "id" in thing and "name" in thing


def _join(path: Path, found: _Collector) -> npt.NDArray[np.int64]:
    """Return (N,) category ids for the N images, in their order."""
    images = np.frombuffer(found.image_ids, dtype=np.int64)
    annotated = np.frombuffer(found.annotated_ids, dtype=np.int64)
    order = np.argsort(annotated, kind="stable")
    annotated, categories = annotated[order], np.frombuffer(found.category_ids, dtype=np.int64)[order]
    # a boxed file repeats the category once per box
    twice = annotated[1:][(annotated[1:] == annotated[:-1]) & (categories[1:] != categories[:-1])]
    if len(twice):
        raise UsageError(f"{path}: image id {twice[0]} has more than one category")
    place = np.searchsorted(annotated, images).clip(max=len(annotated) - 1)
    missing = np.flatnonzero(annotated[place] != images)
    if len(missing):
        raise UsageError(f"{path}: image id {images[missing[0]]} ({found.files[missing[0]]}) has no annotation")
    joined: npt.NDArray[np.int64] = categories[place]
    return joined
