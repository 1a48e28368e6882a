"""One process at a time: the lock of a file that is being written."""

from typing import IO, Any


def lock(file: IO[Any]) -> bool:
    """Lock an open file until it is closed or the process ends; return False where another process holds it.

    On Windows, and on a file system without locks, it says True: two processes at once are not noticed there.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return True
    return True
