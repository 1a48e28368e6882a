"""One datamodule over all sources: Records -> batches of Samples."""

import copy
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fgvc.confidence.effective_number import check_beta
from fgvc.data.amended import Amended, amended
from fgvc.data.dataset import OnBadImage, PhotoDataset, Transform, VectorDataset
from fgvc.data.drawing import Drawing
from fgvc.data.episode_batches import (
    EpisodePhotos,
    EpisodePlan,
    EpisodeSampler,
    check_disjoint,
    collate_episode,
    positions,
)
from fgvc.data.loaders import EvalLoader, Order, TrainLoader, collate, collate_vectors
from fgvc.data.long_tail import LongTail
from fgvc.data.noise import Noise
from fgvc.data.places import ShownPlaces
from fgvc.data.records import Records
from fgvc.data.samplers import BETA, Balance, EvalSampler, TrainSampler
from fgvc.data.sources.base import Annotations, DataSource
from fgvc.data.split_positions import split_positions, thin
from fgvc.data.stages import Drawn, Stages, check_weights, read_stages
from fgvc.data.transforms import Augmentation, EvalTransform, TrainTransform
from fgvc.datatypes import Places, Sample
from fgvc.errors import UsageError
from fgvc.images.decoding import ImageError, Limits
from fgvc.images.resizing import EvalResize, Shown
from fgvc.images.sides import DEFAULT_SIDE, check_side
from fgvc.taxonomy.tree import Taxonomy


