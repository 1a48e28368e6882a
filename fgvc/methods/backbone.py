"""Any timm network as a map: images -> (N, C, h, w). This file alone creates timm models.

Shape letters: N images, S side of the image, C channels, h, w grid.
"""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from fgvc.errors import FgvcError, UsageError, did_you_mean
from fgvc.methods import conv4, local_weights, resnet12  # noqa: F401 - two register networks with timm
from fgvc.methods.cells import EVEN, Cells
from fgvc.methods.displacement import displacement
from fgvc.methods.features import Features, Layout, from_network, layout_of
from fgvc.methods.last_stage import LastStage, cut, earlier_layer
from fgvc.methods.last_stride import remove_last_stride
from fgvc.methods.own_head import OwnHead, ran, stand_in, take_head
from fgvc.methods.weight_report import WeightReport, compare, in_one_line
from fgvc.methods.weights_server import asked_once

_RESERVED = frozenset({"num_classes", "features_only", "pretrained", "checkpoint_path", "cache_dir", "device", "dtype"})

_have_numbers = ContextVar("have_numbers", default=True)


@contextmanager
def without_numbers() -> Iterator[None]:
    """Say that networks have no numbers yet, so that nothing they would compute is looked at."""
    token = _have_numbers.set(False)
    try:
        yield
    finally:
        _have_numbers.reset(token)


