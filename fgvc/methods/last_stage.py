"""The last stage of a timm network as a module of its own, so that a head may own a copy of it.

The network is run once to see which modules follow the cut, and to check that these modules, one after the other, give
the network's own answer.

Shape letters: N images, S side of the image, C channels, h, w grid.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from timm.models.vgg import VGG
from torch import Tensor, nn

from fgvc.errors import UsageError
from fgvc.methods.features import Features, Layout, from_network

BLOCKS = 3
"""How many blocks make up the last stage of a network without stages, such as ViT."""


class LastStage(nn.Module):
    """A copy of the modules between trunk and map.

    Args:
        modules: by their names in the network, in the order in which they run; they are copied, weights included.
        layout: see `from_network`.
        exempt: names of the network's parameters that are not decayed, as its own `no_weight_decay` lists them.

    Attributes:
        names: of the modules in the network.
    """

    def __init__(self, modules: Mapping[str, nn.Module], layout: Layout, exempt: Iterable[str] = ()) -> None:
        super().__init__()
        places = [(f"{name}.", f"steps.{i}.") for i, name in enumerate(modules)]
        self._exempt = {here + x.removeprefix(there) for x in exempt for there, here in places if x.startswith(there)}
        self.names = tuple(modules)
        self.steps = nn.ModuleList(deepcopy(module) for module in modules.values())
        self.layout = layout

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that are not decayed, as timm's networks do."""
        return self._exempt

    def forward(self, trunk: Tensor) -> Features:
        """Trunk, as the cut module answers it -> Features (map (N, C, h, w), prefix)."""
        for step in self.steps:
            trunk = step(trunk)
        return from_network(trunk, self.layout)


def cut(net: Any, image_size: int, verify: bool = True) -> tuple[str, list[str]]:
    """Find where the last stage of a network begins.

    Args:
        net: a timm network.
        image_size: side, in pixels, of images that it takes.
        verify: compare numbers too; not where the network has none yet.

    Returns:
        The name of the module whose answer the last stage reads, and the names of the last stage's modules in the order
        in which they run.

    Raises:
        UsageError: the network cannot be cut there.
    """
    before = before_last_stage(net)
    modules = dict(net.named_modules())
    if before not in modules:
        raise UsageError(f"{_refusal(net)} (it has no module {before!r})")
    ran: list[str] = []
    trunk: list[Any] = []
    hooks = [modules[n].register_forward_hook(lambda *_, n=n: ran.append(n)) for n in _after(before, modules)]
    hooks.append(modules[before].register_forward_hook(lambda module, given, answer: trunk.append(answer)))
    training = net.training
    try:
        with torch.no_grad():
            picture = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
            wanted = net.eval().forward_features(picture)
            answer = trunk[0]
            for name in list(ran):
                answer = modules[name](answer)
    except (TypeError, RuntimeError, ValueError, IndexError, AttributeError) as error:
        raise UsageError(f"{_refusal(net)} ({' '.join(str(error).split())[:120]})") from None
    finally:
        for hook in hooks:
            hook.remove()
        net.train(training)
    names = ran[: len(ran) // 2]  # the second half is our own pass
    same = answer.shape == wanted.shape and (not verify or torch.allclose(answer, wanted, rtol=1e-4, atol=1e-4))
    if not names or not same:
        raise UsageError(f"{_refusal(net)} (more happens after {before!r} than its modules one by one)")
    if not any(True for name in names for _ in modules[name].parameters()):
        raise UsageError(f"{_refusal(net)} (nothing after {before!r} can learn)")
    return before, names


def after_the_cut(net: Any) -> list[str]:
    """Return the names of the modules after the place at which `cut` would cut a network, whether it could or not."""
    before, modules = before_last_stage(net), dict(net.named_modules())
    return _after(before, modules) if before in modules else []


def before_last_stage(net: Any) -> str:
    """Return the last module at a coarser stride than the map's; of a network without stages, that before BLOCKS."""
    stages = list(net.feature_info)
    finer = [stage["module"] for stage in stages if stage["reduction"] < stages[-1]["reduction"]]
    if finer:
        return str(finer[-1])
    return str(stages[-1 - min(BLOCKS, len(stages) - 1)]["module"])


def earlier_layer(net: Any) -> str:
    """Return the layer whose map stands beside the last one: relu5_2 of VGG-16, of others what the last stage reads."""
    if isinstance(net, VGG):
        relus = [name for name, module in net.features.named_modules() if isinstance(module, nn.ReLU)]
        return f"features.{relus[-2]}"
    return before_last_stage(net)


def _after(before: str, modules: dict[str, nn.Module]) -> list[str]:
    """Return the later siblings of a module, then those of its parents."""
    names: list[str] = []
    while before:
        parent, _, own = before.rpartition(".")
        siblings = [name for name, _ in modules[parent].named_children()]
        names += [f"{parent}.{name}".lstrip(".") for name in siblings[siblings.index(own) + 1 :]]
        before = parent
    return names


def _refusal(net: Any) -> str:
    return (
        f"backbone {type(net).__name__}: its last stage cannot be copied for branches; choose another network, or let "
        "the head share it"
    )
