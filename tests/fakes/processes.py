"""Other processes in tests: they end with the test, and nobody watches the clock.

The one limit of a test is pytest's (`timeout` in pyproject.toml). What it cannot interrupt, such as a rendezvous of
processes, ends after PATIENCE.
"""

import subprocess
import time
from contextlib import contextmanager
from datetime import timedelta

PATIENCE = timedelta(minutes=10)


@contextmanager
def started(words, **options):
    """Start a process; it is killed and its pipes are closed when the test leaves, whatever happened."""
    with subprocess.Popen(words, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition, process):
    """Wait until a condition holds; fail where the process that brings it about has ended."""
    while not condition():
        assert process.poll() is None or condition(), process.communicate()
        time.sleep(0.02)