class Backbone(nn.Module):
    """A timm network without its classifier, which normalises its own input.

    Args:
        image_size: side of the images it will see, in pixels.
        name: a name from `timm.list_models()`.
        weights: `pretrained` (downloaded by timm), `none`, or a file: safetensors, or what `torch.save` wrote (`.pth`,
            `.bin`, `.ckpt`), of which only numbers and plain data are read.
        min_kept: least share of the network's numbers that a weight file must fill.
        model_args: further arguments of the timm model, e.g. `{drop_path_rate: 0.1}`.
        mean: of the pixels over 0..1, one per channel; by default what the timm weights were trained with.
        std: their standard deviation, in the same way.
        last_stride: 1 takes the stride of a convolutional network's last stage away, so that its map is twice as fine:
            28 x 28 of 448 px in place of 14 x 14. None leaves the network as it is.

    Attributes:
        image_size: side of the images it was made for.
        channels: C of the map.
        grid: [h, w] of the map of such an image.
        stride: pixels per step of the map's grid.
        report: WeightReport of a local file, else None.

    Raises:
        UsageError: an unknown name, a missing or unfit weight file, or arguments or a size that the network refuses.
        FgvcError: the pretrained weights cannot be loaded.
    """

    def __init__(
        self,
        image_size: int,
        name: str = "resnet50",
        weights: str = "pretrained",
        model_args: dict[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        min_kept: float = 0.5,
        last_stride: int | None = None,
    ) -> None:
        super().__init__()
        if name.partition(".")[0] not in timm.list_models():
            raise UsageError(f"backbone: timm has no model {name!r}{did_you_mean(name, timm.list_models())}")
        self.net: Any
        self.net, self.report = _create(name, weights, dict(model_args or {}), min_kept)
        _set_input_size(self.net, name, image_size)
        if last_stride not in (None, 1):
            raise UsageError(f"backbone {name}: last_stride {last_stride}; give 1, or leave it out")
        if last_stride is not None:
            remove_last_stride(self.net, name, image_size)
        self.image_size = image_size
        self._made_of = (name, json.dumps(model_args or {}, sort_keys=True), last_stride)
        children = {child for child, _ in self.net.named_children()}
        self._layout, (self.channels, *self.grid), self.stride, head = _take_apart(
            self.net, name, image_size, finer=last_stride is not None
        )
        self._head: list[OwnHead] = [] if head is None else [head]  # no submodule: it is the pooling's that asks for it
        self._head_taken = False
        self._left_out = tuple(f"net.{child}." for child in sorted(children) if _is_gone(self.net, child))
        self._cut: tuple[str, list[str]] | None = None
        self._trunk: list[Tensor] = []
        self._earlier: list[Tensor] = []
        config = self.net.pretrained_cfg
        for key, given in (("mean", mean), ("std", std)):
            channels = torch.tensor(given or config[key], dtype=torch.float32)  # whole numbers would round the images
            self.register_buffer(key, 255 * channels.view(1, 3, 1, 1))
        self.mean: Tensor
        self.std: Tensor

    def left_out(self, name: str) -> bool:
        """Whether a tensor, by its name in this module, belongs to layers that are not kept; older files hold them."""
        return name.startswith(self._left_out)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in [name for name in state_dict if name.startswith(prefix) and self.left_out(name[len(prefix) :])]:
            del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, images: Tensor) -> Features:
        """Images (N, 3, S, S) in 0..255, uint8 or float -> Features."""
        normalised = (images.to(self.mean.dtype) - self.mean) / self.std
        features = from_network(self.net.forward_features(normalised), self._layout)
        if self._head and not self._head_taken:
            self._head.clear()  # nobody reads it: its weights are not kept
        if self._earlier:
            features = features._replace(earlier=from_network(self._earlier.pop(), self._layout).map)
        return features._replace(trunk=self._trunk.pop()) if self._trunk else features

    def cells(self, side: int | None = None) -> Cells:
        """Return where the cells of the map lie in a square image of a side; by default of `image_size`.

        It is a matter of the network's kernels, strides and borders, not of its weights. It is found once per kind of
        network and side, see `displacement`. A network of tokens or for one size has cells that share the image evenly.
        """
        size = side or self.image_size
        if not self.sees_any_side:
            return EVEN
        return _cells(*self._made_of, self.image_size, self.stride, size)

    def own_head(self) -> OwnHead:
        """Return what the network does between its map and its classifier, weights included.

        The first to ask gets the layers themselves, the next ones copies. Ask before the first `forward`.

        Raises:
            UsageError: timm knows none for this network.
        """
        if not self._head:
            kind = type(self.net).__name__
            raise UsageError(f"backbone {kind}: timm has no pooling of its own for it; give the head AveragePooling")
        if self._head_taken:
            return deepcopy(self._head[0])
        self._head_taken = True
        return self._head[0]

    @property
    def has_class_token(self) -> bool:
        """Whether the first of the tokens before the grid, `Features.prefix`, is a class token."""
        return self._layout.prefix > 0 and getattr(self.net, "cls_token", None) is not None

    def class_token_reads(self) -> nn.Module | None:
        """Return the norm whose tokens the class token of the last block reads.

        None where the vector of the own head is made of the map itself, or nobody asked for it.
        """
        if not self._head_taken or self._layout.kind != "tokens" or getattr(self.net, "global_pool", "") != "token":
            return None
        # not the input of that norm: what a norm reads is orthogonal to its own gradient, their product says nothing
        norms = [module for name, module in self.net.named_modules() if name.endswith(".norm1")]
        return norms[-1] if norms else None

    def new_last_stage(self) -> LastStage:
        """Return a copy of the last stage, weights included. From now on `forward` also returns its input, the trunk.

        Raises:
            UsageError: this network's last stage cannot be cut off.
        """
        modules = dict(self.net.named_modules())
        if self._cut is None:
            self._cut = cut(self.net, self.image_size, verify=_have_numbers.get())
            modules[self._cut[0]].register_forward_hook(self._keep)
        exempt: set[str] = getattr(self.net, "no_weight_decay", set)()
        return LastStage({name: modules[name] for name in self._cut[1]}, self._layout, exempt)

    def keep_earlier(self) -> int:
        """Return the channels C' of an earlier layer's map; from now on `forward` also returns it, `Features.earlier`.

        For VGG-16 it is relu5_2, for networks of stages what the last stage reads, for transformers what the last three
        blocks read.

        Raises:
            UsageError: that layer of this network answers no map.
        """
        layer = earlier_layer(self.net)
        hook = self.net.get_submodule(layer).register_forward_hook(self._keep_earlier)
        training = self.net.training
        try:
            with torch.no_grad():
                self.net.eval().forward_features(_blank(self.net, self.image_size))
                channels, *grid = from_network(self._earlier.pop(), self._layout).map.shape[1:]
            if len(grid) != 2 or min(grid) < min(self.grid):
                raise ValueError(f"it answers {channels} x {grid}")
        except (RuntimeError, AttributeError, IndexError, TypeError, ValueError) as error:
            hook.remove()
            kind, reason = type(self.net).__name__, in_one_line(error)
            raise UsageError(f"backbone {kind}: its layer {layer} answers no map ({reason}); do without it") from None
        finally:
            self.net.train(training)
        return int(channels)

    def before_last_stage(self) -> Iterator[nn.Module]:
        """Iterate over the smallest modules outside the last stage; over all of them before `new_last_stage` is called.

        Parameters that a larger module owns itself (tokens, scales of a block) come as a ParameterList.
        """
        own = tuple(f"{name}." for name in self._cut[1]) if self._cut else ()
        for name, module in self.net.named_modules():
            if f"{name}.".startswith(own or ("\0",)):
                continue
            if not any(True for _ in module.children()):
                yield module
            elif alone := list(module.parameters(recurse=False)):
                yield nn.ParameterList(alone)

    def _keep(self, module: nn.Module, given: Any, answer: Tensor) -> None:
        self._trunk[:] = [answer]

    def _keep_earlier(self, module: nn.Module, given: Any, answer: Tensor) -> None:
        self._earlier[:] = [answer.clone()]  # the next layer may work in place

    @property
    def sees_any_side(self) -> bool:
        """Whether images may have other sides than the network was made for, unlike ones too."""
        one_size = hasattr(self.net, "set_input_size") or self.net.pretrained_cfg.get("fixed_input_size")
        return not one_size and self._layout.kind != "tokens"

    def check_side(self, side: int) -> None:
        """Raise UsageError for another side than the network was made for, if it cannot see other sides."""
        one_size = hasattr(self.net, "set_input_size") or self.net.pretrained_cfg.get("fixed_input_size")
        if one_size and side != self.image_size:
            raise UsageError(
                f"backbone {type(self.net).__name__}: made for {self.image_size} px, so it cannot be shared with "
                f"images of {side} px; give both the same size, or each a backbone of its own"
            )


