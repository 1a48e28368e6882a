"""The training, validation and test step of few-shot networks: a batch is an episode.

Shape letters: W ways, K shots, Q queries of an episode in all.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fgvc.datatypes import EpisodeSample
from fgvc.errors import UsageError
from fgvc.methods.recognizers.few_shot import FewShotRecognizer
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.metrics.episodes import EpisodeAccuracy
from fgvc.training.module import Answered, FineGrainedModule, RecognizerFactory, Stage


class EpisodicModule(FineGrainedModule):
    """Train a few-shot network on episodes (Jake Snell and others, NeurIPS 2017).

    The loss is the cross-entropy of the queries over the ways. It is logged, and of a validation or test
    `episodes/top1` and `episodes/interval`, the half width of the 95 % interval of the mean over episodes.

    Args:
        recognizer: makes the recognizer from the taxonomy and the image size.
        taxonomy: the classes; linked to the data.
        class_counts: not used.
        image_size: side, in pixels, at which an image is seen.
        settings: see FineGrainedModule.

    Raises:
        UsageError: a setting that is nothing for episodes, or outside its range; or a classifier that is prepared with
            images of base classes, which a training would change all the time.
    """

    scores_classes: ClassVar[bool] = False

    recognizer: FewShotRecognizer

    def __init__(
        self,
        recognizer: RecognizerFactory,
        taxonomy: Taxonomy,
        class_counts: Tensor | None = None,
        image_size: int | None = None,
        **settings: Any,
    ) -> None:
        for key in ("mixup", "cutmix", "tta", "readouts", "compile"):
            if settings.get(key):
                raise UsageError(f"model.{key}: {settings[key]}; a training on episodes has none; leave it out")
        super().__init__(recognizer, taxonomy, None, image_size, **settings)
        if self.recognizer.classifier.needs_base:
            kind = type(self.recognizer.classifier).__name__
            raise UsageError(f"{kind}: it is prepared once with finished features; train with another classifier")
        self._accuracies = nn.ModuleDict({stage: EpisodeAccuracy() for stage in ("val", "test")})

    @property
    def monitor(self) -> str:
        """The number that chooses the best epoch."""
        return "val/episodes/top1"

    def training_step(self, sample: EpisodeSample, batch_idx: int) -> Answered:  # type: ignore[override]
        """Learn from one episode."""
        return self._step(sample, "train")

    def _evaluation_step(self, sample: EpisodeSample, stage: Stage) -> Answered:  # type: ignore[override]
        return self._step(sample, stage)

    def _step(self, sample: EpisodeSample, stage: Stage) -> Answered:
        n_way, n_shot = sample.n_way, sample.n_shot
        scores = self.recognizer.episode_scores(self.recognizer.embed(sample.image), n_way, n_shot)
        targets = torch.arange(n_way, device=scores.device).repeat_interleave(len(scores) // n_way)
        loss = cross_entropy(scores, targets)
        self._log_losses({"loss": loss}, stage, 1)
        if stage != "train":
            metric: Any = self._accuracies[stage]
            metric.update(scores.argmax(dim=1) == targets)
        return {"loss": loss, "boxes": None}

    def _log_metrics(self, stage: Stage) -> None:
        super()._log_metrics(stage)
        metric: Any = self._accuracies[stage]
        self.log_dict({f"{stage}/episodes/{name}": value for name, value in metric.compute().items()})
        metric.reset()
