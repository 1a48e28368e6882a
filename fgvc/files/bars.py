"""The progress bar of everything but a training, which has Lightning's."""

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from fgvc.files.lines import printable


def bar(doing: str, items: Iterable[Any] | None = None, *, delay: float = 1, hidden: bool = False, **how: Any) -> Any:
    """Return tqdm's bar on stderr: none where that is no terminal or for less than `delay` seconds, none left over.

    Args:
        doing: what is done; whatever a name in it holds is shown on one line.
        items: what is gone through; None for a bar that is moved by its `update`.
        delay: seconds before it appears.
        hidden: whether there is no bar in a terminal either.
        **how: `total`, `unit` and the like, see tqdm.
    """
    return tqdm(items, printable(doing), delay=delay, leave=False, disable=hidden or None, **how)


def byte_bar(doing: str, total: int | None, **how: Any) -> Any:
    """Return a bar of bytes."""
    return bar(doing, total=total, unit="B", unit_scale=True, **how)