@lru_cache(maxsize=64)
def _cells(name: str, model_args: str, last_stride: int | None, image_size: int, stride: int, side: int) -> Cells:
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.device("cpu"):
        twin = Backbone(image_size, name, "none", json.loads(model_args), last_stride=last_stride)
        away = displacement(twin.net, twin._layout, stride, side) / side
    pitch = None if side % stride == 0 else stride / side
    return Cells(away, pitch)


def _create(
    name: str, weights: str, model_args: dict[str, Any], min_kept: float
) -> tuple[nn.Module, WeightReport | None]:
    taken = sorted(key for key in model_args if key in _RESERVED or key.startswith("pretrained_"))
    if taken:  # a model file must not make timm fetch or open anything
        raise UsageError(f"backbone {name}: model_args {taken} are set by Backbone itself; see `weights`")
    if model_args.get("in_chans", 3) != 3:
        raise UsageError(
            f"backbone {name}: model_args in_chans {model_args['in_chans']}; photographs are read as three channels, "
            "grey ones with three equal ones; leave it out"
        )
    source: dict[str, Any] = {"pretrained": weights == "pretrained"}
    if weights not in ("pretrained", "none"):
        found = local_weights.read(Path(weights), _names(name, model_args))
        names = set(found.tensors)  # timm takes those of the classifier out
        overlay = {"state_dict": found.tensors}
        source = {"pretrained": True, "pretrained_cfg_overlay": overlay, "pretrained_strict": False}
    with asked_once() if weights == "pretrained" else nullcontext("") as silent:
        try:
            net: nn.Module = timm.create_model(name, num_classes=0, **source, **model_args)
        except TypeError as error:
            raise UsageError(f"backbone {name}: model_args {model_args} do not fit ({in_one_line(error)})") from None
        except Exception as error:
            raise _weights_error(name, weights, silent or in_one_line(error)) from None
    if weights in ("pretrained", "none"):
        return net, None
    made: Any = net
    for config in (made.pretrained_cfg, made.default_cfg):  # which would keep the tensors of the file
        config.pop("state_dict", None)
    return net, compare(net, names, name, f"{weights}{found}", min_kept)


