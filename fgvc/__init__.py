"""fgvc: fine-grained image classification.

`fgvc.load(path)` reads a trained model; importing fgvc itself imports nothing heavy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgvc.prediction.predictor import Predictor, load

__all__ = ["Predictor", "load"]


def __getattr__(name: str) -> Any:
    """Import the prediction API on first use."""
    if name in __all__:
        from fgvc.prediction import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module 'fgvc' has no attribute {name!r}")
