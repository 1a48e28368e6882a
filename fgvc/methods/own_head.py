"""What a timm network does between its map and its classifier, as a module of its own: pooling, norms, convolutions.

Shape letters: N images, C channels, h, w grid, D width of the vector that the classifier reads.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from fgvc.methods.features import Features, Layout, to_network


class OwnHead(nn.Module):
    """Features -> the vector (N, D) that the classifier of a timm network reads: its `forward_head(pre_logits=True)`.

    Args:
        net: the network with the layers of its head and no others; see `take_head`.
        layout: see `to_network`.
        out_features: D.
    """

    def __init__(self, net: Any, layout: Layout, out_features: int) -> None:
        super().__init__()
        self.net = net
        self.layout = layout
        self.out_features = out_features

    def forward(self, features: Features) -> Tensor:
        """Features (map (N, C, h, w), prefix) -> (N, D)."""
        return self.net.forward_head(to_network(features, self.layout), pre_logits=True)  # type: ignore[no-any-return]


def stand_in(net: Any) -> Any:
    """Return a copy of a network whose tensors have shapes and types but no numbers: to run it costs nothing."""
    tensors = [*net.parameters(), *net.buffers()]
    empty = {id(one): torch.empty_like(one, device="meta") for one in tensors}
    for one in net.parameters():
        empty[id(one)] = nn.Parameter(empty[id(one)], requires_grad=False)
    return copy.deepcopy(net, empty)  # the memo of deepcopy: in place of a tensor stands its empty twin


def ran(net: nn.Module, call: Any) -> tuple[Any, set[str]]:
    """Return what `call()` answers and the names of the modules of a network that it ran."""
    names: set[str] = set()
    hooks = [
        module.register_forward_pre_hook(lambda module, given, name=name: names.add(name))
        for name, module in net.named_modules()
    ]
    try:
        return call(), names
    finally:
        for hook in hooks:
            hook.remove()


def take_head(net: Any, own: Any, out: Tensor, layout: Layout, map_ran: set[str]) -> OwnHead | None:
    """Move the layers of a network's head out of it; layers that neither map nor head needs go too.

    Args:
        net: the network, which keeps what its map needs.
        own: a stand-in of the network of which layers may be run: itself, or a copy without numbers.
        out: what `own.forward_features` answers.
        layout: of that answer.
        map_ran: the modules that ran for it, see `ran`.

    Returns:
        The head; None where timm knows none for this network, or one that is no vector per image.
    """
    head: OwnHead | None = None
    try:
        vector, head_ran = ran(own, lambda: own.forward_head(out, pre_logits=True))
    except (AttributeError, TypeError, RuntimeError, ValueError, AssertionError, IndexError):
        vector, head_ran = None, set()
    if isinstance(vector, Tensor) and vector.ndim == 2 and len(vector) == len(out):
        head = OwnHead(_shell(net, _tops(head_ran), _tops(map_ran)), layout, vector.shape[1])
    kept = _tops(map_ran)
    for name, child in list(net.named_children()):
        if name not in kept and any(True for _ in child.parameters()):
            setattr(net, name, nn.Identity())
            setattr(own, name, nn.Identity())
    return head


def _tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names if name}


def _shell(net: Any, wanted: set[str], shared: set[str]) -> Any:
    """Return a network of the same class with some of its top modules only; those that the map needs too are copied."""
    shell = object.__new__(type(net))
    nn.Module.__init__(shell)
    own = set(vars(shell))
    vars(shell).update({key: value for key, value in vars(net).items() if key not in own})
    for name, child in net.named_children():
        if name in wanted:
            setattr(shell, name, copy.deepcopy(child) if name in shared else child)
    return shell
