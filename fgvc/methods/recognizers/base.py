"""What every recognizer offers: images -> Prediction, and the loss of that prediction."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError, did_you_mean
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.base import Head
from fgvc.methods.last_stage import LastStage
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


class Recognizer(nn.Module, ABC):
    """Images (N, 3, S, S) uint8 or float in 0..255 -> Prediction.

    Args:
        taxonomy: the classes.
        image_size: side, in pixels, at which the whole image is seen; S may be larger, and crops are cut from it.
    """

    phases: tuple[str, ...] = ("all", "head")
    """Names of the training phases it knows: `all` trains everything, `head` keeps the backbones as they are."""

    def __init__(self, taxonomy: Taxonomy, image_size: int) -> None:
        super().__init__()
        self.taxonomy = taxonomy
        self.image_size = image_size
        self.phase = "all"
        self._stilled: list[nn.Parameter] = []  # what the phase took the gradient from

    @abstractmethod
    def forward(self, images: Tensor) -> Prediction:
        """Images (N, 3, S, S) -> Prediction; never needs labels."""

    @abstractmethod
    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the named terms of the current phase, to be summed; labels (N,) int64 node ids."""

    def measures(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return named numbers () that are logged beside the loss and not trained on; labels (N,) int64 node ids."""
        return {}

    def frozen(self, phase: str) -> Iterator[nn.Module]:
        """Iterate over the modules that stand still in a phase, be it the recognizer's or its heads' own."""
        if phase == "head":
            yield from self.backbones()
            yield from self.last_stages()
        elif phase not in self.phases:
            for child in self.children():
                if not any(isinstance(module, Head | Backbone) for module in child.modules()):
                    yield child
            heads, backbones = list(self.all_heads()), list(self.backbones())
            for number, head in enumerate(heads):  # a shared backbone serves the heads that have none of their own
                yield from head.frozen(phase, backbones[min(number, len(backbones) - 1)])

    def enter(self, phase: str) -> None:
        """Start a phase: choose what is trained.

        Raises:
            UsageError: the recognizer knows no such phase.
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

    def check_phase(self, phase: str) -> None:
        """Raise UsageError for a phase that the recognizer does not know."""
        phases = [*self.phases, *dict.fromkeys(own for head in self.all_heads() for own in head.phases)]
        if phase not in phases:
            raise UsageError(f"phase {phase!r}: {type(self).__name__} knows {phases}{did_you_mean(phase, phases)}")

    def train(self, mode: bool = True) -> "Recognizer":
        """Set the mode; what is not trained stays in evaluation mode: its batch statistics stand still."""
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

    def all_heads(self) -> Iterator[Head]:
        """Iterate over the heads inside."""
        return (module for module in self.modules() if isinstance(module, Head))


class Scale(nn.Module):
    """A backbone and its head: what looks at the images of one scale.

    Args:
        head: names what the backbone sees.
        backbone: its own; None where it shares another scale's.
    """

    def __init__(self, head: Head, backbone: Backbone | None) -> None:
        super().__init__()
        self.head = head
        self.backbone = backbone
