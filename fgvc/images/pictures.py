"""Read what a user hands over for a prediction: paths, folders, bytes, arrays, Pillow pictures, or lists of these.

Shape letters: H, W the photograph.
"""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from fgvc.errors import UsageError
from fgvc.images.decoding import SUFFIXES, ImageError, Pixels, decode, from_pillow
from fgvc.images.folders import PassedOver, pictures_below
from fgvc.images.resizing import EvalResize, resize_for_eval

Picture = str | Path | bytes | npt.NDArray[np.uint8] | Image.Image
THREADS = min(8, os.cpu_count() or 1)

Item = TypeVar("Item")
Made = TypeVar("Made")

_PILLOW = threading.Lock()


def is_single(images: Any) -> bool:
    """Whether this is one picture: a path that is no folder, bytes, a (H, W) or (H, W, C) array, a Pillow picture."""
    if isinstance(images, str | Path):
        return not _is_folder(Path(images))
    if isinstance(images, np.ndarray):
        return images.ndim in (2, 3)
    return isinstance(images, bytes | Image.Image)


def expand(images: Any, passed: PassedOver | None = None) -> Iterator[Picture]:
    """Yield the single pictures of a picture, a folder, or anything iterable of these, in order.

    A folder stands for its pictures at any depth, in the order of their paths, without hidden files. A folder without
    pictures is yielded itself, so that reading it fails and it is not lost. `passed` counts the other files of folders.

    Raises:
        UsageError: something that is no picture.
    """
    if is_single(images):
        yield images
    elif isinstance(images, str | Path):
        below = pictures_below(Path(images), passed)
        yield next(below, Path(images))
        yield from below
    # A tensor is refused: nothing tells the order of its axes and the range of its values.
    elif isinstance(images, Iterable) and not isinstance(images, Mapping | bytearray) and not hasattr(images, "numpy"):
        for image in images:
            yield from expand(image, passed)
    else:
        raise UsageError(
            f"{type(images).__name__} is no picture; give paths, folders, bytes, (H, W, 3) uint8 arrays or "
            "Pillow pictures, or a list of them"
        )


class Square(NamedTuple):
    """A picture that was read. pixels: (S, S, 3) uint8. view: (4,) xyxy, the part shown, see `resize_for_eval`."""

    path: str | None
    pixels: Pixels
    view: npt.NDArray[np.float32]


def square_of(picture: Picture, how: EvalResize) -> Square:
    """Read one picture as the square that the model sees.

    Raises:
        As `pixels_of`.
    """
    path = str(picture) if isinstance(picture, str | Path) else None
    return Square(path, *resize_for_eval(pixels_of(picture, how.at_least), how))


def pixels_of(picture: Picture, at_least: int | None = None) -> Pixels:
    """Read one picture.

    Args:
        picture: see `Picture`.
        at_least: how many pixels of the shorter side are needed, see `decode`; None for all there are.

    Returns:
        (H, W, 3) uint8 RGB, upright.

    Raises:
        ImageError: it cannot be read.
        UsageError: an array of another shape or type.
    """
    if isinstance(picture, np.ndarray):
        return _checked(picture)
    if isinstance(picture, Image.Image):
        return _from_pillow(picture)
    if isinstance(picture, str | Path) and _is_folder(Path(picture)):
        raise ImageError(f"{picture}: a folder without pictures; looked for {' '.join(sorted(SUFFIXES))}")
    return decode(picture, at_least=at_least)


def in_threads(
    work: Callable[[Item], Made], items: Iterable[Item], ahead: int, threads: int = THREADS
) -> Iterator[Made]:
    """Map in threads and yield in order. When the caller leaves, also by Ctrl-C, what is begun is finished.

    Args:
        work: called from several threads at once.
        items: what to map over.
        ahead: how many items are at most begun and not yet taken.
        threads: how many work at once; more than cores where they wait for the disk.
    """
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Made]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name too long, a folder that may not be entered: reading it will say so
        return False


def _checked(array: npt.NDArray[Any]) -> Pixels:
    if array.ndim == 2:
        array = array[..., None].repeat(3, axis=2)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise UsageError(
            f"an array of shape {array.shape}, {array.dtype}; a picture is (H, W, 3) RGB or (H, W) grey, uint8, 0..255"
        )
    return np.ascontiguousarray(array)


def _from_pillow(picture: Image.Image) -> Pixels:
    try:
        with _PILLOW:  # an opened file is read on first use, and one picture may stand in a list twice
            return from_pillow(picture)
    except Exception as error:  # damaged bytes raise whatever Pillow's readers stumble over
        raise ImageError(f"{picture!r}: damaged picture ({error})") from None


def check_inputs(inputs: list[str]) -> None:
    """Raise UsageError for a picture or folder that is not there."""
    for name in inputs:
        if name != "-" and not Path(name).exists():
            raise UsageError(f"{name}: no such picture or folder")


def pictures_of(inputs: list[str], passed: PassedOver | None = None) -> tuple[Iterable[Picture], int | None]:
    """Return the pictures that a command line names, and their number; None where stdin lists them.

    Folders are walked twice, so that their names need not be in memory. `passed` counts their other files while the
    pictures are taken.
    """
    return _named(inputs, passed), None if "-" in inputs else sum(1 for _ in _named(inputs))


def _named(inputs: list[str], passed: PassedOver | None = None) -> Iterator[Picture]:
    for name in inputs:
        yield from expand(_listed_on_stdin() if name == "-" else name, passed)


def _listed_on_stdin() -> Iterator[Path]:
    for line in sys.stdin.buffer:
        name = os.fsdecode(line.rstrip(b"\r\n"))
        if "\0" in name:
            raise UsageError("stdin: a path with a zero byte; give one path per line (find -print, not -print0)")
        if name:
            yield Path(name)
