"""Commands whose streams the shell closed, filled or gave to nobody."""

import io
import os
import subprocess
import sys

import pytest

from fgvc.files import streams

FGVC = f"{sys.executable} -m fgvc"
OWN = f"{sys.executable} -c 'import sys; from fgvc.files import streams; streams.open_all(); "


def shell(line):
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("where", "why"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")])
@pytest.mark.parametrize("words", ["configs", "--help", "--version"])
def test_output_that_cannot_be_written_is_one_line(words, where, why):
    assert shell(f"{FGVC} {words} {where}") == (1, "", f"fgvc: stdout: cannot be written ({why})\n")


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full", "2>&- <&-"])
def test_messages_that_cannot_be_written_are_dropped(where):
    code, out, err = shell(f"{FGVC} configs {where}")
    assert (code, err) == (0, "") and "whole_image" in out
    assert shell(f"{FGVC} predcit {where}") == (2, "", "")


def test_messages_that_nobody_reads_do_not_stop_the_work():
    loop = 'for i in range(20000): print("x" * 80, file=sys.stderr)'
    code, out, _ = shell(f'({OWN}\n{loop}\nprint("done")\' 2>&3 | cat) 3> >(head -c 1 >/dev/null)')
    assert (code, out) == (0, "done\n")


def test_a_closed_stream_is_no_number_for_the_next_file(tmp_path):
    code, _, err = shell(f'{OWN} print(open(sys.argv[1], "w").fileno() > 2, file=sys.stderr)\' {tmp_path}/new >&- <&-')
    assert (code, err) == (0, "True\n")


def test_closed_input_says_so_only_when_it_is_read():
    assert shell(f"{OWN} print(sys.stdin is not None)' <&-") == (0, "True\n", "")
    code, _, err = shell(f"{OWN} next(sys.stdin.buffer)' <&-")
    assert code == 1
    assert err.endswith("fgvc.errors.UsageError: stdin: closed; there is nothing to read on it\n")


def test_open_streams_work_as_before():
    code, out, err = shell(f'echo in | {OWN} sys.stdout.write(input()); print("told", file=sys.stderr)\'')
    assert (code, out, err) == (0, "in", "told\n")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_data_reach_a_terminal_without_control_characters():
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        streams.for_data(stream).write("a\x1b[2J,b\r\nc\x9b\n")
    assert terminal.getvalue() == "a\\x1b[2J,b\nc\\x9b\n"
    assert file.getvalue() == "a\x1b[2J,b\r\nc\x9b\n"


def test_in_a_real_terminal_nothing_moves_the_cursor():
    pty = pytest.importorskip("pty")
    parent, child = pty.openpty()
    say = (
        "import sys; from fgvc.files import streams; from fgvc.files.lines import tell; streams.open_all();"
        "streams.for_data(sys.stdout).write(chr(27) + '[2Jx\\n'); tell(chr(27) + ']0;y' + chr(7))"
    )
    subprocess.run([sys.executable, "-c", say], stdout=child, stderr=child, check=True, timeout=600)
    os.close(child)
    assert os.read(parent, 1000).replace(b"\r\n", b"\n") == b"\\x1b[2Jx\n\\x1b]0;y\\x07\n"
    os.close(parent)
