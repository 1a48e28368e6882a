"""The sides that a square image may have."""

from fgvc.errors import UsageError

DEFAULT_SIDE = 224
"""Where neither config nor weights ask for another."""
MAX_SIDE = 8192
"""Of an image, in pixels."""


def check_side(key: str, side: int) -> None:
    """Raise UsageError, which names the key, for a side in pixels outside 1 .. MAX_SIDE."""
    if not 1 <= side <= MAX_SIDE:
        raise UsageError(f"{key}: {side}; it must be from 1 to {MAX_SIDE} pixels")
