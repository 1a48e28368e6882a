"""Whether the server of the pretrained weights answers: asked first, or a minute of retries would pass."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from huggingface_hub import constants, get_session

PATIENCE = 3.0
"""Seconds in which the server has to answer anything at all."""


@contextmanager
def asked_once() -> Iterator[str]:
    """Look for weights in the cache only, while the block lasts, where the server does not answer.

    Yields:
        Why the server is not asked; empty where it answers, or where the user said HF_HUB_OFFLINE.
    """
    before: bool = constants.HF_HUB_OFFLINE
    silent = not before and not _answers()
    try:
        constants.HF_HUB_OFFLINE = before or silent
        yield f"no answer from {urlsplit(constants.ENDPOINT).hostname}, and not in the cache" if silent else ""
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers() -> bool:
    """Ask through the client of the downloads, so proxies count; in a thread, as a look-up of the name has no limit."""
    answered = threading.Event()

    def ask() -> None:
        """Note whether there is an answer, whatever it says."""
        try:
            get_session().head(constants.ENDPOINT, timeout=PATIENCE)
            answered.set()
        except Exception:  # whatever the client of the day calls a server that is not there
            return
        finally:
            done.set()

    done = threading.Event()
    threading.Thread(target=ask, daemon=True).start()
    done.wait(2 * PATIENCE)
    return answered.is_set()
