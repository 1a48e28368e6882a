"""The base class of recognizers: images -> Prediction, and the loss of that prediction."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from fgvc.datatypes import Places, Prediction
from fgvc.errors import UsageError, did_you_mean
from fgvc.images.resizing import EvalResize, Shown
from fgvc.methods.backbone import Backbone
from fgvc.methods.class_weights import ClassWeights
from fgvc.methods.heads.base import Head
from fgvc.methods.last_stage import LastStage
from fgvc.methods.losses.base import ClassLoss
from fgvc.methods.own_head import OwnHead
from fgvc.methods.view_shares import Shares, with_shares
from fgvc.taxonomy.tree import Taxonomy

BackboneFactory = Callable[[int], Backbone]
HeadFactory = Callable[[Taxonomy, Backbone], Head]


def mean_probability(predictions: Sequence[Prediction]) -> dict[str, Tensor]:
    """Return level -> (N, classes of that level): the log of the mean softmax of several predictions."""
    return {
        level: torch.stack([one.logits[level].float().log_softmax(dim=1) for one in predictions]).logsumexp(dim=0)
        - math.log(len(predictions))
        for level in predictions[0].logits
    }


def closer_backbone(first: Backbone, backbone: BackboneFactory, side: int, shared: bool) -> Backbone | None:
    """Return a second network that reads crops of a side; None where the first is shared, which must take that side.

    Raises:
        UsageError: the shared one takes no images of that side.
    """
    if not shared:
        return backbone(side)
    first.check_side(side)
    return None


PRETRAINED: tuple[type[nn.Module], ...] = (Backbone, LastStage, OwnHead)
"""What holds the layers of timm's networks: all that a phase `head` leaves as it is."""


class PhasePlan(NamedTuple):
    """What a training phase does. All that does not stand still learns.

    terms: the kinds of loss terms that the phase has; each recognizer names its own kinds.
    still: what stands still: a submodule by its name, such as `scales.0` (skipped where it is None), or all modules of
        a class.
    """

    terms: tuple[str, ...] = ("classes",)
    still: tuple[str | type[nn.Module], ...] = ()


LOCATING: Mapping[str, PhasePlan] = {
    "all": PhasePlan(terms=("classes", "locate")),
    "head": PhasePlan(terms=("classes", "locate"), still=PRETRAINED),
    "locate": PhasePlan(terms=("classes", "locate")),
}
"""The phases of recognizers that locate annotated parts; in `locate` they see no crops."""


