"""A network with a linear head of its own: a WholeImage that reads what was embedded.

Shape letters: N images, S side of the image, D width of a feature.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fgvc.errors import UsageError
from fgvc.features.network import Network
from fgvc.methods.backbone import Backbone
from fgvc.methods.embedder import Embedder
from fgvc.methods.recognizers.few_shot import FewShotRecognizer
from fgvc.methods.recognizers.whole_image import WholeImage
from fgvc.methods.slots import known_classes
from fgvc.model_file.architecture import Plain, build, unfilled
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.logistic import Linear

POOLINGS = {"pooled": "AveragePooling", "cls+mean": "ClassMeanPooling", "scda": "SCDAPooling"}
"""What is taken -> the pooling that makes it of the map; `prelogits` has the network's own."""


def linear_model(network: Network, embedder: Embedder, taxonomy: Taxonomy) -> tuple[WholeImage, Plain]:
    """Make a recognizer whose LinearHead reads what the embedder says of images; its classifier is 0.

    Args:
        network: what is embedded.
        embedder: of it.
        taxonomy: the classes of the new head.

    Returns:
        The recognizer, in evaluation mode, and the plain tree it is built from.

    Raises:
        UsageError: no LinearHead of a WholeImage reads that.
    """
    backbone, pooling, state = _parts(network, embedder)
    head = {"class_path": "LinearHead", "init_args": {"pooling": pooling}}
    plain = {"class_path": "WholeImage", "init_args": {"backbone": backbone, "head": head}}
    with unfilled():
        made: Any = build(plain, taxonomy, network.image_size, weights="none").eval()
    try:
        made.backbone.load_state_dict(_first(network).state_dict())
        made.head.pooling.load_state_dict(state)
    except RuntimeError:
        raise _refusal(network, embedder.take) from None
    nn.init.zeros_(made.head.classifier.weight)
    nn.init.zeros_(made.head.classifier.bias)
    _check_same(made, network, embedder)
    return made, plain


def set_classifier(recognizer: WholeImage, linear: Linear) -> None:
    """Give the LinearHead of a recognizer its weights."""
    classifier: Any = recognizer.head.classifier
    with torch.no_grad():
        classifier.weight.copy_(linear.weight)
        classifier.bias.copy_(linear.bias)


def _parts(network: Network, embedder: Embedder) -> tuple[Plain, Plain, Mapping[str, Any]]:
    """Return backbone and pooling as plain trees, and the tensors of the pooling."""
    module, take = network.module, embedder.take
    if take not in ("prelogits", *POOLINGS):
        raise UsageError(f"take {take}: a linear probe reads {', '.join(['prelogits', *POOLINGS])}; embed one of these")
    named = {"class_path": POOLINGS.get(take, "NativePooling")}
    if isinstance(module, Backbone):
        backbone = {"class_path": "Backbone", "init_args": {**(network.arguments or {}), "weights": "none"}}
        return backbone, named, {} if embedder.pooling is None else embedder.pooling.state_dict()
    if type(module) not in (WholeImage, FewShotRecognizer):
        raise _refusal(network, take)
    arguments = network.built.get("init_args") or {}
    backbone = arguments.get("backbone") or {"class_path": "Backbone"}
    if take in POOLINGS:
        return backbone, named, {}
    if isinstance(module, WholeImage):
        own = getattr(module.head, "pooling", None)  # a head of several branches has none
        if own is None:
            raise _refusal(network, take)
        return backbone, _pooling_of(arguments.get("head") or {"class_path": "LinearHead"}), own.state_dict()
    assert isinstance(module, FewShotRecognizer) and module.pooling is not None  # the embedder has seen to it
    return backbone, arguments.get("pooling") or named, module.pooling.state_dict()


def _first(network: Network) -> Backbone:
    return network.module if isinstance(network.module, Backbone) else next(network.module.backbones())


def _pooling_of(head: Mapping[str, Any]) -> Plain:
    """Return the pooling of a head's plain tree; where it names none, the head's default."""
    given = (head.get("init_args") or {}).get("pooling")
    if given:
        return dict(given)
    default = inspect.signature(known_classes()[head["class_path"]]).parameters["pooling"].default
    return {"class_path": default.__name__}


def _check_same(made: WholeImage, network: Network, embedder: Embedder) -> None:
    """Refuse where the new recognizer makes other features of images of noise (2, 3, S, S)."""
    generator = torch.Generator().manual_seed(0)
    side = network.image_size
    images = torch.randint(256, (2, 3, side, side), dtype=torch.uint8, generator=generator)
    with torch.inference_mode():
        wanted, found = embedder(images), made.embed(images)
    if wanted.shape != found.shape or not torch.allclose(wanted, found, rtol=1e-4, atol=1e-4):
        raise _refusal(network, embedder.take)


def _refusal(network: Network, take: str) -> UsageError:
    kind = type(network.module).__name__
    return UsageError(
        f"{network.name}: what {take} takes of its {kind} is not one pooled map, which is what a linear head reads; "
        "probe a WholeImage or a network of timm"
    )
