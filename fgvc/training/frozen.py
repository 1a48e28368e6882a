"""Trainings in which the network stands still: it sees each photograph once, and the head alone runs in every epoch.

Shape letters: N photographs, S side of the square that is shown, D width of the vector.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fgvc.data.amended import paths_of
from fgvc.data.datamodule import FineGrainedData
from fgvc.features.embedding import embed
from fgvc.features.filling import Counts
from fgvc.features.folder import FeatureFolder
from fgvc.features.network import Network, plain_sha256, state_sha256
from fgvc.files.cache_folder import cache_folder
from fgvc.files.lines import counted
from fgvc.images.pictures import square_of
from fgvc.images.resizing import EvalResize
from fgvc.methods.backbone import Backbone
from fgvc.methods.embedder import Embedder, Take
from fgvc.methods.heads.base import Head
from fgvc.methods.own_head import OwnHead
from fgvc.methods.pooling.average import AveragePooling
from fgvc.methods.pooling.native import NativePooling
from fgvc.methods.recognizers.base import Recognizer
from fgvc.training import processes
from fgvc.training.callbacks.phases import Phase
from fgvc.training.checkpoints import load_weights
from fgvc.training.module import FineGrainedModule

_CHECKED = 4
"""Photographs that are answered both ways before a training relies on it."""


def remember(
    module: FineGrainedModule,
    data: FineGrainedData,
    phases: Sequence[Phase],
    settings: Any,
    checkpoint: Path | None = None,
) -> str:
    """Give a training vectors in place of images, where that is the same training.

    It is, where a recognizer looks at the whole image once, with backbone and pooling that stand still in every phase,
    training shows photographs as evaluation does, and nothing is mixed. Two networks share their vectors where they
    have the same weights. The vectors lie in the cache folder and serve later runs too. A head that
    looks at more than the vector is found out: it answers some photographs in both ways first.

    Args:
        module: with the weights that the training begins with.
        data: the photographs; its loaders of train and val change.
        phases: of the training.
        settings: of the trainer.
        checkpoint: the one that the training goes on from: the network is the one in it.

    Returns:
        What is told; "" where the training sees images.

    Raises:
        ImageError: a photograph cannot be read and `on_bad_image` is `error`.
        FgvcError: the cache cannot be written.
    """
    recognizer = module.recognizer
    if not any(True for _ in recognizer.single_looks()) or not _repeats(module, data, settings):
        return ""
    if not phases or not all(_stands_still(recognizer, phase.name) for phase in phases):
        return ""
    takes = {_take(head) for _, head in recognizer.single_looks()}
    take = takes.pop()
    if takes or take is None:
        return ""
    if checkpoint is not None:
        load_weights(recognizer, checkpoint)
    if not _alike([backbone for backbone, _ in recognizer.single_looks()], take):
        return ""
    counts = Counts()
    where = "cpu" if settings.get("accelerator") == "cpu" else "auto"
    features = _embedded(recognizer, data, take, where, counts)
    vectors = _vectors(features, data)
    if vectors is None:
        return ""  # some cannot be read: training takes others in their place
    if not _answers_alike(recognizer, data, vectors["train"]):
        return ""
    for split, of_split in vectors.items():
        data.remember(split, torch.from_numpy(np.array(of_split, dtype=np.float32)))
    total = sum(len(features.part(split).paths) for split in vectors)
    known = "known from before" if not counts.shown else f"computed once, in {counts.seconds:.0f} s"
    return f"the network stands still: the features of {counted(total, 'photograph')} are {known} ({features.path})"


def _repeats(module: FineGrainedModule, data: FineGrainedData, settings: Any) -> bool:
    """Whether every epoch shows the same pixels, and there is more than one whole epoch."""
    hparams: Any = module.hparams
    is_cut = (
        settings.get("fast_dev_run") or settings.get("overfit_batches") or settings.get("max_steps") not in (None, -1)
    )
    is_part = any(settings.get(f"limit_{split}_batches") not in (None, 1.0) for split in ("train", "val"))
    epochs = settings.get("max_epochs")
    several_epochs = epochs is None or epochs == -1 or epochs > 1
    same_pixels = not data.is_random and data.resize.size == module.recognizer.image_size
    mixes = hparams.mixup or hparams.cutmix
    alone = not processes.are_several(settings)
    return bool(several_epochs and same_pixels and alone and not (is_cut or is_part or mixes))


def _stands_still(recognizer: Recognizer, phase: str) -> bool:
    """Whether backbone and pooling stand still in a phase, and no head has a part of the network to itself."""
    still = {id(module) for frozen in recognizer.frozen(phase) for module in frozen.modules()}
    looks = list(recognizer.single_looks())
    own = [module for _, head in looks for module in head.modules() if isinstance(module, OwnHead)]
    parts = [*(backbone for backbone, _ in looks), *own]
    return all(id(module) in still for module in parts) and not any(True for _ in recognizer.last_stages())


def _take(head: Head) -> Take | None:
    """Return what of a backbone is the vector that a head's pooling makes; None where the pooling may learn."""
    kinds: dict[type, Take] = {NativePooling: "prelogits", AveragePooling: "pooled"}
    return kinds.get(type(head.pooling))


