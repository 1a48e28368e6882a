import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fgvc.data.inspection import many_files
from fgvc.data.inspection.many_files import CHUNK, in_processes, in_threads
from fgvc.errors import FgvcError


@pytest.mark.parametrize("count", [0, 1, CHUNK, 40 * CHUNK + 3])
def test_threads_answer_in_order_and_take_little_in_advance(monkeypatch, count):
    monkeypatch.setattr(many_files, "THREADS", 2)
    begun = []

    def items():
        for i in range(count):
            begun.append(i)
            yield i

    found = []
    for square in in_threads(lambda i: i * i, items()):
        found.append(square)
        assert len(begun) - len(found) <= 3 * 2 * CHUNK
    assert found == [i * i for i in range(count)]


def test_threads_work_at_the_same_time(monkeypatch):
    monkeypatch.setattr(many_files, "THREADS", 2)
    both = threading.Barrier(2, timeout=20)
    assert len(list(in_threads(lambda i: both.wait() if i % CHUNK == 0 else 0, range(2 * CHUNK)))) == 2 * CHUNK


def test_threads_stop_after_the_file_at_hand_when_nobody_takes_more(monkeypatch):
    monkeypatch.setattr(many_files, "THREADS", 2)
    done = []

    def slow(i):
        time.sleep(0.05)
        done.append(i)

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(0.3, interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        list(in_threads(slow, range(1000)))
    number = len(done)
    assert number < 100
    time.sleep(0.2)
    assert len(done) == number


def test_what_a_thread_raises_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda i: 1 // i, [1, 0]))


def test_processes_answer_in_order():
    found = list(in_processes(abs, range(-3 * CHUNK, 3 * CHUNK)))
    assert found == [abs(i) for i in range(-3 * CHUNK, 3 * CHUNK)]


def test_a_process_that_dies_is_one_line():
    with pytest.raises(
        FgvcError, match=r"^a process that reads pictures died, .*: close other programs and try again$"
    ):
        list(in_processes(os._exit, [3]))


SLEEPERS = """
import time
from fgvc.data.inspection.many_files import in_processes

if __name__ == "__main__":
    for answer in in_processes(time.sleep, [0.01] * 16 + [600] * 100):
        print("begun", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("how", ["ctrl-c", "kill"])
def test_processes_end_with_the_one_that_started_them(tmp_path, how):
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    begun = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert begun.stdout.readline() == b"begun\n"
    if how == "ctrl-c":
        os.killpg(begun.pid, signal.SIGINT)
    else:
        begun.kill()
    # the pipe of stderr is only at its end when every process that holds it is gone
    _, err = begun.communicate(timeout=30)
    assert err.count(b"Traceback") == (how == "ctrl-c")  # of the script itself, none of the workers
