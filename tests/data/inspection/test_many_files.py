import os
import signal
import sys
from subprocess import PIPE

import pytest
from fakes.processes import started

from fgvc.data.inspection.many_files import CHUNK, in_processes
from fgvc.errors import FgvcError


def test_processes_answer_in_order():
    found = list(in_processes(abs, range(-3 * CHUNK, 3 * CHUNK)))
    assert found == [abs(i) for i in range(-3 * CHUNK, 3 * CHUNK)]


def test_a_process_that_dies_is_one_line():
    with pytest.raises(
        FgvcError, match=r"^a process that reads pictures died, .*: close other programs and try again$"
    ):
        list(in_processes(os._exit, [3]))


SLEEPERS = """
import signal, time
from fgvc.data.inspection.many_files import in_processes

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in a shell's background inherit deafness
    for answer in in_processes(time.sleep, [0.01] * 16 + [3600] * 100):
        print("begun", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("how", ["ctrl-c", "kill"])
def test_processes_end_with_the_one_that_started_them(tmp_path, how):
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    with started([sys.executable, str(script)], stdout=PIPE, stderr=PIPE, start_new_session=True) as begun:
        assert begun.stdout.readline() == b"begun\n"
        if how == "ctrl-c":
            os.killpg(begun.pid, signal.SIGINT)
        else:
            begun.kill()
        # the pipe of stderr is only at its end when every process that holds it is gone
        _, err = begun.communicate()
    assert err.count(b"Traceback") == (how == "ctrl-c")  # of the script itself, none of the workers
