"""Read what a user hands over for a prediction: paths, folders, bytes, files, arrays, Pillow pictures, lists of these.

Shape letters: H, W the photograph.
"""

import argparse
import os
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
from fgvc.images.decoding import MAX_BYTES, SUFFIXES, USUAL, ImageError, Limits, Pixels, decode_with_warning
from fgvc.images.folders import PassedOver, pictures_below
from fgvc.images.resizing import Shown, resize_for_eval
from fgvc.images.unpacking import from_pillow

Picture = str | os.PathLike[Any] | bytes | npt.NDArray[np.uint8] | Image.Image
THREADS = min(8, os.cpu_count() or 1)

TAKEN = (
    "give paths, folders, the bytes of files, files opened as 'rb', (H, W, 3) uint8 arrays or Pillow pictures, "
    "or a list of them"
)

Item = TypeVar("Item")
Made = TypeVar("Made")

_PILLOW = threading.Lock()


def is_single(images: Any) -> bool:
    """Whether this is one picture: see `Picture`, or a file that is open for reading bytes."""
    if isinstance(images, str | os.PathLike):
        return not _is_folder(_path(images))
    if isinstance(images, np.ndarray):
        return images.ndim in (2, 3)
    return isinstance(images, bytes | Image.Image) or _is_file(images)


def expand(images: Any, passed: PassedOver | None = None) -> Iterator[Picture]:
    """Return the single pictures of a picture, a folder, a table, or anything iterable of these, in order.

    A folder stands for its pictures at any depth, in the order of their paths, without hidden files. A folder without
    pictures is yielded itself, so that reading it fails and it is not lost. `passed` counts the other files of folders.
    A file that is open for reading bytes is one picture, read from its beginning. An array (N, H, W, 3) is N pictures.
    A table (pandas, polars, pyarrow, datasets) stands for the paths in its column `path`.

    Raises:
        UsageError: something that is no picture; at once, but for what only an iterator can tell while it is read.
    """
    _check(images)
    return _pictures(images, passed)


def _pictures(images: Any, passed: PassedOver | None) -> Iterator[Picture]:
    if _is_file(images):
        yield _content(images)
    elif is_single(images):
        yield images
    elif isinstance(images, str | os.PathLike):
        folder = _path(images)
        below = pictures_below(folder, passed)
        yield next(below, folder)
        yield from below
    else:
        listed = images if _columns(images) is None else images["path"]
        for image in listed.to_pylist() if hasattr(listed, "to_pylist") else listed:
            yield from expand(image, passed)


def _check(images: Any, where: str = "") -> None:
    """Refuse what is no picture and no list of pictures, in one line that begins with `where`.

    Raises:
        UsageError: what was given, and what is taken.
    """
    kind = f"{where}{type(images).__name__}"
    if isinstance(images, str | os.PathLike):
        _check_path(images, where)
    elif isinstance(images, np.ndarray):
        _check_array(images, where)
    elif _is_file(images):
        _check_file(images, kind)
    # A tensor is refused: nothing tells the order of its axes and the range of its values.
    elif isinstance(images, Mapping | bytearray | memoryview | type) or hasattr(images, "numpy"):
        raise UsageError(f"{kind} is no picture; {TAKEN}")
    elif (columns := _columns(images)) is not None:
        _check_table(images, columns, kind)
    elif isinstance(images, list | tuple):
        for i, image in enumerate(images):
            _check(image, f"{where}item {i}: ")
    elif not isinstance(images, bytes | Image.Image | Iterable):
        raise UsageError(f"{kind} is no picture; {TAKEN}")


def _check_path(path: str | os.PathLike[Any], where: str) -> None:
    if path == "":
        raise UsageError(f"{where}an empty path is no picture; for the folder you are in, give '.'")
    if isinstance(path, str) and path.endswith(("\n", "\r")) and not os.path.lexists(path):
        raise UsageError(
            f"{where}{path!r} ends in a line break, as the lines of a text file do; give [line.strip() for line in it]"
        )


def _check_array(array: npt.NDArray[Any], where: str) -> None:
    picture = array.ndim == 2 or (array.ndim in (3, 4) and array.shape[-1] == 3)
    if picture and array.dtype == np.uint8 and (array.size or array.ndim == 4):
        return
    if array.ndim != 1 or array.dtype.kind not in "UO":  # those hold paths
        raise UsageError(
            f"{where}an array of shape {array.shape}, {array.dtype}; a picture is (H, W, 3) RGB or (H, W) grey, uint8, "
            "0..255, and N pictures are (N, H, W, 3)"
        )


def _check_file(file: Any, kind: str) -> None:
    try:
        nothing = file.read(0)
    except Exception as error:  # closed, open for writing only, or a `read` of another kind
        raise UsageError(f"{kind} cannot be read as a picture ({error}); {TAKEN}") from None
    if isinstance(nothing, str):
        raise UsageError(f"{kind} is open as text; open a picture as 'rb', or give [line.strip() for line in it]")
    if not isinstance(nothing, bytes):
        raise UsageError(f"{kind} is no picture; {TAKEN}")