class FineGrainedData(pl.LightningDataModule):
    """Photographs of any source, augmented for training, resized in one way for everything else.

    Args:
        source: where the files and labels come from.
        image_size: side at which the model sees the whole image; linked to `model.image_size`; by default 224.
        source_size: side of the image that the model gets and cuts crops from; by default `image_size`.
        batch_size: images per training step and process.
        val_fraction: share of the training images that is held out for choosing, stratified by class and never cutting
            a group; 0 trains on all. Ignored where the source has a val split of its own.
        fit: `crop` (centred square) or `squash` (whole picture) when nothing is random; `crop` by default, and in a run
            what the weights of the backbone were tested with, as for the next two.
        crop_fraction: share of the sides that the evaluation cut keeps; 1 by default.
        interpolation: filter of the evaluation resize, see `EvalResize`; `area` by default.
        augmentation: what training changes at random.
        balance: how often the images of a class are drawn.
        balance_beta: of the balance `effective_number`: from 0, as `uniform`, to 1, as `class_balanced`.
        num_workers: processes that decode; by default one less than there are cores, at most 8, at least 1.
        seed: decides order and augmentation.
        split_seed: decides which training images are held out; apart from `seed`, so that seeds can be compared.
        folds: into how many parts of equal kind the training images are cut, for `fgvc fit --folds`; 0 for none.
        fold: which of the parts, from 1 on, is the test split in place of the source's own; the others are trained on.
        on_bad_image: `error` stops at a file that cannot be read; `skip` continues: training takes another image in
            its place, and no metric counts it; see `unreadable`.
        limits: how large a photograph may be, and of which format.
        episodes: for a few-shot network, which is trained and judged on episodes: each is one batch. Train, val and
            test then have no class in common; where the source has no val split, `val_fraction` is the share of the
            training classes that is held out, and groups are not regarded. An image that cannot be read is replaced by
            another of its class. One process trains.
        stages: a table with the columns path, label and stage, which says how clean the label of each training image is
            taken to be (`fgvc curriculum` writes one); a phase may then draw from some stages, see `PhaseSchedule`.
        stage_weights: what the loss of an image counts in each stage, clean, noisy, highly noisy, e.g. [1, 0.5, 0.5];
            by default all count the same.
        long_tail: thins the training images to a long tail, for experiments; what is held out stays as it is.
        noise: training labels that are made wrong on purpose, for experiments.
        exclude: a table, such as `fgvc data audit` writes, whose column `path` names photographs of train and val that
            are left out.
        relabel: a table that names another class for photographs of train and val, in the column `likely_label` or
            `true_label`; one without a class there is left out.

    Raises:
        UsageError: a setting outside its range.
    """

    def __init__(
        self,
        source: DataSource,
        image_size: int | None = None,
        source_size: int | None = None,
        batch_size: int = 32,
        val_fraction: float = 0.1,
        fit: Literal["crop", "squash"] | None = None,
        crop_fraction: float | None = None,
        interpolation: Literal["area", "bilinear", "bicubic"] | None = None,
        augmentation: Augmentation = Augmentation(),  # noqa: B008 - frozen
        balance: Balance = "uniform",
        balance_beta: float = BETA,
        num_workers: int | None = None,
        seed: int = 0,
        split_seed: int = 0,
        folds: int = 0,
        fold: int = 1,
        on_bad_image: Literal["error", "skip"] = "error",
        limits: Limits = Limits(),  # noqa: B008 - frozen
        episodes: EpisodePlan | None = None,
        stages: str | None = None,
        stage_weights: list[float] | None = None,
        long_tail: LongTail | None = None,
        noise: Noise | None = None,
        exclude: str | None = None,
        relabel: str | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= val_fraction < 1:
            raise UsageError(f"data.val_fraction: {val_fraction}; it must be at least 0 and below 1")
        if batch_size < 1:
            raise UsageError(f"data.batch_size: {batch_size}; it must be at least 1")
        for key, number in (("seed", seed), ("split_seed", split_seed), ("num_workers", num_workers or 0)):
            if number < 0:
                raise UsageError(f"data.{key}: {number}; it must be at least 0")
        if (num_workers or 0) > (most := most_workers()):
            raise UsageError(
                f"data.num_workers: {num_workers}; this machine takes at most {most} (usual: one per core)"
            )
        image_size = DEFAULT_SIDE if image_size is None else image_size
        check_side("model.image_size", image_size)
        if crop_fraction is not None and not 0 < crop_fraction <= 1:
            raise UsageError(f"data.crop_fraction: {crop_fraction}; it must be above 0 and at most 1")
        if source_size is not None and source_size < image_size:
            raise UsageError(
                f"data.source_size: {source_size} is less than model.image_size {image_size}, which would be enlarged; "
                f"give {image_size} or more"
            )
        self.source = source
        asked = {"fit": fit, "crop_fraction": crop_fraction, "interpolation": interpolation}
        known = {key: value for key, value in asked.items() if value is not None}
        self.resize: Shown = EvalResize(source_size or image_size, **known).check()  # type: ignore[arg-type]
        self.batch_size = batch_size
        self.num_workers = default_workers() if num_workers is None else num_workers
        self.balance = balance
        check_beta("data.balance_beta", balance_beta)
        self.seed = seed
        self._eval_transform = EvalTransform(self.resize)
        self.is_random = not augmentation.off
        self._augmentation = augmentation
        self._point_names: tuple[str, ...] = ()
        augmented = TrainTransform(self.resize.size, augmentation)  # also where it is off: wrong keys are refused
        self._train_transform: Transform = augmented if self.is_random else self._eval_transform
        self._remembered: dict[str, Tensor] = {}
        self.on_bad_image = on_bad_image
        self.limits = limits.check("data.limits.")
        self._unreadable: dict[str, Tensor] = {}
        self._records: dict[str, Records] = {}
        if folds and not 1 <= fold <= folds:
            raise UsageError(f"data.fold: {fold}; there are the folds 1 to {folds}")
        self.episodes = episodes and episodes.check()
        if episodes:
            _check_alone(folds, balance, stages, long_tail)
        self._stages_path, self._stage_weights = stages, check_weights(stage_weights, stages)
        self._stages: Stages | None = None
        self._drawing = Drawing(balance, balance_beta)
        self._split_seed = split_seed
        self._positions = split_positions(source, val_fraction, split_seed, folds, fold, by_class=episodes is not None)
        self.long_tail = long_tail and long_tail.check()
        self.thinned_from = thin(self._positions, source, self.long_tail) if self.long_tail else 0
        """How many training images there were before `long_tail` thinned them; 0 where it did not."""
        self.amended = self._amend(noise, exclude, relabel) if noise or exclude or relabel else None

    @property
    def taxonomy(self) -> Taxonomy:
        """The tree of the source."""
        return self.source.taxonomy

    @property
    def class_counts(self) -> Tensor:
        """(K,) int64: training images per leaf; 0 where there are none, as in data to test on."""
        if "train" not in self.splits:
            return torch.zeros(self.taxonomy.num_classes, dtype=torch.int64)
        labels = self.records("train").labels
        leaves = labels[(labels >= 0) & (labels < self.taxonomy.num_classes)]
        return torch.from_numpy(np.bincount(leaves, minlength=self.taxonomy.num_classes))

    def has_new_classes(self, split: str) -> bool:
        """Whether none of the classes of a split is trained on, as in few-shot protocols: no answer can be right."""
        labels = self.records(split).labels
        leaves = labels[(labels >= 0) & (labels < self.taxonomy.num_classes)]
        return len(leaves) > 0 and not bool(self.class_counts[torch.from_numpy(np.unique(leaves)).long()].any())

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that can be asked for."""
        return tuple(self._positions)

    def records(self, split: str) -> Records:
        """Return the files and labels of train, val or test."""
        self._read_from(split)
        if self.amended is not None:
            return self.amended.records[split]
        return self.records_of_source(split)

    def records_of_source(self, split: str) -> Records:
        """Return the files and labels of a split before noise, exclude and relabel."""
        name, positions = self._read_from(split)
        if split not in self._records:  # at millions of records a subset takes seconds
            records = self.source.records(name)
            self._records[split] = records if positions is None else records.subset(positions)
        return self._records[split]

    def of_source(self) -> "FineGrainedData":
        """Return the same photographs before noise, exclude and relabel, to which none is added."""
        added = self.amended is not None and any(bool((of < 0).any()) for of in self.amended.places.values())
        if self.amended is None or added:
            return self
        other = copy.copy(self)
        other.amended, other._unreadable = None, {}
        return other

    def unreadable(self, split: str) -> list[int]:
        """Return which records of a split this process or its workers found unreadable and went on without."""
        return self._unreadable[split].nonzero()[:, 0].tolist() if split in self._unreadable else []

    def annotations(self, split: str, index: int) -> Annotations:
        """Return what the source knows about one record of a split."""
        name, rows = self._rows(split)
        row = index if rows is None else int(rows[index])
        return Annotations() if row < 0 else self.source.annotations(name, row)

    def show_places(self, names: Sequence[str], who: str, learns: bool) -> None:
        """Put the annotated places into the Samples, see `Places`; ask before the loaders are made.

        Args:
            names: of the points, in the order wanted.
            who: the recognizer that asks, for messages.
            learns: whether it is to learn from them; else what is missing counts as unknown.

        Raises:
            UsageError: it is to learn, and the source knows none of these points, or the augmentation moves points in
                a way that no view tells.
        """
        known = self.source.point_names
        if learns and not set(names) & set(known):
            kind, has = type(self.source).__name__, f"it has {', '.join(known)}" if known else "it has no points"
            raise UsageError(
                f"{who}: it learns from the annotated points {', '.join(names[:3])} ..., but {kind} knows none of them "
                f"({has}); name its points in `points`, or use a method that needs no annotations"
            )
        if learns and (policy := self._augmentation.policy) and self.is_random:
            raise UsageError(
                f"data.augmentation.policy: {policy}; its rotations and shears would leave the annotated points of "
                f"{who} behind; leave it out"
            )
        self._point_names = tuple(names)

    def known_places(self, split: str, most: int = 2000) -> Places:
        """Return what is annotated of a split's whole photographs: (R, 4) and (R, P, 2), see `show_places`.

        Args:
            split: train, val or test.
            most: how many photographs are asked for; of more, as many are taken at even distances.
        """
        ask = ShownPlaces(self.source, *self._rows(split), self._point_names)
        number, found = len(self.records(split)), []
        for index in np.unique(np.linspace(0, number - 1, min(most, number)).round().astype(int)).tolist():
            with suppress(ImageError):  # a file that cannot be read is told where it is shown
                found.append(ask(index, np.array([0.0, 0.0, 1.0, 1.0])))
        if not found:
            return Places(torch.zeros(0, 4), torch.zeros(0, len(self._point_names), 2))
        return Places(*(torch.stack(part) for part in zip(*found, strict=True)))

    def remember(self, split: str, vectors: Tensor) -> None:
        """Give the training vectors (R, D) of its own in place of the R images of train or val, see `VectorDataset`."""
        if len(vectors) != len(self.records(split)):
            raise ValueError(f"{len(vectors)} vectors for {len(self.records(split))} images of {split}")
        self._remembered[split] = vectors

    def show(self, resize: Shown) -> None:
        """Show photographs in this way when nothing is random; what training draws stays as it is."""
        self.resize = resize
        self._eval_transform = EvalTransform(resize)

    def enter(self, phase: str) -> None:
        """Start a phase of training; what it draws was told before, see `follow`."""

    @property
    def stages(self) -> Stages | None:
        """The stages of the training images, or None without a table; raises UsageError where it does not fit."""
        if self._stages is None and self._stages_path is not None:  # read by those who train, not by those who test
            others = [self.source.records(split) for split in self.source.splits]
            self._stages = read_stages(self._stages_path, self.records("train"), others, self.taxonomy)
        return self._stages

    @property
    def loss_weights(self) -> Tensor | None:
        """(R,) float32: what the loss of each training image counts; None where all count the same."""
        return self.stages.weights(self._stage_weights) if self._stage_weights and self.stages else None

    @property
    def draws_by_phase(self) -> bool:
        """Whether a phase of the training says what is drawn, see `follow`."""
        return self._drawing.plan is not None

    def check_drawn(self, drawn: Drawn) -> None:
        """Raise UsageError for what a phase cannot draw from."""
        if self.episodes and drawn != Drawn():
            key = "balance" if drawn.balance else "subsets"
            raise UsageError(f"{key}: episodes draw all classes and their images equally often; leave it out")
        if drawn.subsets is not None and self.stages is None:
            raise UsageError("subsets: data.stages names no table of stages; fgvc curriculum writes one")
        if drawn.subsets is not None and self.stages is not None:
            self.stages.rows(drawn.subsets)

    def follow(self, plan: Callable[[int], Drawn]) -> None:
        """Draw the images of each training epoch as a plan says: epoch -> what is drawn.

        The whole plan is told before the training: a loader of a resumed run has to know the epoch that it goes on with
        before any phase is entered.
        """
        self._drawing.plan = plan

    def train_dataloader(self) -> DataLoader[Sample]:
        """Training batches of equal size, where a rest is left out, or episodes."""
        if self.episodes:
            return self._episode_loader("train", self.episodes)
        records = self.records("train")
        rank, world_size = self._place()
        drawing, planned = self._drawing, self.draws_by_phase
        draw = partial(drawing.at, stages=self.stages) if planned else None
        sampler = TrainSampler(records.labels, self.balance, self.seed, rank, world_size, draw, drawing.beta)
        if len(sampler) < self.batch_size:
            available = f"{len(sampler)} training images" + (" per process" if world_size > 1 else "")
            raise UsageError(f"data.batch_size: {self.batch_size}, but there are only {available}")
        order: Order = {
            "data.batch_size": self.batch_size,
            "data.seed": self.seed,
            **drawing.order(),
            "training images": len(records),
            "processes": world_size,
        }
        if self.long_tail:
            order["data.long_tail"] = str(self.long_tail)
        dataset = self._vectors("train") or self._dataset("train", self._train_transform, self.seed, "replace")
        at = partial(drawing.order_at, stages=self.stages) if planned else None
        return TrainLoader(dataset, sampler=sampler, order=order, order_at=at, drop_last=True, **self._loading("train"))

    def val_dataloader(self) -> DataLoader[Sample] | list[DataLoader[Sample]]:
        """Validation batches; no loader where nothing is held out."""
        if vectors := self._vectors("val"):
            return EvalLoader(vectors, sampler=EvalSampler(len(vectors), *self._place()), **self._loading("val"))
        if "val" not in self._positions:
            return []
        return self._episode_loader("val", self.episodes) if self.episodes else self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """Test batches."""
        return self._episode_loader("test", self.episodes) if self.episodes else self._eval_loader("test")

    def whole_split(self, split: str, rows: Sequence[int] | None = None) -> DataLoader[Sample]:
        """Batches of a split, or of some of its images, for this process alone, however many processes train."""
        return self._eval_loader(split, (0, 1), rows)

    def _amend(self, noise: Noise | None, exclude: str | None, relabel: str | None) -> Amended:
        before = {split: self.records_of_source(split) for split in self.splits}
        return amended(before, self.taxonomy, noise, exclude, relabel)

    def _read_from(self, split: str) -> tuple[str, Any]:
        if split not in self._positions:
            raise UsageError(f"the data has no {split} split; it has {sorted(self._positions)}")
        return self._positions[split]

    def _eval_loader(
        self, split: str, place: tuple[int, int] | None = None, rows: Sequence[int] | None = None
    ) -> DataLoader[Sample]:
        dataset = self._dataset(split, self._eval_transform, 0, "leave_out")
        sampler = EvalSampler(len(dataset), *(place or self._place())) if rows is None else [(0, row) for row in rows]
        return EvalLoader(dataset, sampler=sampler, **self._loading())

    def _episode_loader(self, split: str, plan: EpisodePlan) -> DataLoader[Any]:
        """Return a loader of episodes; raises UsageError where the split has none, or for several processes."""
        if self._place()[1] > 1:
            raise UsageError("data.episodes: one process trains on episodes; give --trainer.devices 1")
        kind, records, is_training = plan.kind(split), self.records(split), split == "train"
        if not is_training and "train" in self.splits:
            check_disjoint(self.records("train").labels, records.labels, self.taxonomy, split)
        found = positions(records.labels, self.taxonomy, kind, split)
        seed = self.seed if is_training else self._split_seed
        sampler = EpisodeSampler(found, kind, seed, is_training)
        transform: Transform = self._train_transform if is_training else self._eval_transform
        dataset = self._dataset(split, transform, self.seed if is_training else 0, "replace", EpisodePhotos)
        loading = self._loading() | {"batch_size": kind.images, "collate_fn": partial(collate_episode, kind=kind)}
        if not is_training:
            return EvalLoader(dataset, sampler=sampler, **loading)
        order: Order = {
            "data.batch_size": kind.images,
            "data.seed": self.seed,
            "data.episodes": str(kind),
            "images of an epoch": len(sampler),
            "training images": len(records),
            "processes": 1,
        }
        return TrainLoader(dataset, sampler=sampler, order=order, **loading)

    def _dataset(
        self, split: str, transform: Transform, seed: int, skip: OnBadImage, kind: type[PhotoDataset] = PhotoDataset
    ) -> PhotoDataset:
        records = self.records(split)
        annotated = ShownPlaces(self.source, *self._rows(split), self._point_names) if self._point_names else None
        if self.on_bad_image == "error":
            return kind(records, transform, seed, split, limits=self.limits, annotated=annotated)
        if split not in self._unreadable:
            self._unreadable[split] = torch.zeros(len(records), dtype=torch.bool)
            self._unreadable[split].share_memory_()  # type: ignore[no-untyped-call]
        stages = self.stages.numbers if split == "train" and self.stages else None
        return kind(records, transform, seed, split, skip, self._unreadable[split], self.limits, stages, annotated)

    def _rows(self, split: str) -> tuple[str, npt.NDArray[np.int64] | None]:
        """Return the source's split and the row in it of each record: -1 for one of another place, None for all."""
        name, rows = self._read_from(split)
        if self.amended is None:
            return name, rows
        places = self.amended.places[split]
        return name, places if rows is None else np.where(places < 0, -1, rows[places])

    def _vectors(self, split: str) -> VectorDataset | None:
        known = self._remembered.get(split)
        return None if known is None else VectorDataset(self.records(split), known)

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loading(self, split: str = "") -> dict[str, Any]:
        decodes = split not in self._remembered
        workers = self.num_workers if decodes else 0
        return {
            "batch_size": self.batch_size,
            "num_workers": workers,
            "collate_fn": collate if decodes else collate_vectors,
            "pin_memory": torch.cuda.is_available(),
            "persistent_workers": workers > 0,
            "worker_init_fn": _alone,
        }


def default_workers() -> int:
    """Return how many processes decode by default."""
    return max(1, min(8, (os.cpu_count() or 2) - 1))


def most_workers() -> int:
    """Return how many processes may decode: each costs half a gigabyte, so a slip of the keyboard stops a machine."""
    return max(64, 4 * (os.cpu_count() or 1))


def _check_alone(folds: int, balance: Balance, stages: str | None, long_tail: LongTail | None) -> None:
    """Raise UsageError for a setting that has nothing to say where training is on episodes."""
    if folds:
        raise UsageError(f"data.folds: {folds}; folds share every class out, but episodes are tested on new classes")
    if balance != "uniform":
        raise UsageError(f"data.balance: {balance}; episodes draw all classes equally often; leave it out")
    if stages:
        raise UsageError(f"data.stages: {stages}; episodes draw all images of a class equally often; leave it out")
    if long_tail:
        raise UsageError("data.long_tail: episodes draw all classes equally often; leave it out")


def _alone(worker: int) -> None:
    """Let a worker process use one thread and ignore Ctrl-C, which its parent process handles."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
