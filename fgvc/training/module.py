"""The one training, validation and test step of every recognizer.

Shape letters: N images, S side of the source image, C classes of a level.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, TypedDict

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from fgvc.datatypes import Places, Prediction, Sample
from fgvc.errors import UsageError
from fgvc.images.sides import DEFAULT_SIDE, check_side
from fgvc.methods.heads.base import start_rows
from fgvc.methods.recognizers.base import Recognizer
from fgvc.taxonomy.readouts import OWN, READOUTS, ancestor, lineage_log_probs
from fgvc.taxonomy.readouts import check as check_readouts
from fgvc.taxonomy.relatives import lineage_scores
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training import tta as test_time
from fgvc.training.metrics.scoreboard import Scoreboard
from fgvc.training.mixing import mix, mixed_terms
from fgvc.training.optimizers import Rates, build_optimizer, check_settings, warmup_cosine

Stage = Literal["train", "val", "test"]
RecognizerFactory = Callable[[Taxonomy, int], Recognizer]


class Answered(TypedDict, total=False):
    """What a step returns: all that callbacks need to know of a batch, as their `outputs`.

    loss: () the sum of the terms.
    boxes: (N, K, 4) xyxy fractions of the images: where the recognizer looked closer, or None.
    scores: level -> (N, C) log-probabilities before calibration; of an evaluation.
    views: name of a view -> (N,) leaf that it takes for the most probable; of an evaluation.
    lineage: (N, L) calibrated probabilities, coarse to fine, of the answered leaf's lineage; of a test.
    """

    loss: Tensor
    boxes: Tensor | None
    scores: dict[str, Tensor]
    views: dict[str, Tensor]
    lineage: Tensor


class FineGrainedModule(pl.LightningModule):
    """Train a recognizer on Samples.

    Args:
        recognizer: makes the recognizer from the taxonomy and the image size.
        taxonomy: the classes; linked to the data.
        class_counts: (K,) training images per leaf, for losses and metrics that know of rare classes; linked to the
            data.
        image_size: side, in pixels, at which the whole image is seen.
        optimizer: a name of timm's optimizer factory.
        lr: learning rate of the backbone for the whole batch over all processes.
        weight_decay: of weights with two or more dimensions; biases and norms have none.
        head_lr_ratio: learning rate of everything that is not backbone, over `lr`.
        layer_decay: factor on `lr` per layer down the backbone, or None.
        warmup_epochs: epochs of linear rise before the cosine.
        mixup: alpha of mixup, 0 for none.
        cutmix: alpha of cutmix, 0 for none.
        tta: versions averaged in `test`, each logged by its name: `flip`, `crops`, `scales`.
        readouts: other ways to answer from the leaf probabilities, each logged by its name in `test`: `marginal`,
            `ancestor`, `crm`; see `fgvc.taxonomy.readouts`.
        channels_last: memory layout of network and images; faster for most convolutional networks.
        compile: compile the recognizer with torch.compile.
        seed: of everything random inside a step.

    Raises:
        UsageError: a setting outside its range.
    """

    scores_classes: ClassVar[bool] = True
    """Whether an evaluation answers with the classes of the taxonomy, image by image, so that these can be counted."""

    def __init__(
        self,
        recognizer: RecognizerFactory,
        taxonomy: Taxonomy,
        class_counts: Tensor | None = None,
        image_size: int | None = None,
        optimizer: str = "adamw",
        lr: float = 5e-4,
        weight_decay: float = 0.05,
        head_lr_ratio: float = 5.0,
        layer_decay: float | None = None,
        warmup_epochs: float = 1.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        tta: list[str] = [],  # noqa: B006 - read only
        readouts: list[str] = [],  # noqa: B006 - read only
        channels_last: bool = True,
        compile: bool = False,  # noqa: A002 - the field's word
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["taxonomy", "class_counts"])
        test_time.check(tta)
        check_readouts(readouts)
        rates = {"weight_decay": weight_decay, "head_lr_ratio": head_lr_ratio, "warmup_epochs": warmup_epochs}
        check_settings(optimizer, lr, layer_decay, **rates, mixup=mixup, cutmix=cutmix)
        image_size = DEFAULT_SIDE if image_size is None else image_size
        check_side("model.image_size", image_size)
        self.taxonomy = taxonomy
        self.recognizer = recognizer(taxonomy, image_size)
        if (mixup or cutmix) and (self.recognizer.points or not self.recognizer.takes_mixed):
            key, value = ("mixup", mixup) if mixup else ("cutmix", cutmix)
            kind = type(self.recognizer).__name__
            raise UsageError(f"model.{key}: {value}; {kind} cannot learn from an image made of two; leave it out")
        if class_counts is not None:
            self.recognizer.set_class_counts(class_counts)
        if channels_last:
            self.recognizer.to(memory_format=torch.channels_last)
        if compile:
            self.recognizer.compile()
        self.scoreboard = Scoreboard(taxonomy, class_counts)
        self.rates = Rates(lr, weight_decay)
        self._fits = False  # in a training, whose validations may set something
        self.temperatures: dict[str, float] = {}
        """Level -> what its logits are divided by for calibrated probabilities; 1 where it is not named."""
        self._image_weights: Tensor | None = None
        self.readout = OWN
        """Where the probabilities of an answer's lineage come from, see `lineage_log_probs`."""

    @property
    def monitor(self) -> str:
        """The number that chooses the best epoch."""
        return f"val/{self.taxonomy.leaf_level}/top1"

    def forward(self, images: Tensor) -> Prediction:
        """Images (N, 3, S, S) uint8 or float in 0..255 -> Prediction."""
        return self.recognizer(images)

    def on_fit_start(self) -> None:
        """Ask the data what the loss of each training image counts."""
        weights = getattr(getattr(self.trainer, "datamodule", None), "loss_weights", None)
        self._image_weights = None if weights is None else weights.to(self.device)

    def training_step(self, sample: Sample, batch_idx: int) -> Answered:
        """Learn from one batch."""
        hparams: Any = self.hparams
        mixed = mix(sample.image, hparams.mixup, hparams.cutmix)
        prediction = self._trained(mixed.images, sample.places)
        weights = None if self._image_weights is None else self._image_weights[sample.index]
        terms = mixed_terms(
            self.recognizer, lambda labels: self.recognizer.loss(prediction, labels), sample.label, mixed, weights
        )
        return self._answered(prediction, terms, sample.label, "train")

    def setup(self, stage: str) -> None:
        """Ask the data for annotated places where the recognizer learns from them, and show it those of the training.

        Raises:
            UsageError: see `FineGrainedData.show_places`.
        """
        self._fits = stage == "fit"
        data = getattr(self.trainer, "datamodule", None)
        if self.recognizer.points and data is not None:
            data.show_places(self.recognizer.points, type(self.recognizer).__name__, learns=stage == "fit")
            if stage == "fit":
                self.recognizer.set_places(data.known_places("train"))

    def _trained(self, images: Tensor, places: Places | None) -> Prediction:
        """Answer in training; raises UsageError for a single image where a batch normalisation has one number of it."""
        try:
            return self._answer(images, places)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UsageError(
                f"data.batch_size: a batch of {len(images)} image gives batch normalisation a single number per "
                "channel; give --data.batch_size 2 or more, or a backbone without it, such as a ViT or ConvNeXt"
            ) from None

    def _answer(self, images: Tensor, places: Places | None) -> Prediction:
        return self(images) if places is None else self.recognizer(images, places)

    def validation_step(self, sample: Sample, batch_idx: int) -> Answered:
        """Count one validation batch."""
        return self._evaluation_step(sample, "val")

    def test_step(self, sample: Sample, batch_idx: int) -> Answered:
        """Count one test batch, also by the other ways to answer that a test knows."""
        return self._evaluation_step(sample, "test")

    def on_train_batch_start(self, batch: Sample, batch_idx: int) -> None:
        """Seed torch, set the rates, tell the epoch: all functions of the step, so a resumed run needs no state."""
        self.recognizer.begin_epoch(self.current_epoch)
        place = (self.hparams["seed"], self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
        steps, accumulated = int(self.trainer.estimated_stepping_batches), self.trainer.accumulate_grad_batches
        per_epoch = math.ceil(self.trainer.num_training_batches / accumulated)
        # not the global step: epochs that were trained with another batch size had another number of steps
        step = self.current_epoch * per_epoch + batch_idx // accumulated
        factor = warmup_cosine(min(step, steps), steps, round(self.hparams["warmup_epochs"] * per_epoch))
        optimizer: Any = self.optimizers()
        self.rates.set(optimizer.param_groups, factor)
        size = len(batch.image)
        self.log("train/lr", self.rates.lr * factor, on_step=False, on_epoch=True, batch_size=size)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the classes: weights of the same shape may belong to others."""
        checkpoint["taxonomy"] = self.taxonomy.to_plain()

    def set_rate(self, lr: float) -> None:
        """Set the learning rate before the training begins."""
        hparams: Any = self.hparams
        hparams.lr = lr
        self.rates = Rates(lr, hparams.weight_decay)

    def check_phase(self, phase: str) -> None:
        """Raise UsageError for a phase that the recognizer does not know."""
        self.recognizer.check_phase(phase)

    def enter(self, phase: str, lr: float | None = None, weight_decay: float | None = None) -> None:
        """Start a phase.

        Args:
            phase: one of the recognizer's phases.
            lr, weight_decay: in place of the module's while the phase lasts, or None.
        """
        hparams: Any = self.hparams
        self.recognizer.enter(phase)
        self.rates.lr = hparams.lr if lr is None else lr
        self.rates.weight_decay = hparams.weight_decay if weight_decay is None else weight_decay

    def reweight(self, on: bool) -> None:
        """Let the class weights of losses that defer them act, or wait; raises UsageError where none defers them."""
        self.recognizer.reweight(on)

    def check_new_classifiers(self) -> None:
        """Raise UsageError for a recognizer whose classifiers cannot be made anew."""
        for _ in self.recognizer.classifiers():
            pass

    def start_classifiers(self) -> None:
        """Make the classifiers anew, and forget what the optimizer knows of them: a function of seed and epoch."""
        drawn = np.random.SeedSequence((self.hparams["seed"], self.current_epoch)).generate_state(1)
        generator = torch.Generator().manual_seed(int(drawn[0]))
        optimizer: Any = self.optimizers()
        for weight, bias in self.recognizer.classifiers():
            start_rows(weight, bias, generator)
            for parameter in (weight, bias):
                optimizer.state.pop(parameter, None)

    def _evaluation_step(self, sample: Sample, stage: Stage) -> Answered:
        prediction = self._answer(sample.image, sample.places)
        counted = self._count(prediction, sample.label, stage)
        if stage == "val" and self._fits:
            self.recognizer.watch(prediction, sample.label)
        if stage == "test":
            counted["lineage"] = self._count_more(prediction, counted["scores"], sample)
        terms = self.recognizer.loss(prediction, sample.label)
        return counted | self._answered(prediction, terms, sample.label, stage)

    def _answered(self, prediction: Prediction, terms: dict[str, Tensor], labels: Tensor, stage: Stage) -> Answered:
        """Log the loss and its terms, and return it with the boxes."""
        loss = torch.stack(list(terms.values())).sum()
        with torch.no_grad():
            measures = self.recognizer.measures(prediction, labels)
        parts = {f"loss_{name}": term for name, term in terms.items()} if len(terms) > 1 else {}
        self._log_losses({"loss": loss} | parts | measures, stage, len(labels))
        return {"loss": loss, "boxes": None if prediction.boxes is None else prediction.boxes.detach()}

    def _log_losses(self, numbers: dict[str, Tensor], stage: Stage, size: int) -> None:
        named = {f"{stage}/{name}": number.detach() for name, number in numbers.items()}
        if stage == "train":
            self.log_dict(named, on_step=False, on_epoch=True, batch_size=size)
            return
        for name, value in named.items():
            self.scoreboard.average(name, value, size)

    def _count(self, prediction: Prediction, labels: Tensor, stage: Stage) -> Answered:
        """Count the answers, the best leaf and its ancestors; and, named `own`, the best class of each level."""
        leaf = self.taxonomy.leaf_level
        scores = self.taxonomy.complete(prediction.logits)
        self.scoreboard.count(stage, ancestor(scores[leaf], self.taxonomy), labels)
        if len(self.taxonomy.levels) > 1:
            self.scoreboard.count(f"{stage}/{OWN}", scores, labels)
        views = {}
        for name, view in prediction.views.items():
            of_view = self.taxonomy.complete(view.logits)
            self.scoreboard.count(f"{stage}/{name}", ancestor(of_view[leaf], self.taxonomy), labels)
            views[name] = of_view[leaf].argmax(dim=1)
        return {"scores": scores, "views": views}

    def _count_more(self, prediction: Prediction, uncalibrated: dict[str, Tensor], sample: Sample) -> Tensor:
        """Count what is asked of a test alone: other ways to answer, more looks, calibrated probabilities.

        Returns:
            (N, L) calibrated probabilities of the best leaf's lineage.
        """
        hparams: Any = self.hparams
        leaf = self.taxonomy.leaf_level
        for name in hparams.tta:
            looks = test_time.averaged(self._looked, self.recognizer.apart(sample.image), name)
            self.scoreboard.count(f"test/tta_{name}", ancestor(looks[leaf], self.taxonomy), sample.label)
        scores = lineage_log_probs(prediction.logits, self.taxonomy, self.temperatures, self.readout)
        for name in hparams.readouts:
            self.scoreboard.count(f"test/{name}", READOUTS[name](scores[leaf], self.taxonomy), sample.label)
        lineage = lineage_scores(scores, self.taxonomy)
        known = self.taxonomy.targets(sample.label, leaf) >= 0
        right = (scores[leaf].argmax(dim=1) == sample.label)[known]
        self.scoreboard.calibration("test/ece", lineage[known, -1], right)
        self.scoreboard.calibration("test/ece_uncalibrated", uncalibrated[leaf].amax(dim=1).exp()[known], right)
        return lineage

    def _looked(self, squares: Sequence[Tensor]) -> dict[str, Tensor]:
        return self.taxonomy.complete(self(self.recognizer.together(squares)).logits)

    def on_validation_epoch_end(self) -> None:
        """Log loss and accuracy at every level, then let the recognizer set what it sets by validation."""
        self._log_metrics("val")
        if self._fits:
            self.recognizer.settle()

    def on_test_epoch_end(self) -> None:
        """Log loss and accuracy at every level."""
        self._log_metrics("test")

    def _log_metrics(self, stage: Stage) -> None:
        self.log_dict(dict(self.scoreboard.result(stage, self.device)), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the one optimizer of the run; its rates are set before each step.

        Raises:
            UsageError: a run without end, or a setting that the optimizer refuses.
        """
        if self.trainer.max_epochs == -1 and self.trainer.max_steps == -1:
            raise UsageError("trainer.max_epochs: -1 has no end, but the learning rate falls to one; give a number")
        hparams: Any = self.hparams
        optimizer = build_optimizer(
            self.recognizer,
            [*self.recognizer.pretrained()],
            name=hparams.optimizer,
            lr=hparams.lr,
            weight_decay=hparams.weight_decay,
            head_lr_ratio=hparams.head_lr_ratio,
            layer_decay=hparams.layer_decay,
        )
        # read here: a resumed optimizer brings the former rates with it, and what the user typed must win
        self.rates.initial = [group["initial_lr"] for group in optimizer.param_groups]
        return optimizer
