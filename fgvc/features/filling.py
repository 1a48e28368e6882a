"""The loop that reads photographs, shows them to a network and keeps what it answers.

Shape letters: N photographs of a batch, S side of the square that is shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from fgvc.data.datamodule import FineGrainedData
from fgvc.errors import FgvcError, UsageError
from fgvc.features.part_files import Features
from fgvc.features.planning import Piece
from fgvc.features.unfinished import Batch, Unfinished
from fgvc.features.views import squares
from fgvc.files.bars import bar
from fgvc.files.lines import tell
from fgvc.images.decoding import ImageError, Pixels
from fgvc.images.reading import Reading
from fgvc.images.resizing import EvalResize
from fgvc.images.value_range import GUESSED, LOST
from fgvc.methods.embedder import Embedder


@dataclass
class Counts:
    """What a call did. A photograph in two views has two features.

    shown: photographs that the network saw. computed: their features. taken_over: features that a stopped call had
    computed. reused: features that were there. left_out: photographs that cannot be read. written: whether any file is
    new. seconds: of all.
    """

    shown: int = 0
    computed: int = 0
    taken_over: int = 0
    reused: int = 0
    left_out: int = 0
    written: bool = False
    seconds: float = 0.0


class Found:
    """The features of a call: they are on the disk, and this knows where.

    Attributes:
        unfinished: the batches.
        counts: what was done.
        places: (split, view) -> place of a photograph -> name of its batch, row in it.
        shape: of one feature; None as long as there is none.
    """

    def __init__(self, unfinished: Unfinished, counts: Counts) -> None:
        self.unfinished, self.counts = unfinished, counts
        self.places: dict[tuple[str, str], dict[int, tuple[str, int]]] = {}
        self.shape: list[int] | None = None

    def note(self, piece: Piece, view: str, batch: Batch) -> None:
        """Note where the features of a batch are."""
        self.shape = list(batch.features.shape[1:])
        there = self.places.setdefault((piece.split, view), {})
        for row, place in enumerate(batch.places.tolist()):
            there[piece.places[place]] = piece.keys[view], row

    def taken_over(self, piece: Piece) -> Piece | None:
        """Note the features of a batch that a stopped call had computed; return what is left of it, or None."""
        left = {}
        for view, key in piece.keys.items():
            if (batch := self.unfinished.load(key)) is None:
                left[view] = key
            else:
                self.note(piece, view, batch)
                self.counts.taken_over += len(batch.places)
        return piece._replace(keys=left) if left else None


class _Shown(NamedTuple):
    """A photograph to read: the batch, and its place there."""

    piece: Piece
    place: int


class _Reader:
    """Photograph -> view -> (S, S, 3) uint8, or None for one that cannot be read and is left out. Called in threads."""

    def __init__(self, data: FineGrainedData, resize: EvalResize) -> None:
        self._data, self._resize = data, resize
        self._told = False

    def __call__(self, shown: _Shown) -> dict[str, Pixels] | None:
        """Read one.

        Raises:
            ImageError: it cannot be read and `on_bad_image` is `error`.
            UsageError: it has no box, and the view `box` is asked for.
        """
        split, views = shown.piece.split, tuple(shown.piece.keys)
        records, index = self._data.records(split), shown.piece.places[shown.place]
        path = records[index].path
        try:
            box = self._data.annotations(split, index).boxes.get("object") if "box" in views else None
            if "box" in views and box is None:
                raise UsageError(
                    f"{path}: no box `object` is known of it, so there is no view box; leave that view out"
                )
            found, warning = squares(path, views, self._resize, self._data.limits, box)
        except ImageError as error:
            if self._data.on_bad_image == "skip":
                return None
            place = f"{split} image {index + 1:,} of {len(records):,}"
            raise ImageError(f"{error} ({place}), or go on without it: --data.on_bad_image skip") from None
        if warning is not None and (GUESSED in warning or LOST in warning) and not self._told:
            self._told = True
            tell(f"{path}: {warning}; more such files are not told")
        return found


def fill(
    pieces: Sequence[Piece],
    embedder: Embedder,
    data: FineGrainedData,
    resize: EvalResize,
    device: torch.device,
    found: Found,
    dtype: str = "float32",
) -> None:
    """Compute batches and keep each as soon as it is there.

    Args:
        pieces: the batches.
        embedder: in evaluation mode; it is moved to the device.
        data: the photographs.
        resize: how they are shown.
        device: where the network computes.
        found: notes what is computed.
        dtype: of the numbers that are kept.

    Raises:
        ImageError, UsageError: see `embed`.
        FgvcError: the network answers what is no number, or a batch cannot be written.
    """
    if not pieces:
        return
    embedder = embedder.to(device).to(memory_format=torch.channels_last)
    work = ([_Shown(piece, place) for place in range(len(piece.places))] for piece in pieces)
    most = max(len(piece.places) for piece in pieces)
    total = sum(len(piece.places) for piece in pieces)
    with bar("embedding", total=total, unit=" images") as moving, Reading(_Reader(data, resize), work, most) as reading:
        for _ in range(1 if device.type == "cpu" else 2):
            reading.begin()
        for piece in pieces:
            read = reading.take()
            # As in prediction: on the CPU decoding and computing take turns, elsewhere they go on side by side.
            if device.type != "cpu":
                reading.begin()
            _keep(piece, read, embedder, device, found, dtype)
            if device.type == "cpu":
                reading.begin()
            moving.update(len(read))


def _keep(
    piece: Piece,
    read: Sequence[dict[str, Pixels] | None],
    embedder: Embedder,
    device: torch.device,
    found: Found,
    dtype: str,
) -> None:
    """Compute the features of one batch in each view, and keep them."""
    places = np.array([place for place, one in enumerate(read) if one is not None], dtype=np.int64)
    if not len(places):
        return
    for view, key in piece.keys.items():
        features = _features(embedder, [one[view] for one in read if one is not None], device, dtype)
        batch = Batch(features, places)
        found.unfinished.save(key, batch)
        found.note(piece, view, batch)
        found.counts.computed += len(places)
    found.counts.shown += len(places)


def _features(embedder: Embedder, pixels: Sequence[Pixels], device: torch.device, dtype: str) -> Features:
    """Return the features (N, ...) of pictures (H, W, 3); those of equal sides are shown together."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for place, one in enumerate(pixels):
        alike.setdefault(one.shape, []).append(place)
    places = [place for together in alike.values() for place in together]
    with torch.inference_mode():
        answers = []
        for together in alike.values():
            images = torch.from_numpy(np.stack([pixels[place] for place in together])).permute(0, 3, 1, 2).to(device)
            answers.append(embedder(images).to(getattr(torch, dtype)))
        answer = torch.cat(answers)
        answer = answer if len(alike) == 1 else answer[torch.tensor(places, device=device).argsort()]
    if not bool(answer.isfinite().all()):
        what = "numbers beyond those of float16; keep float32" if dtype == "float16" else "its weights are damaged"
        raise FgvcError(f"the network's features are no numbers (NaN or infinite): {what}")
    features: Features = answer.cpu().contiguous().numpy()
    return features
