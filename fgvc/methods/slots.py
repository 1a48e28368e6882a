"""The slots of a model, and the classes that fit each: every module of a slot's folder is imported."""

import inspect

import fgvc.methods.attention
import fgvc.methods.heads
import fgvc.methods.pooling
import fgvc.methods.recognizers  # noqa: F401 - the slot folders import their own modules
from fgvc.methods.attention.base import Attention
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.base import Head
from fgvc.methods.pooling.base import Pooling
from fgvc.methods.recognizers.base import Recognizer

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
