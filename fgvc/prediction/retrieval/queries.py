"""What a network says of pictures that somebody asks about, shown to it as the photographs of a gallery were.

Shape letters: N pictures of a batch, S side of the square that is shown, D numbers of a vector.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fgvc.errors import FgvcError, UsageError
from fgvc.features.network import Network
from fgvc.images.decoding import USUAL, ImageError, Limits
from fgvc.images.pictures import Picture, Square, path_of, square_of
from fgvc.images.reading import Reading
from fgvc.methods.embedder import Embedder


class Query(NamedTuple):
    """A picture. vector: (D,) float32, None where it cannot be read; `error` says why. warning: see `Result`."""

    path: str | None
    vector: npt.NDArray[np.float32] | None
    error: str | None = None
    warning: str | None = None


def embedded(
    network: Network,
    take: str,
    pictures: Iterable[Picture],
    batch_size: int = 32,
    device: torch.device | None = None,
    limits: Limits = USUAL,
) -> Iterator[list[Query]]:
    """Yield batches of queries in the order of the pictures; one that cannot be read keeps its place.

    Args:
        network: see `fgvc.features.rebuilding.network_of`.
        take: see `Embedder`.
        pictures: any.
        batch_size: pictures that the network sees at once.
        device: where it computes.
        limits: which files are read.

    Raises:
        UsageError: a batch below 1.
        FgvcError: the network answers what is no number.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size: {batch_size}; give 1 or more")
    where = device or torch.device("cpu")
    embedder = Embedder(network.module, take).eval().to(where)  # type: ignore[arg-type]
    embedder = embedder.to(memory_format=torch.channels_last)  # as the gallery was made

    def read(picture: Picture) -> Square | Query:
        """Read a picture; one that cannot be read is a query with its error."""
        try:
            return square_of(picture, network.resize, limits)
        except ImageError as error:
            return Query(path_of(picture), None, str(error))

    with Reading(read, (pictures,), batch_size) as reading:
        reading.begin()
        while batch := reading.take():
            vectors = iter(_vectors(embedder, [one for one in batch if isinstance(one, Square)], where))
            reading.begin()
            yield [Query(o.path, next(vectors), None, o.warning) if isinstance(o, Square) else o for o in batch]


def _vectors(embedder: Embedder, squares: list[Square], device: torch.device) -> npt.NDArray[np.float32]:
    if not squares:
        return np.zeros((0, 0), np.float32)
    images = torch.from_numpy(np.stack([one.pixels for one in squares])).permute(0, 3, 1, 2).to(device)
    with torch.inference_mode():
        vectors: npt.NDArray[np.float32] = embedder(images).float().cpu().numpy()
    if not np.isfinite(vectors).all():
        raise FgvcError("the network's features are no numbers (NaN or infinite): its weights are damaged")
    return vectors