def _alike(backbones: list[Backbone], take: Take) -> bool:
    """Whether all say the same of a photograph: whether their weights are equal."""
    return len(backbones) == 1 or len({state_sha256(Embedder(backbone, take)) for backbone in backbones}) == 1


def _splits(data: FineGrainedData) -> list[str]:
    return [split for split in ("train", "val") if split in data.splits]


def _embedded(recognizer: Recognizer, data: FineGrainedData, take: Take, where: str, counts: Counts) -> FeatureFolder:
    """Compute the vectors, or find them in the cache, in a folder for this network and these photographs."""
    backbone, data = next(iter(recognizer.single_looks()))[0], data.of_source()
    name = type(backbone.net).__name__
    assert isinstance(data.resize, EvalResize)  # a recognizer of single looks has one way to be shown
    network = Network(backbone, name, name, "", data.resize, {"net": str(backbone.net)})
    paths = {split: data.records(split) for split in _splits(data)}
    listed = {split: [one.relative_path(i) for i in range(len(one))] for split, one in paths.items()}
    roots = {split: one.root for split, one in paths.items()}
    told = [state_sha256(Embedder(backbone, take)), take, data.resize, roots, listed]
    folder = cache_folder() / "features" / plain_sha256(told)[:24]
    was_training, device = recognizer.training, next(recognizer.parameters()).device
    try:
        return embed(network, data, folder, take, splits=_splits(data), device=where, counts=counts)
    finally:
        recognizer.to(device).train(was_training)


def _vectors(features: FeatureFolder, data: FineGrainedData) -> dict[str, Any] | None:
    """Return split -> (R, D) for its photographs, in their order; None where one has no vector."""
    vectors: dict[str, Any] = {}
    for split in _splits(data):
        part, paths = features.part(split), paths_of(data.records(split))
        if part.paths == paths:
            vectors[split] = part.features
            continue
        row_of = {path: row for row, path in enumerate(part.paths)}
        rows = [row_of.get(path, -1) for path in paths]
        if -1 in rows:
            return None
        vectors[split] = part.features[rows]
    return vectors


def _answers_alike(recognizer: Recognizer, data: FineGrainedData, vectors: Any) -> bool:
    """Whether the recognizer says the same of some photographs and of their vectors."""
    rows = range(min(_CHECKED, len(vectors)))
    squares = [square_of(data.records("train")[row].path, data.resize, data.limits).pixels for row in rows]
    images = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
    device = next(recognizer.parameters()).device
    was_training = recognizer.training
    recognizer.eval()
    try:
        with torch.inference_mode():
            seen = recognizer(images.to(device)).logits
            told = recognizer(torch.from_numpy(np.array(vectors[: len(rows)], dtype=np.float32)).to(device)).logits
    except (RuntimeError, ValueError, IndexError):  # a head that reads cells of the map, of which there is one
        return False
    finally:
        recognizer.train(was_training)
    return all(_near(told[level], seen[level]) for level in seen)


def _near(one: torch.Tensor, other: torch.Tensor) -> bool:
    scale = max(float(other.abs().max()), math.ulp(1.0))
    return bool((one - other).abs().max() <= 1e-3 * scale)
