"""Read COCO-like annotation files (images, annotations, categories) without keeping an object per image."""

from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgvc.data.reading.index_cache import indexed
from fgvc.data.reading.json_stream import pieces
from fgvc.data.record_table import PathPacker, RecordTable
from fgvc.errors import UsageError
from fgvc.files.bars import byte_bar


class Annotated(NamedTuple):
    """What one annotation file says.

    path: the file.
    files: N rows, the photographs.
    category_ids: (N,) int64.
    categories: dicts with id, name and more, sorted by id; empty where the file lists none.
    """

    path: Path
    files: RecordTable
    category_ids: npt.NDArray[np.int64]
    categories: list[dict[str, Any]]


class _Collector:
    """Keeps two numbers or a path of each thing in a file, and drops the rest."""

    def __init__(self) -> None:
        self.files = PathPacker()
        self.categories: list[Any] = []
        self.image_ids, self.annotated_ids, self.category_ids = array("q"), array("q"), array("q")

    def take(self, key: str | None, things: list[Any]) -> None:
        """Take some of the things below a key."""
        if key == "images":
            self.image_ids.extend([thing["id"] for thing in things])
            self.files.extend(thing["file_name"] for thing in things)
        elif key == "annotations":
            self.annotated_ids.extend([thing["image_id"] for thing in things])
            self.category_ids.extend([thing["category_id"] for thing in things])
        elif key == "categories":
            self.categories += things


def read_annotations(path: Path) -> Annotated:
    """Return photographs and labels in the order of the file's images; a large file's come from its kept index.

    Raises:
        UsageError: no such file, no such content, or an image with no category or with two.
    """
    table = indexed(path, {"category_id": np.int64}, lambda: _index(path))
    return Annotated(path, table, table.numbers("category_id"), table.extra["categories"])


def read_categories(path: Path) -> list[dict[str, Any]]:
    """Return the categories of a file that is a list of them, or an object that has one, sorted by id.

    Raises:
        UsageError: no such file or no such content.
    """
    categories: list[Any] = []
    _read(path, lambda key, things: categories.extend(things if key in (None, "categories") else ()))
    return _by_id(path, categories)


def _index(path: Path) -> RecordTable:
    content = _Collector()
    _read(path, content.take)
    if not len(content.files):
        raise UsageError(f"{path}: no list of images in it; is it an iNaturalist annotation file?")
    if not content.annotated_ids:
        raise UsageError(f"{path}: images without annotations; a competition's test file has no labels")
    categories = _by_id(path, content.categories) if content.categories else []
    category_ids = _join(path, content)
    return content.files.table({"categories": categories}, category_id=category_ids)


def _read(path: Path, take: Callable[[str | None, list[Any]], Any]) -> None:
    try:
        size = path.stat().st_size
        with byte_bar(f"reading {path.name}", size, delay=3, mininterval=1) as watched:
            for key, things in pieces(path, watched.update):
                take(key, things)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; download and unpack it (data/README.md says where from)") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UsageError(f"{path}: not an iNaturalist annotation file ({type(error).__name__}: {error})") from None


def _by_id(path: Path, categories: Any) -> list[dict[str, Any]]:
    if not isinstance(categories, list) or not categories or not all(_is_category(each) for each in categories):
        raise UsageError(f"{path}: no list of categories, each with an id and a name")
    return sorted(categories, key=lambda category: int(category["id"]))


def _is_category(thing: Any) -> bool:
    return isinstance(thing, Mapping) and "id" in thing and "name" in thing


def _join(path: Path, content: _Collector) -> npt.NDArray[np.int64]:
    """Return (N,) category ids for the N images, in their order."""
    images = np.frombuffer(content.image_ids, dtype=np.int64)
    annotated = np.frombuffer(content.annotated_ids, dtype=np.int64)
    if np.array_equal(images, annotated) and (np.diff(images) > 0).all():  # as in the published files: no need to sort
        return np.frombuffer(content.category_ids, dtype=np.int64)
    order = np.argsort(annotated, kind="stable")
    annotated, categories = annotated[order], np.frombuffer(content.category_ids, dtype=np.int64)[order]
    # a boxed file repeats the category once per box
    twice = annotated[1:][(annotated[1:] == annotated[:-1]) & (categories[1:] != categories[:-1])]
    if len(twice):
        raise UsageError(f"{path}: image id {twice[0]} has more than one category")
    place = np.searchsorted(annotated, images).clip(max=len(annotated) - 1)
    missing = np.flatnonzero(annotated[place] != images)
    if len(missing):
        name = content.files.table().path(int(missing[0]))
        raise UsageError(f"{path}: image id {images[missing[0]]} ({name}) has no annotation")
    joined: npt.NDArray[np.int64] = categories[place]
    return joined