class Recognizer(nn.Module, ABC):
    """Images (N, 3, S, S) uint8 or float in 0..255 -> Prediction.

    A training has one phase or several (see PhaseSchedule). `enter` starts a phase; until then it is `all`. The table
    `phases` says what each one does. A phase that is not in the table may belong to the heads (`Head.phases`): then the
    heads say what stands still in them and in their backbones, and the recognizer's other parts stand still too. What
    stands still gets no gradient and stays in evaluation mode, so its batch statistics do not change either. `frozen`
    iterates over these modules, and `check_phase` refuses an unfit phase before the training begins.

    Args:
        taxonomy: the classes.
        image_size: side, in pixels, at which the whole image is seen; S may be larger, and crops are cut from it.

    Attributes:
        phase: the name of the current phase.
        view_shares: how much each view counts in the answer, once that was weighed on validation images; empty where
            the answer is as `forward` makes it. In training it is never looked at.
    """

    phases: ClassVar[Mapping[str, PhasePlan]] = {"all": PhasePlan(), "head": PhasePlan(still=PRETRAINED)}
    """What each phase does: `all` trains everything, `head` keeps the backbones and the copies of last stages."""

    learns_from_episodes: ClassVar[bool] = False
    """Whether its training batches are few-shot episodes, see `FewShotRecognizer`."""

    takes_mixed: ClassVar[bool] = True
    """Whether it can learn from images that mixup and cutmix make of two."""
    points: tuple[str, ...] = ()
    """The annotated body parts that it learns from, by name; their Places are then handed to `forward` too."""

    parts: tuple[str, ...] = ()
    """The names of its K boxes where each is a part of its own; else boxes have the names of the views."""

    heads_plan: ClassVar[PhasePlan] = PhasePlan()
    """The terms of a phase that belongs to the heads."""

    def __init__(self, taxonomy: Taxonomy, image_size: int) -> None:
        super().__init__()
        self.taxonomy = taxonomy
        self.image_size = image_size
        self.phase = "all"
        self.view_shares: Shares = {}
        self._stilled: list[nn.Parameter] = []  # what the phase took the gradient from

    def __call__(self, images: Tensor, *places: Places) -> Prediction:
        """Images (N, 3, S, S) -> Prediction, see `forward`; in evaluation with `view_shares`."""
        prediction: Prediction = super().__call__(images, *places)
        return prediction if self.training else with_shares(prediction, self.view_shares)

    @abstractmethod
    def forward(self, images: Tensor) -> Prediction:
        """Images (N, 3, S, S) -> Prediction; never needs labels.

        A recognizer with `points` takes the annotated Places of the images as a second argument, None by default. In
        evaluation they must not change its answer.
        """

    @abstractmethod
    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the named terms of the current phase, to be summed; labels (N,) int64 node ids, -1 unknown.

        A loss that keeps what it has seen keeps it in a buffer and moves it once per call, while training only. Under
        mixup and cutmix, where it is called with two sets of labels, the training module weighs the two moves.
        """

    def set_places(self, places: Places) -> None:
        """Take the places of training photographs, box (R, 4) and points (R, P, 2), before the training begins."""

    def watch(self, prediction: Prediction, labels: Tensor) -> None:
        """See a validation batch of a training: what a recognizer sets by validation, it counts here; labels (N,)."""

    def settle(self) -> None:
        """Set what is set by validation, at the end of one; see `watch`."""

    def embed(self, images: Tensor) -> Tensor:
        """Images (N, 3, S, S) -> what few-shot classifiers compare: the embedding (N, D)."""
        embedding: Tensor = self(images).embedding
        return embedding

    def resize(self, own: EvalResize) -> Shown:
        """Return how evaluation shows a photograph; `own` is what the model file or the config says."""
        return own

    def apart(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the squares (N, 3, S, S) that images hold; all but an ensemble see one, (N, 3, S, S)."""
        return (images,)

    def together(self, squares: Sequence[Tensor]) -> Tensor:
        """Return the images that hold some squares (N, 3, S, S), see `apart`."""
        return squares[0]

    def measures(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return named numbers () to be logged, which are not trained on; labels (N,) int64 node ids, -1 unknown."""
        return {}

    @property
    def plan(self) -> PhasePlan:
        """What the current phase does."""
        return self.phases.get(self.phase, self.heads_plan)

    def frozen(self, phase: str) -> Iterator[nn.Module]:
        """Iterate over the modules that stand still in a phase, which may belong to the heads."""
        if phase not in self.phases:
            yield from self._frozen_by_heads(phase)
            return
        for part in self.phases[phase].still:
            if isinstance(part, type):
                yield from (module for module in self.modules() if isinstance(module, part))
            elif (module := attrgetter(part)(self)) is not None:
                yield module

    def _frozen_by_heads(self, phase: str) -> Iterator[nn.Module]:
        for child in self.children():
            if not any(isinstance(module, Head | Backbone) for module in child.modules()):
                yield child
        heads, backbones = list(self.all_heads()), list(self.backbones())
        for number, head in enumerate(heads):  # a shared backbone serves the heads that have none of their own
            yield from head.frozen(phase, backbones[min(number, len(backbones) - 1)])

    def enter(self, phase: str) -> None:
        """Start a phase: what stood still before learns again, and the heads are told.

        Raises:
            UsageError: see `check_phase`.
        """
        self.check_phase(phase)
        for parameter in self._stilled:
            parameter.requires_grad_(True)
        self.phase = phase
        for head in self.all_heads():
            head.phase = phase
        self._stilled = [p for module in self.frozen(phase) for p in module.parameters() if p.requires_grad]
        for parameter in self._stilled:
            parameter.requires_grad_(False)
        self.train(self.training)

    def begin_epoch(self, epoch: int) -> None:
        """Tell the losses how many epochs of the training are over; called before each batch, after a stop too."""
        for loss in self.losses():
            loss.epoch = epoch

    def reweight(self, on: bool) -> None:
        """Let the class weights of losses that defer them act, or wait; see `ClassWeights`.

        Raises:
            UsageError: no loss defers its weights.
        """
        deferred = [one for one in self.modules() if isinstance(one, ClassWeights) and one.deferred]
        if not deferred:
            raise UsageError(
                "reweight: no loss of this model defers class weights; give e.g. head.loss LDAM, or "
                "WeightedCrossEntropy with deferred true"
            )
        for weights in deferred:
            weights.waits = not on

    def classifiers(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Iterate over weights (C, D) and biases (C,) of the heads' classifiers, see `Head.rows`.

        Raises:
            UsageError: a head that has none.
        """
        for head in self.all_heads():
            rows = list(head.rows())
            if not rows:
                raise UsageError(f"{type(head).__name__} has no classifier of a row per class")
            yield from rows

    def set_class_counts(self, counts: Tensor) -> None:
        """Tell heads and losses the number of training images per leaf, (K,)."""
        for head in self.all_heads():
            head.set_class_counts(counts)
        for part in self.children():
            if isinstance(part, ClassLoss):
                part.set_class_counts(counts)

    def check_phase(self, phase: str) -> None:
        """Raise UsageError for a phase that neither the recognizer nor one of its heads knows."""
        phases = [*self.phases, *dict.fromkeys(own for head in self.all_heads() for own in head.phases)]
        if phase not in phases:
            raise UsageError(f"phase {phase!r}: {type(self).__name__} knows {phases}{did_you_mean(phase, phases)}")

    def train(self, mode: bool = True) -> "Recognizer":
        """Set the mode; what stands still in the current phase stays in evaluation mode."""
        super().train(mode)
        for module in self.frozen(self.phase):
            module.eval()
        return self

    def backbones(self) -> Iterator[Backbone]:
        """Iterate over the backbones inside."""
        return (module for module in self.modules() if isinstance(module, Backbone))

    def last_stages(self) -> Iterator[LastStage]:
        """Iterate over the copies of last stages that heads own."""
        return (module for module in self.modules() if isinstance(module, LastStage))

    def pretrained(self) -> Iterator[nn.Module]:
        """Iterate over timm's networks, then over the parts of them that heads and poolings hold, in timm's names."""
        yield from (backbone.net for backbone in self.backbones())
        yield from self.last_stages()
        heads = (module.net for module in self.modules() if isinstance(module, OwnHead))
        yield from (head for head in heads if any(True for _ in head.parameters()))

    def single_looks(self) -> Iterator[tuple[Backbone, Head]]:
        """Iterate over backbone and head of its networks, where each of them sees the whole image once, by `one_look`.

        Nothing where it looks in any other way.
        """
        return iter(())

    def losses(self) -> Iterator[ClassLoss]:
        """Iterate over the losses inside, of heads and of its own."""
        return (module for module in self.modules() if isinstance(module, ClassLoss))

    def all_heads(self) -> Iterator[Head]:
        """Iterate over the heads inside."""
        return (module for module in self.modules() if isinstance(module, Head))