def _names(name: str, model_args: dict[str, Any]) -> set[str]:
    """Return the names of a network's tensors, without numbers where that can be; no random number is drawn."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return set(timm.create_model(name, num_classes=0, **model_args).state_dict())
        except Exception:  # some networks compute with numbers while they are made; what is wrong is told later
            try:
                return set(timm.create_model(name, num_classes=0, **model_args).state_dict())
            except Exception:
                return set()


def _weights_error(name: str, weights: str, reason: str) -> FgvcError:
    if weights == "none":
        return UsageError(f"backbone {name}: timm cannot create it ({reason})")
    if weights == "pretrained":
        return FgvcError(
            f"backbone {name}: its pretrained weights could not be had ({reason}); "
            "give a local file (safetensors, .pth) as `weights`, or `weights: none` to start from random values: "
            "--model.recognizer.backbone.weights FILE"
        )
    return UsageError(f"backbone {name}: {weights} does not fit ({reason})")


def _set_input_size(net: Any, name: str, image_size: int) -> None:
    """Tell a transformer with a fixed grid the size of its images."""
    patches = getattr(net, "patch_embed", None)
    if not hasattr(net, "set_input_size"):
        return
    if patches is not None and not getattr(patches, "dynamic_img_pad", False):
        _check_patches(name, image_size, patches.patch_size)
    try:
        net.set_input_size(img_size=(image_size, image_size))
    except (AssertionError, ValueError, RuntimeError, TypeError) as error:
        raise UsageError(f"backbone {name}: image size {image_size} does not fit ({in_one_line(error)})") from None


def _take_apart(net: Any, name: str, image_size: int, finer: bool) -> tuple[Layout, list[int], int, OwnHead | None]:
    """Run a network once; return the layout of its map, [C, h, w], the map's stride, and the network's own head.

    Of a network whose last stage has lost its stride, `finer`, timm still tells the stride that it had.

    Raises:
        UsageError: it cannot run at this size, or its answer is no map with a place for every cell.
    """
    training = net.training
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm's and torch's, of each other
            net.eval()
            own, out, names = _first_run(net, image_size)
            layout = layout_of(net, out)
            head = take_head(net, own, out, layout, names)
            shape = list(from_network(out, layout).map.shape[1:])
            stride = _stride(net, image_size, shape[1:], finer)
            if _have_numbers.get():
                _check_numbers(net, image_size)
    except UsageError as error:
        raise UsageError(f"backbone {name}: it cannot be used here: {error}; choose another network") from None
    except Exception as error:  # timm's networks raise whatever an unfit size leads to
        native = net.pretrained_cfg["input_size"][-1]
        hint = f"; it was made for {native} px" if native != image_size else ""
        reason = in_one_line(error)
        raise UsageError(f"backbone {name}: image size {image_size} does not fit ({reason}){hint}") from None
    finally:
        net.train(training)
    return layout, shape, stride, head


def _first_run(net: Any, image_size: int) -> tuple[Any, Any, set[str]]:
    """Run a stand-in without numbers, or the network itself where that cannot be; return it, its answer, what ran."""
    try:
        own = stand_in(net)
        return own, *ran(own, lambda: own.forward_features(_blank(own, image_size)))
    except Exception:  # some networks keep tensors where no copy finds them; what is really wrong shows below
        return net, *ran(net, lambda: net.forward_features(_blank(net, image_size)))


def _is_gone(net: nn.Module, child: str) -> bool:
    return type(getattr(net, child)) is nn.Identity


def _blank(net: nn.Module, image_size: int) -> Tensor:
    return torch.zeros(1, 3, image_size, image_size, device=next(net.parameters()).device)


def _stride(net: Any, image_size: int, grid: Sequence[int], finer: bool) -> int:
    """Return pixels per step of a map's grid; raise UsageError where its cells are no places of the image."""
    strides = [int(stage["reduction"]) for stage in reversed(net.feature_info)]  # the map is mostly the last stage's
    strides = [stride // 2 if finer and stride == strides[0] else stride for stride in strides]
    for stride in strides:
        if all(abs(side - image_size / stride) <= 2 for side in grid):  # less by 2 where convolutions do not pad
            return stride
    h, w = grid
    raise UsageError(f"its map is {h} x {w} cells where {image_size} px make {image_size / strides[0]:g}")


def _check_numbers(net: Any, image_size: int) -> None:
    device = next(net.parameters()).device
    picture = torch.randn(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0)).to(device)
    if not bool(net.forward_features(picture).isfinite().all()):
        raise UsageError("its map holds numbers that are NaN or infinite")


def _check_patches(name: str, image_size: int, patches: int | tuple[int, int]) -> None:
    """Refuse a size that is no multiple of the patch: the rest would be dropped silently, and boxes would be off."""
    patch = patches if isinstance(patches, int) else max(patches)
    if image_size % patch:
        lower = image_size // patch * patch
        near = " or ".join(str(size) for size in (lower, lower + patch) if size)
        raise UsageError(f"backbone {name}: image size {image_size} is no multiple of its patch, {patch}; give {near}")
