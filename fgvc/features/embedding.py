"""Run a network over the photographs of a data set once and keep what it says of them."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from fgvc.data.datamodule import FineGrainedData
from fgvc.errors import UsageError
from fgvc.features.filling import Counts, Found, fill
from fgvc.features.folder import DESCRIPTION, FORMAT, FeatureFolder, open_features, table_of
from fgvc.features.kept import Kept, check_terms, kept_tables, remove_others
from fgvc.features.network import Network, plain_sha256, state_sha256
from fgvc.features.part_files import Features, Rows, Stamp, read_features, write
from fgvc.features.planning import chosen_splits, pieces, rows_of
from fgvc.features.unfinished import Unfinished
from fgvc.features.views import check_views
from fgvc.files.origin import now, versions
from fgvc.files.whole_files import write_text
from fgvc.methods.devices import device_of
from fgvc.methods.embedder import Embedder, Take

DTYPES = ("float32", "float16")
_TOGETHER = 1024
"""How many features are in memory at once while the files are written."""


def embed(
    network: Network,
    data: FineGrainedData,
    folder: Path,
    take: Take = "prelogits",
    views: Sequence[str] = ("whole",),
    splits: Sequence[str] | None = None,
    batch_size: int = 64,
    device: str = "auto",
    overwrite: bool = False,
    dtype: str = "float32",
    counts: Counts | None = None,
) -> FeatureFolder:
    """Compute what is missing in a folder of features, and return the folder.

    A photograph is known again by its path, its size and the time of its last change; a network by its tensors. The
    last digits of a feature depend on what else is in its batch: photographs that come later are batches of their own.

    Args:
        network: see `read_network`.
        data: the photographs; `on_bad_image` and `limits` hold, its own evaluation resize does not.
        folder: made where it is missing.
        take: what is kept, see `Embedder`.
        views: see `fgvc.features.views.VIEWS`.
        splits: those of the data by default; what the folder has of others stays.
        batch_size: photographs that the network sees at once.
        device: `auto`, `cpu`, `cuda` ...
        overwrite: features of another network or of other photographs are replaced.
        dtype: of maps, `float32` or `float16`; vectors are float32.
        counts: is filled with what was done.

    Raises:
        UsageError: a wrong word or number, features of another network, another data set, or a photograph without box.
        ImageError: a photograph cannot be read and `on_bad_image` is `error`.
        FgvcError: the folder cannot be written, or the network answers what is no number.
    """
    start, counts = time.perf_counter(), counts or Counts()
    views, chosen, where = check_views(tuple(views)), chosen_splits(data, splits), device_of(device)
    _check(batch_size, dtype, take)
    embedder = Embedder(network.module, take).eval()
    terms = _terms(network, embedder, take, dtype)
    digest = plain_sha256(terms)
    described = check_terms(folder, terms, overwrite) or {}
    rows = {split: rows_of(data, split) for split in chosen}
    parts = _parts(folder, described, data, chosen, views)
    kept = kept_tables(folder, parts, digest)
    if not overwrite:
        _check_same_photographs(folder, rows, kept)
    found = Found(Unfinished(folder, digest), counts)
    lacking = list(pieces(rows, views, kept, found.unfinished, batch_size))
    with found.unfinished.held() if lacking or found.unfinished.is_there else nullcontext():
        to_compute = [left for piece in lacking if (left := found.taken_over(piece))]
        fill(to_compute, embedder, data, network.resize, where, found, dtype)
        shape = found.shape or described.get("shape")
        if shape is None:
            total = sum(len(one.paths) for one in rows.values())
            raise UsageError(f"{folder}: none of the {total} photographs of {', '.join(chosen)} can be read")
        _write_tables(folder, rows, views, kept, found, (digest, shape, dtype), parts)
        records = {split: _record(data, split, of_split) for split, of_split in rows.items()}
        new = {
            **_origin(network, terms, data),
            "splits": list(parts),
            "views": list(dict.fromkeys(view for there in parts.values() for view in there)),
            "shape": list(shape),
            "records": {**described.get("records", {}), **records},
            "parts": parts,
        }
        if counts.written or any(described.get(key) != new[key] for key in ("parts", "records", "taxonomy", "asked")):
            counts.written = True
            write_text(folder / DESCRIPTION, json.dumps(new, indent=1) + "\n")
            remove_others(folder, parts)
    counts.seconds = time.perf_counter() - start
    return open_features(folder)


def _write_tables(
    folder: Path,
    rows: Mapping[str, Rows],
    views: Sequence[str],
    kept: Mapping[tuple[str, str], Kept],
    found: Found,
    form: tuple[str, Sequence[int], str],
    parts: dict[str, dict[str, Any]],
) -> None:
    """Write the tables that are not as they should be, and note in `parts` what the description says of each.

    Args:
        form: hash of the terms, shape of one feature, dtype.
    """
    for split, of_split in rows.items():
        left_out: set[int] = set()
        for view in views:
            table = _Table(split, view, of_split, kept.get((split, view)), found)
            parts[split][view] = table.write(folder, *form)
            left_out |= table.left_out
        found.counts.left_out += len(left_out)


def _check(batch_size: int, dtype: str, take: str) -> None:
    if batch_size < 1:
        raise UsageError(f"batch_size: {batch_size}; give 1 or more")
    if dtype not in DTYPES:
        raise UsageError(f"dtype: {dtype!r}; it is {' or '.join(DTYPES)}")
    if dtype != "float32" and take != "map":
        raise UsageError(f"dtype {dtype}: for maps alone; the vectors of {take} are kept as float32")


def _terms(network: Network, embedder: Embedder, take: str, dtype: str) -> dict[str, Any]:
    """Return what a feature depends on, beyond the photograph."""
    return {
        "take": take,
        "network": network.timm_name,
        "weights": state_sha256(embedder),
        "architecture": plain_sha256(network.built)[:16],
        "image_size": network.image_size,
        "resize": network.resize._asdict(),
        "dtype": dtype,
    }


def _parts(
    folder: Path, described: Mapping[str, Any], data: FineGrainedData, splits: Sequence[str], views: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return split -> view -> what the description says of it, of all that the folder will have.

    Raises:
        UsageError: what stays there of other splits or views has labels of another tree.
    """
    parts: dict[str, dict[str, Any]] = {split: dict(there) for split, there in described.get("parts", {}).items()}
    staying = [(split, view) for split, there in parts.items() for view in there]
    staying = [one for one in staying if one[0] not in splits or one[1] not in views]
    if staying and described["taxonomy"] != data.taxonomy.to_plain():
        raise UsageError(
            f"{folder}: {'-'.join(staying[0])} was made with other classes than the data has now; embed all of its "
            "splits and views at once, or choose another --output"
        )
    for split in splits:
        for view in views:
            parts.setdefault(split, {}).setdefault(view, None)
    return parts


