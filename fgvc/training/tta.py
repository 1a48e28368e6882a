"""Test-time augmentation: the mean of the answers to several versions of an image, under a metric of its own name.

Shape letters: N images, S side of the source image, C classes of a level.
"""

from collections.abc import Callable, Iterator

from torch import Tensor
from torch.nn.functional import interpolate

from fgvc.errors import UsageError, did_you_mean

Scores = dict[str, Tensor]


def flips(images: Tensor) -> Iterator[Tensor]:
    """Yield (N, 3, S, S) as it is and mirrored."""
    yield images
    yield images.flip(-1)


def crops(images: Tensor, share: float = 0.875) -> Iterator[Tensor]:
    """Yield the whole image, the four corners and the centre (each `share` of the side), and their mirror images."""
    size = images.shape[-1]
    side = round(size * share)
    rest = size - side
    yield from flips(images)
    for top, left in ((0, 0), (0, rest), (rest, 0), (rest, rest), (rest // 2, rest // 2)):
        cut = images[..., top : top + side, left : left + side].float()
        yield from flips(interpolate(cut, (size, size), mode="bilinear", antialias=True, align_corners=False))


VERSIONS: dict[str, Callable[[Tensor], Iterator[Tensor]]] = {"flip": flips, "crops": crops}


def check(names: list[str]) -> None:
    """Raise UsageError for a name that is neither `flip` nor `crops`."""
    for name in names:
        if name not in VERSIONS:
            raise UsageError(f"model.tta: {name!r}; there are {sorted(VERSIONS)}{did_you_mean(name, VERSIONS)}")


def averaged(answer: Callable[[Tensor], Scores], images: Tensor, name: str) -> Scores:
    """Return the log of the mean probabilities over the versions.

    Args:
        answer: images (N, 3, S, S) -> level -> (N, C) log-probabilities.
        images: (N, 3, S, S).
        name: `flip` (2 versions) or `crops` (12 versions).
    """
    totals: Scores = {}
    count = 0
    for version in VERSIONS[name](images):
        count += 1
        for level, scores in answer(version).items():
            totals[level] = totals.get(level, 0) + scores.exp()
    return {level: (total / count).log() for level, total in totals.items()}
