"""Test-time augmentation: the mean of the answers to several versions of an image, under a metric of its own name.

Shape letters: N images, S side of the source image, C classes of a level.
"""

from collections.abc import Callable, Iterator, Sequence

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
    rest = images.shape[-1] - round(images.shape[-1] * share)
    yield from flips(images)
    for top, left in ((0, 0), (0, rest), (rest, 0), (rest, rest), (rest // 2, rest // 2)):
        yield from flips(_enlarged(images, top, left, images.shape[-1] - rest))


def scales(images: Tensor, zooms: Sequence[float] = (1.25, 1.5)) -> Iterator[Tensor]:
    """Yield the whole image and its centre at larger scales, and their mirror images.

    A network keeps its side, so a larger scale is a smaller part: 1 / zoom of the side. Its pixels are enlarged ones
    unless the image has more of them than the network reads, as with `data.source_size`.
    """
    size = images.shape[-1]
    yield from flips(images)
    for zoom in zooms:
        side = round(size / zoom)
        yield from flips(_enlarged(images, (size - side) // 2, (size - side) // 2, side))


def _enlarged(images: Tensor, top: int, left: int, side: int) -> Tensor:
    """Cut a square out of images (N, 3, S, S) and bring it to their side."""
    cut = images[..., top : top + side, left : left + side].float()
    size = images.shape[-1]
    return interpolate(cut, (size, size), mode="bilinear", antialias=True, align_corners=False)


VERSIONS: dict[str, Callable[[Tensor], Iterator[Tensor]]] = {"flip": flips, "crops": crops, "scales": scales}
LOOKS = {"flip": 2, "crops": 12, "scales": 6}
"""How often the network runs for each image."""


def check(names: list[str]) -> None:
    """Raise UsageError for a name that is none of VERSIONS."""
    for name in names:
        if name not in VERSIONS:
            raise UsageError(f"model.tta: {name!r}; there are {sorted(VERSIONS)}{did_you_mean(name, VERSIONS)}")


def averaged(answer: Callable[[tuple[Tensor, ...]], Scores], images: Sequence[Tensor], name: str) -> Scores:
    """Return the log of the mean probabilities over the versions.

    Args:
        answer: as many squares as `images` -> level -> (N, C) log-probabilities.
        images: squares (N, 3, S, S) of the same photographs, one but for an ensemble.
        name: of VERSIONS; `LOOKS` says how many there are.
    """
    totals: Scores = {}
    count = 0
    for version in zip(*(VERSIONS[name](one) for one in images), strict=True):
        count += 1
        for level, scores in answer(version).items():
            totals[level] = totals.get(level, 0) + scores.exp()
    return {level: (total / count).log() for level, total in totals.items()}


def cost(names: Sequence[str]) -> str:
    """Return one line on what the looks cost, beside the plain one."""
    told = ", ".join(f"{name} {LOOKS[name]}" for name in names)
    looks = 1 + sum(LOOKS[name] for name in names)
    return f"model.tta: {told} looks at each image; with the plain one the network runs {looks} times"