def _check_same_photographs(folder: Path, rows: Mapping[str, Rows], kept: Mapping[tuple[str, str], Kept]) -> None:
    """Refuse photographs of which the folder has none: most likely it is the folder of another data set."""
    before = {path for one in kept.values() for path in one.rows.paths}
    asked = [path for one in rows.values() for path in one.paths]
    is_new_split = not any(split in rows for split, _ in kept)
    if before and asked and not is_new_split and not before.intersection(asked):
        raise UsageError(
            f"{folder}: holds features of other photographs ({min(before)}, ...), not of {asked[0]}, ...; choose "
            "another --output, or give --overwrite to replace them"
        )


class _Table:
    """The table of a split and view as it will be: features that were there and features that were found.

    Attributes:
        left_out: places of the photographs that have no feature.
    """

    def __init__(self, split: str, view: str, rows: Rows, kept: Kept | None, found: Found) -> None:
        self._split, self._view, self._kept, self._found = split, view, kept, found
        self._new = found.places.get((split, view), {})
        before = {} if kept is None else {file: row for row, file in enumerate(kept.rows.files())}
        files = rows.files()
        self._old = {i: before[file] for i, file in enumerate(files) if i not in self._new and file in before}
        places = [i for i in range(len(files)) if i in self._new or i in self._old]
        self.left_out = set(range(len(files))).difference(places)
        self._places, self._rows = places, rows.some(places)
        found.counts.reused += len(self._old)

    def write(self, folder: Path, terms: str, shape: Sequence[int], dtype: str) -> dict[str, Any]:
        """Write it where it is not there already, and return what the description says of it."""
        sha256 = self._rows.sha256(f"{terms} {self._split} {self._view}")
        maps = f"{self._split}-{self._view}-{sha256[:8]}.npy" if len(shape) > 1 else ""
        if self._kept is None or self._kept.stamp.rows != sha256:
            stamp = Stamp(terms, sha256, maps)
            write(
                table_of(folder, self._split, self._view), self._rows, stamp, self._pieces(folder, dtype), shape, dtype
            )
            self._found.counts.written = True
        return {"rows": len(self._places), "sha256": sha256}

    def _pieces(self, folder: Path, dtype: str) -> Iterator[Features]:
        """Yield the features in order, some at a time."""
        old: Features | None = None
        if self._old and self._kept is not None:
            old = read_features(table_of(folder, self._split, self._view), self._kept.stamp)
        name, batch = "", None
        for start in range(0, len(self._places), _TOGETHER):
            piece = []
            for place in self._places[start : start + _TOGETHER]:
                if place in self._old and old is not None:
                    piece.append(old[self._old[place]])
                    continue
                wanted, row = self._new[place]
                if wanted != name:
                    name, batch = wanted, self._found.unfinished.load(wanted)
                if batch is None:
                    raise FileNotFoundError(f"{folder}: a batch is gone while it is needed")
                piece.append(batch.features[row])
            yield np.stack(piece).astype(dtype, copy=False)


def _record(data: FineGrainedData, split: str, rows: Rows) -> dict[str, Any]:
    return {"root": data.records(split).root, "photographs": len(rows.paths), "sha256": rows.sha256()}


def _origin(network: Network, terms: Mapping[str, Any], data: FineGrainedData) -> dict[str, Any]:
    """Return what the description says of network, preprocessing, versions and classes."""
    return {
        "format": FORMAT,
        "take": terms["take"],
        "model": network.name,
        "network": network.timm_name,
        "weights": {"given": network.given, "sha256": terms["weights"]},
        "seen": network.seen,
        "asked": None if network.asked is None else dict(network.asked),
        "image_size": network.image_size,
        "resize": network.resize._asdict(),
        "dtype": terms["dtype"],
        "terms": dict(terms),
        "versions": versions(),
        "date": now(),
        "taxonomy": data.taxonomy.to_plain(),
    }
