"""Co-teaching: two networks, each of which learns from the images that the other finds easy.

Shape letters: N images, S side of the source image, D width of the embedding.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.base import Head
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.losses.base import named
from fgvc.methods.module_list import ModuleListOf
from fgvc.methods.one_look import one_look
from fgvc.methods.recognizers.base import BackboneFactory, HeadFactory, Recognizer, mean_probability
from fgvc.taxonomy.relatives import below
from fgvc.taxonomy.tree import Taxonomy


def forgotten(epoch: int, forget_rate: float, warm_epochs: int) -> float:
    """Return the share of a batch that is left out in an epoch, counted from 0: it rises linearly from 0."""
    return forget_rate * (min(epoch / warm_epochs, 1.0) if warm_epochs else 1.0)


def without_largest(labels: Tensor, costs: Tensor, share: float) -> Tensor:
    """Return the labels (N,) int64 with -1 in place of those that cost most.

    Args:
        labels: (N,) int64 node ids; -1 is unknown.
        costs: (N,) of each image.
        share: of the images with a label, the part that loses it, rounded to whole images.
    """
    number = round(share * int((labels >= 0).sum()))
    largest = costs.masked_fill(labels < 0, -torch.inf).topk(number).indices
    return labels.index_fill(0, largest, -1)


class Network(nn.Module):
    """A backbone and its head.

    Args:
        taxonomy: the classes.
        image_size: side, in pixels, of what it sees.
        backbone: makes the backbone from the image size.
        head: makes the head from the taxonomy and the backbone.
    """

    def __init__(self, taxonomy: Taxonomy, image_size: int, backbone: BackboneFactory, head: HeadFactory) -> None:
        super().__init__()
        self.backbone = backbone(image_size)
        self.head = head(taxonomy, self.backbone)


class CoTeaching(Recognizer):
    """Two networks see each batch; each learns from the images whose labels cost the other least.

    Bo Han, Quanming Yao, Xingrui Yu, Gang Niu, Miao Xu, Weihua Hu, Ivor W. Tsang, Masashi Sugiyama, "Co-teaching:
    Robust Training of Deep Neural Networks with Extremely Noisy Labels", NeurIPS 2018. Networks learn what is common
    before they learn wrong labels by heart, so a label with a large loss is probably wrong. The share that is left out
    rises from 0 in the first epoch to `forget_rate` after `warm_epochs`; it is a function of the epoch. The cost by
    which images are chosen is -log p of the label, for an inner node -log of the sum over its leaves; what is learnt
    from the chosen ones is the head's own loss. In evaluation nothing is left out.

    The networks differ by the random start of their heads and by what is drawn while training, such as dropout.
    Backbones with pretrained weights start equal and part as they learn; where they stand still only the heads differ.
    The answer is the mean of both probabilities. It takes neither mixup nor cutmix: their images have two labels.

    Args:
        taxonomy, image_size: see Recognizer.
        backbone: makes each backbone from the image size.
        head: makes each head from the taxonomy and the backbone.
        forget_rate: share of the images left out in the end, 0 .. 1 (excluded): the share of wrong labels, or a guess.
        warm_epochs: epochs until then.

    Raises:
        UsageError: a number outside its range.
    """

    takes_mixed = False

    def __init__(
        self,
        taxonomy: Taxonomy,
        image_size: int,
        backbone: BackboneFactory = Backbone,
        head: HeadFactory = LinearHead,
        forget_rate: float = 0.2,
        warm_epochs: int = 2,
    ) -> None:
        super().__init__(taxonomy, image_size)
        if not 0 <= forget_rate < 1 or warm_epochs < 0:
            raise UsageError(
                f"CoTeaching: forget_rate {forget_rate}, warm_epochs {warm_epochs}; give a share of 0 or more and "
                "below 1 (usual: the share of wrong labels), and 0 epochs or more"
            )
        self.forget_rate, self.warm_epochs, self.epoch = forget_rate, warm_epochs, 0
        self.networks: ModuleListOf[Network] = ModuleListOf(
            Network(taxonomy, image_size, backbone, head) for _ in range(2)
        )

    def forward(self, images: Tensor) -> Prediction:
        """Images (N, 3, S, S), or vectors as in `one_look`, -> Prediction; its views are network1 and network2."""
        views = [one_look(network.backbone, network.head, images, self.image_size) for network in self.networks]
        embedding = torch.cat([view.embedding for view in views], dim=1)
        named_views = {f"network{number}": view for number, view in enumerate(views, start=1)}
        return Prediction(mean_probability(views), embedding, views=named_views)

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the terms of both heads, `network1_...` and `network2_...`; labels (N,) int64 node ids."""
        views = prediction.views
        terms: dict[str, Tensor] = {}
        share = forgotten(self.epoch, self.forget_rate, self.warm_epochs) if self.training else 0.0
        for (name, view), other, network in zip(views.items(), reversed(views.values()), self.networks, strict=True):
            chosen = without_largest(labels, self._costs(other, labels), share) if share else labels
            terms |= {f"{name}_{term}": value for term, value in network.head.loss(view, chosen).items()}
        return terms

    def measures(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return `disagreement` (): the share of images that the networks name differently."""
        one, other = (view.logits[self.taxonomy.leaf_level].argmax(dim=1) for view in prediction.views.values())
        return {"disagreement": (one != other).float().mean()}

    def begin_epoch(self, epoch: int) -> None:
        """Tell how many epochs of the training are over."""
        super().begin_epoch(epoch)
        self.epoch = epoch

    def single_looks(self) -> Iterator[tuple[Backbone, Head]]:
        """Iterate over the two networks."""
        return ((network.backbone, network.head) for network in self.networks)

    def _costs(self, view: Prediction, labels: Tensor) -> Tensor:
        """Return (N,): -log p of what each label (N,) names; without a gradient."""
        log_p = view.logits[self.taxonomy.leaf_level].detach().float().log_softmax(dim=1)
        return -named(log_p, below(self.taxonomy, labels))
