"""A model as a plain tree of short names and arguments, and back.

The tree is data: a name is looked up among fgvc's own classes and nothing else, so reading one cannot run foreign code.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from fgvc.errors import FgvcError, UsageError, did_you_mean
from fgvc.methods.backbone import Backbone, without_numbers
from fgvc.methods.recognizers.base import Recognizer
from fgvc.methods.slots import known_classes
from fgvc.model_file.argument_types import fits, words
from fgvc.model_file.schema import shown
from fgvc.taxonomy.tree import Taxonomy

Plain = dict[str, Any]


@contextmanager
def unfilled() -> Iterator[None]:
    """Make networks without drawing their random start: the weights of a file follow.

    This spares most of the time of making one. The cut of a last stage is not verified: it was when the model was
    trained.
    """
    with _Undrawn(), without_numbers():
        yield


class _Undrawn(TorchFunctionMode):
    _DRAWN = frozenset(
        {Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, nn.init.normal_, nn.init.uniform_, nn.init.trunc_normal_}
        | {nn.init.kaiming_normal_, nn.init.kaiming_uniform_, nn.init.xavier_normal_, nn.init.xavier_uniform_}
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Leave a tensor as it is in place of drawing it."""
        if func in self._DRAWN:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def to_plain(config: Any, where: str = "recognizer") -> Any:
    """Turn a parsed config (class paths and arguments) into the plain tree of a model file.

    Raises:
        UsageError: a class that is not fgvc's own, or a value that is not plain data.
    """
    if isinstance(config, Mapping):
        if "class_path" not in config:
            return {str(key): to_plain(value, f"{where}.{key}") for key, value in config.items()}
        name = str(config["class_path"]).rpartition(".")[2]
        known = known_classes().get(name)
        if known is None or config["class_path"] not in (name, f"{known.__module__}.{name}"):
            raise UsageError(
                f"{where}: {config['class_path']} is not one of fgvc's own classes, so it stays out of model files"
            )
        arguments = {key: to_plain(value, f"{where}.{key}") for key, value in (config.get("init_args") or {}).items()}
        return {"class_path": name, "init_args": arguments}
    if isinstance(config, list | tuple):
        return [to_plain(value, where) for value in config]
    if config is None or isinstance(config, str | int | float | bool):
        return config
    raise UsageError(f"{where}: {type(config).__name__} is not plain data; give numbers, words, lists and class names")


def build(plain: Mapping[str, Any], taxonomy: Taxonomy, image_size: int, weights: str | None = None) -> Recognizer:
    """Make a recognizer from its plain tree.

    Args:
        plain: `{class_path: short name, init_args: {...}}`, nested.
        taxonomy: the classes.
        image_size: side, in pixels, at which the whole image is seen.
        weights: put in place of every backbone's `weights`; a model file is loaded with `none` and so never touches
            the network.

    Raises:
        UsageError: a name outside fgvc's slot folders, or an argument that the class does not take or that is unfit.
    """
    make = factory(plain, "architecture", weights)
    if not issubclass(known_classes()[plain["class_path"]], Recognizer):
        raise UsageError(f"architecture: {plain['class_path']} is a part, not a recognizer")
    try:
        model: Recognizer = make(taxonomy, image_size)
    except FgvcError:
        raise
    except Exception as error:  # timm's networks raise whatever an odd argument leads to
        raise UsageError(f"architecture: its arguments do not fit ({' '.join(str(error).split())[:300]})") from error
    return model


def skeleton(plain: Mapping[str, Any], taxonomy: Taxonomy, image_size: int, most: int) -> Recognizer:
    """Return the recognizer that `build` would make with tensors that have shapes and types and no numbers.

    Nothing is allocated, so an architecture that asks for more than the machine has does no harm.

    Args:
        plain, taxonomy, image_size: see `build`.
        most: how many tensors a file has for it; one that goes far beyond is not made to its end.

    Raises:
        UsageError: see `build`; or many more tensors.
    """
    made = 0

    def _counted(module: nn.Module, name: str, value: Any) -> None:
        nonlocal made
        made += 1
        if made > 4 * most + 1000:  # timm makes classifiers that are then dropped
            raise UsageError(f"it has far more tensors than the {most} of its weights")

    hook = register_module_parameter_registration_hook(_counted)
    try:
        with torch.device("meta"), unfilled():
            return build(plain, taxonomy, image_size, weights="none")
    finally:
        hook.remove()


def factory(plain: Mapping[str, Any], where: str, weights: str | None = None) -> partial[Any]:
    """Return what makes a part from its plain tree; what its parent supplies is still to be given.

    Args:
        plain: `class_path` and `init_args`.
        where: its place, for messages.
        weights: in place of what every backbone in it says, or None.

    Raises:
        UsageError: a class that is not fgvc's own, or arguments that it does not take.
    """
    if not isinstance(plain, Mapping):
        raise UsageError(f"{where}: {plain!r} is not a mapping with class_path and init_args")
    name, arguments = plain.get("class_path"), plain.get("init_args", {})
    known = known_classes()
    if not isinstance(name, str) or name not in known or set(plain) - {"class_path", "init_args"}:
        raise UsageError(f"{where}: no class {name!r} in fgvc{did_you_mean(str(name), known)}")
    if not isinstance(arguments, Mapping):
        raise UsageError(f"{where}: init_args of {name} is {type(arguments).__name__}, not a mapping")
    allowed = inspect.signature(known[name]).parameters
    for key in arguments:
        if key not in allowed:
            raise UsageError(f"{where}: {name} has no argument {key!r}{did_you_mean(str(key), allowed)}")
    made = {key: _argument(value, f"{where}.{name}.{key}", weights) for key, value in arguments.items()}
    hints = get_type_hints(known[name].__init__)  # type: ignore[misc]
    for key, value in arguments.items():
        if not fits(value, hints[key], known):
            raise UsageError(f"{where}.{name}.{key}: {shown(value)}; it takes {words(hints[key])}")
    for key, parameter in allowed.items():  # a default part is made here too, so that `weights` reaches it
        if key not in made and parameter.default in known.values():
            made[key] = factory({"class_path": parameter.default.__name__}, f"{where}.{name}.{key}", weights)
    if issubclass(known[name], Backbone) and weights is not None:
        made["weights"] = weights
    return partial(known[name], **made)


def _argument(value: Any, where: str, weights: str | None) -> Any:
    if isinstance(value, Mapping) and "class_path" in value:
        return factory(value, where, weights)
    if (
        isinstance(value, list | tuple)
        and value
        and all(isinstance(one, Mapping) and "class_path" in one for one in value)
    ):
        return [_argument(one, f"{where}[{i}]", weights) for i, one in enumerate(value)]
    return value
