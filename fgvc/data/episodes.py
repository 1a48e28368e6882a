"""Few-shot episodes: drawn, kept in a file that anyone can replay, and known by a hash.

Shape letters: E episodes, W ways (classes of an episode), K shots, Q queries per class.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fgvc.errors import UsageError
from fgvc.files.whole_files import write_text

FORMAT = 1
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Episodes:
    """Which images meet in which episode.

    support: (E, W, K) positions in the images.
    query: (E, W, Q), in the order of the same classes.
    seed: what they were drawn with.
    """

    support: Ints
    query: Ints
    seed: int

    @property
    def n_way(self) -> int:
        """W."""
        return int(self.support.shape[1])

    @property
    def n_shot(self) -> int:
        """K."""
        return int(self.support.shape[2])

    @property
    def n_query(self) -> int:
        """Q."""
        return int(self.query.shape[2])

    def __len__(self) -> int:
        return len(self.support)

    def __str__(self) -> str:
        """Say their kind in one line."""
        return f"{len(self):,} episodes, {self.n_way}-way {self.n_shot}-shot, {self.n_query} queries per class"


def check_kind(n_way: int, n_shot: int, n_query: int, n_episodes: int = 1, flag: str = "--") -> None:
    """Raise UsageError for numbers that make no episode; `flag` stands before their names in the message."""
    least = {"n_way": (n_way, 2), "n_shot": (n_shot, 1), "n_query": (n_query, 1), "n_episodes": (n_episodes, 1)}
    for name, (number, lowest) in least.items():
        if number < lowest:
            raise UsageError(f"{flag}{name} {number}: give {lowest} or more")


def positions_of(
    labels: npt.NDArray[Any], n_way: int, images: int, names: Sequence[str], where: str, flag: str = "--"
) -> list[Ints]:
    """Return for each class the positions of its images, class by class.

    Args:
        labels: (N,) classes; -1 belongs to none.
        n_way: how many classes an episode has.
        images: how many images of a class it takes.
        names: of the classes, for messages.
        where: which images these are, for messages.
        flag: what stands before `n_way` in messages.

    Raises:
        UsageError: fewer classes, or a class with fewer images; it is named.
    """
    known = np.unique(labels[labels >= 0])
    if len(known) < n_way:
        raise UsageError(f"{where}: {len(known)} classes, but {flag}n_way {n_way} takes as many in an episode")
    found = [np.flatnonzero(labels == one) for one in known]
    few = [(names[one], len(rows)) for one, rows in zip(known.tolist(), found, strict=True) if len(rows) < images]
    if few:
        name, count = min(few, key=lambda pair: pair[1])
        more = f", and {len(few) - 1} more have too few" if len(few) > 1 else ""
        raise UsageError(
            f"{where}: class {name!r} has {count} images, but an episode takes {images} of a class ({flag}n_shot and "
            f"{flag}n_query together){more}; give smaller numbers, or leave the class out"
        )
    return found


def draw_one(found: Sequence[Ints], n_way: int, n_shot: int, n_query: int, seed: Sequence[int]) -> tuple[Ints, Ints]:
    """Return one episode, (W, K) and (W, Q): classes and images drawn without replacement, a function of the seed."""
    random = np.random.default_rng(seed)
    classes = random.choice(len(found), n_way, replace=False)
    rows = np.stack([random.choice(found[one], n_shot + n_query, replace=False) for one in classes])
    return rows[:, :n_shot], rows[:, n_shot:]


def draw(
    labels: npt.NDArray[Any],
    n_way: int,
    n_shot: int,
    n_query: int,
    n_episodes: int,
    seed: int,
    names: Sequence[str],
    where: str,
) -> Episodes:
    """Draw episodes; each is a function of the seed and its number, so the first 600 of 2,000 are the 600.

    Args:
        labels: (N,) classes of the images; -1 belongs to none.
        n_way, n_shot, n_query, n_episodes: W, K, Q, E.
        seed: at least 0.
        names: of the classes, for messages.
        where: which images these are, for messages.

    Raises:
        UsageError: numbers that make no episode, too few classes, or a class with too few images.
    """
    check_kind(n_way, n_shot, n_query, n_episodes)
    if seed < 0:
        raise UsageError(f"--seed {seed}: give 0 or more")
    found = positions_of(labels, n_way, n_shot + n_query, names, where)
    drawn = [draw_one(found, n_way, n_shot, n_query, (seed, number)) for number in range(n_episodes)]
    support, query = (np.stack(part) for part in zip(*drawn, strict=True))
    return Episodes(support, query, seed)


def write(episodes: Episodes, paths: Sequence[str], folder: Path) -> tuple[Path, str]:
    """Write an episode file that says its images by their paths, and return its place and its hash.

    Args:
        episodes: whose positions count in `paths`.
        paths: relative path of every image.
        folder: where it goes; its name tells the kind and the hash.

    Raises:
        FgvcError: it cannot be written.
    """
    used = np.unique(np.concatenate([episodes.support.ravel(), episodes.query.ravel()]))
    place = {int(row): i for i, row in enumerate(used)}
    plain = {
        "format": FORMAT,
        "n_way": episodes.n_way,
        "n_shot": episodes.n_shot,
        "n_query": episodes.n_query,
        "seed": episodes.seed,
        "images": [paths[row] for row in used],
        "support": [[place[i] for i in one] for one in episodes.support.reshape(len(episodes), -1).tolist()],
        "query": [[place[i] for i in one] for one in episodes.query.reshape(len(episodes), -1).tolist()],
    }
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    known = digest(text)
    name = f"episodes-{episodes.n_way}way-{episodes.n_shot}shot-{len(episodes)}-{known[:8]}.json"
    write_text(folder / name, text)
    return folder / name, known


def read(file: Path, paths: Sequence[str], labels: npt.NDArray[Any]) -> tuple[Episodes, str]:
    """Read an episode file for images, and return it with its hash.

    Args:
        file: what `write` wrote.
        paths: relative path of every image there is.
        labels: (N,) their classes: each way of an episode must be one class.

    Raises:
        UsageError: no such file, no episode file, an image that is not there, or a way that is no class here.
    """
    try:
        text = file.read_text(encoding="utf-8")
        plain = json.loads(text)
        shape = int(plain["n_way"]), int(plain["n_shot"]), int(plain["n_query"])
        parts = [np.array(plain[key], dtype=np.int64) for key in ("support", "query")]
        images, seed, version = [str(one) for one in plain["images"]], int(plain["seed"]), int(plain["format"])
        support, query = parts[0].reshape(-1, shape[0], shape[1]), parts[1].reshape(-1, shape[0], shape[2])
        if len(support) != len(query) or not len(support) or min(p.min() for p in parts) < 0:
            raise ValueError("its lists do not fit together")
        if max(int(part.max()) for part in parts) >= len(images):
            raise ValueError("it counts more images than it names")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror}); give an episode file") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{file}: no episode file of fgvc ({type(error).__name__}: {error})") from None
    if version > FORMAT:
        raise UsageError(f"{file}: format {version}, and this fgvc reads up to {FORMAT}; update fgvc")
    place = {path: row for row, path in enumerate(paths)}
    missing = [path for path in images if path not in place]
    if missing:
        raise UsageError(
            f"{file}: {len(missing)} of its {len(images)} images are not among these {len(paths)}, {missing[0]} first; "
            "give the data that the episodes were drawn from"
        )
    rows = np.array([place[path] for path in images], dtype=np.int64)
    episodes = Episodes(rows[support], rows[query], seed)
    _check_classes(file, episodes, labels)
    return episodes, digest(text)


def batches(episodes: Episodes, size: int) -> Iterator[slice]:
    """Iterate over slices of at most `size` episodes."""
    return (slice(start, start + size) for start in range(0, len(episodes), size))


def digest(text: str) -> str:
    """Return the SHA-256 of an episode file's text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def _check_classes(file: Path, episodes: Episodes, labels: npt.NDArray[Any]) -> None:
    both = labels[np.concatenate([episodes.support, episodes.query], axis=2)]
    mixed = (both != both[:, :, :1]).any(axis=(1, 2)) | (both < 0).any(axis=(1, 2))
    first = np.sort(both[:, :, 0], axis=1)
    mixed |= (first[:, 1:] == first[:, :-1]).any(axis=1)
    images = np.concatenate([episodes.support, episodes.query], axis=2).reshape(len(episodes), -1)
    images.sort(axis=1)
    twice = (images[:, 1:] == images[:, :-1]).any(axis=1)
    for faulty, what in ((mixed, "an image of another class than its way"), (twice, "an image twice")):
        if faulty.any():
            raise UsageError(f"{file}: episode {int(np.flatnonzero(faulty)[0]) + 1} holds {what} by the labels here")
