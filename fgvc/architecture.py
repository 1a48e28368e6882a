"""A model as a plain tree of short names and arguments, and back.

The tree is data: a name is looked up among fgvc's own classes and nothing else, so reading one cannot run foreign code.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import fgvc.attention
import fgvc.heads
import fgvc.pooling
import fgvc.recognizers  # noqa: F401 - the slot folders import their own modules
from fgvc.attention.base import Attention
from fgvc.backbone import Backbone
from fgvc.errors import UsageError, did_you_mean
from fgvc.heads.base import Head
from fgvc.pooling.base import Pooling
from fgvc.recognizers.base import Recognizer
from fgvc.taxonomy import Taxonomy

Plain = dict[str, Any]
SLOTS: tuple[type, ...] = (Recognizer, Backbone, Attention, Head, Pooling)


def known_classes() -> dict[str, type]:
    """Return short name -> class, for the classes of fgvc's own slot folders."""
    found: dict[str, type] = {"Backbone": Backbone}
    queue = list(SLOTS)
    while queue:
        cls = queue.pop()
        queue += cls.__subclasses__()
        if cls.__module__.startswith("fgvc.") and not inspect.isabstract(cls):
            found[cls.__name__] = cls
    return found


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
    factory = _factory(plain, "architecture", weights)
    try:
        model = factory(taxonomy, image_size)
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UsageError(f"architecture: its arguments do not fit ({' '.join(str(error).split())[:300]})") from error
    if not isinstance(model, Recognizer):
        raise UsageError(f"architecture: {type(model).__name__} is a part, not a recognizer")
    return model


def _factory(plain: Mapping[str, Any], where: str, weights: str | None) -> Callable[..., Any]:
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
    for key, parameter in allowed.items():  # a default part is made here too, so that `weights` reaches it
        if key not in made and parameter.default in known.values():
            made[key] = _factory({"class_path": parameter.default.__name__}, f"{where}.{name}.{key}", weights)
    if issubclass(known[name], Backbone) and weights is not None:
        made["weights"] = weights
    return partial(known[name], **made)


def _argument(value: Any, where: str, weights: str | None) -> Any:
    if isinstance(value, Mapping) and "class_path" in value:
        return _factory(value, where, weights)
    return value
