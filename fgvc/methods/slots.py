"""The slots of a model, and the classes that fit them. Every module of a slot's folder is imported here."""

import importlib
import inspect
import pkgutil

from fgvc.methods import attention, few_shot, heads, losses, pooling, recognizers
from fgvc.methods.attention.base import Attention
from fgvc.methods.backbone import Backbone
from fgvc.methods.few_shot.base import FewShotClassifier
from fgvc.methods.heads.base import Head
from fgvc.methods.losses.base import ClassLoss
from fgvc.methods.pooling.base import Pooling
from fgvc.methods.recognizers.base import Recognizer

SLOTS: tuple[type, ...] = (Recognizer, Backbone, Attention, Head, ClassLoss, Pooling, FewShotClassifier)

for _folder in (attention, few_shot, heads, losses, pooling, recognizers):
    for _module in pkgutil.iter_modules(_folder.__path__):
        importlib.import_module(f"{_folder.__name__}.{_module.name}")


def known_classes() -> dict[str, type]:
    """Return short name -> class for the classes of fgvc's own slot folders, without the abstract ones."""
    classes: dict[str, type] = {}
    queue = list(SLOTS)
    while queue:
        cls = queue.pop()
        queue += cls.__subclasses__()
        if cls.__module__.startswith("fgvc.") and not inspect.isabstract(cls):
            classes[cls.__name__] = cls
    return classes
