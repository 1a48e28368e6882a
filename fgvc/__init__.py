"""fgvc: fine-grained image classification.

`fgvc.load(path)` reads a trained model; `fgvc.fit`, `fgvc.validate`, `fgvc.test` and `fgvc.predict` are the commands of
the same names, with the same words. Importing fgvc itself imports nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgvc.commands.in_python import TrainedRun, fit, predict, test, validate
    from fgvc.errors import FgvcError, UsageError
    from fgvc.prediction.predictor import Predictor, load

__all__ = ["FgvcError", "Predictor", "TrainedRun", "UsageError", "fit", "load", "predict", "test", "validate"]

_PLACES = {
    "fgvc.errors": ("FgvcError", "UsageError"),
    "fgvc.commands.in_python": ("TrainedRun", "fit", "predict", "test", "validate"),
    "fgvc.prediction.predictor": ("Predictor", "load"),
}


def __getattr__(name: str) -> Any:
    """Import a name on first use."""
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'fgvc' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return what there is to call, also before it is imported."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