def _check_table(table: Any, columns: list[Any], kind: str) -> None:
    if columns.count("path") == 1:
        return
    for name in columns:
        first = str(next(iter(table[name]), "")) if columns.count(name) == 1 else ""
        if Path(first).suffix.lower() in SUFFIXES:
            raise UsageError(f"{kind} is a table without a column 'path'; give its column of paths: table[{name!r}]")
    raise UsageError(f"{kind} is a table without a column 'path'; its columns are {', '.join(map(str, columns))}")


def _columns(images: Any) -> list[Any] | None:
    """Return the names of a table's columns, without the import of pandas, polars or pyarrow; None for no table."""
    for name in ("column_names", "columns"):
        names = getattr(images, name, None)
        if isinstance(names, Iterable):
            return list(names)
    return None


def _is_file(images: Any) -> bool:
    return callable(getattr(images, "read", None)) and not isinstance(images, type)


def _content(file: Any) -> bytes:
    """Read an open file from its beginning, as Pillow does; a picture just written into it is found so, too."""
    try:
        if file.seekable():
            file.seek(0)
    except AttributeError:  # a stream that has only `read`
        pass
    content: bytes = file.read(MAX_BYTES + 1)
    return content


def _path(path: str | os.PathLike[Any]) -> Path:
    return Path(os.fsdecode(path))


class Square(NamedTuple):
    """A picture that was read.

    pixels: (S, S, 3) uint8, or a strip of squares, (H, W, 3).
    view: (4,) xyxy, the part shown, see `resize_for_eval`. warning: see `decode_with_warning`.
    """

    path: str | None
    pixels: Pixels
    view: npt.NDArray[np.float32]
    warning: str | None = None


def square_of(picture: Picture, how: Shown, limits: Limits = USUAL) -> Square:
    """Read one picture as the square that the model sees.

    Raises:
        As `pixels_of`.
    """
    pixels, warning = pixels_with_warning(picture, how.at_least, limits)
    return Square(path_of(picture), *resize_for_eval(pixels, how), warning)


def path_of(picture: Picture) -> str | None:
    """Return the path of a picture that is a file."""
    return os.fsdecode(picture) if isinstance(picture, str | os.PathLike) else None


def pixels_of(picture: Picture, at_least: int | None = None, limits: Limits = USUAL) -> Pixels:
    """Read one picture.

    Args:
        picture: see `Picture`; or a file that is open for reading bytes.
        at_least: how many pixels of the shorter side are needed, see `decode`; None for all there are.
        limits: which files are read, see `Limits`.

    Returns:
        (H, W, 3) uint8 RGB, upright.

    Raises:
        ImageError: it cannot be read.
        UsageError: no single picture, e.g. a list, or an array of another shape or type.
    """
    return pixels_with_warning(picture, at_least, limits)[0]


def pixels_with_warning(
    picture: Picture, at_least: int | None = None, limits: Limits = USUAL
) -> tuple[Pixels, str | None]:
    """Read one picture as `pixels_of` does, and say what is wrong with its file, see `decode_with_warning`."""
    if _is_file(picture):
        _check_file(picture, type(picture).__name__)
        picture = _content(picture)
    if isinstance(picture, np.ndarray) and picture.ndim in (2, 3):
        return _rgb(picture), None
    if isinstance(picture, Image.Image):
        return _from_pillow(picture)
    if isinstance(picture, bytes):
        return decode_with_warning(picture, at_least=at_least, limits=limits)
    if isinstance(picture, str | os.PathLike):
        path = _path(picture)
        if _is_folder(path):
            raise ImageError(f"{path}: a folder without pictures; looked for {' '.join(sorted(SUFFIXES))}")
        return decode_with_warning(picture if isinstance(picture, str) else path, at_least=at_least, limits=limits)
    raise UsageError(f"{type(picture).__name__} is not one picture; give one of what a list for `predict` may hold")


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


def _rgb(array: npt.NDArray[Any]) -> Pixels:
    _check_array(array, "")
    return np.ascontiguousarray(array if array.ndim == 3 else array[..., None].repeat(3, axis=2))


def _from_pillow(picture: Image.Image) -> tuple[Pixels, str | None]:
    try:
        with _PILLOW:  # an opened file is read on first use, and one picture may stand in a list twice
            return from_pillow(picture)
    except Exception as error:  # damaged bytes raise whatever Pillow's readers stumble over
        raise ImageError(f"{picture!r}: damaged picture ({error})") from None


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a command that make `Limits`."""
    most = f"pixels that a picture may have (default: {USUAL.max_pixels}); time and memory may grow with it"
    parser.add_argument("--max_pixels", type=int, default=USUAL.max_pixels, help=most)
    parser.add_argument("--any_format", action="store_true", help="read PPM, JPEG 2000, QOI, DDS and SGI too")
