import subprocess
import sys

import pytest

from fgvc.files.locks import lock

HOLDER = """
import sys
from fgvc.files.locks import lock
file = open(sys.argv[1], "w")
print(lock(file), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_a_file_is_held_until_its_process_ends(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "True\n"
        with path.open("a") as file:
            assert not lock(file)
        other.stdin.close()
        other.wait()
    with path.open("a") as file:
        assert lock(file) and lock(file)


def test_without_locks_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with (tmp_path / "lock").open("w") as file:
        assert lock(file)
