import io
import re
from pathlib import Path

import fgvc
from fgvc.files.bars import bar, byte_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_is_shown_in_a_terminal_and_leaves_nothing_behind():
    screen = Terminal()
    assert list(bar("reading a\nb", [1, 2], delay=0, file=screen)) == [1, 2]
    shown = screen.getvalue()
    assert "reading a\\nb:   0%" in shown and "\n" not in shown
    assert shown.rsplit("\r", 1)[1] == "" and not shown.split("\r")[-2].strip()  # wiped at the end


def test_there_is_none_in_a_log_and_none_where_it_is_hidden():
    for screen, hidden in ((io.StringIO(), False), (Terminal(), True)):
        with byte_bar("checking", 10, delay=0, hidden=hidden, file=screen) as watched:
            watched.update(10)
        assert screen.getvalue() == ""


def test_every_bar_but_that_of_a_training_is_made_in_one_place():
    package = Path(fgvc.__file__).parent
    found = [one.name for one in package.rglob("*.py") if re.search(r"\btqdm\(", one.read_text(encoding="utf-8"))]
    assert found == ["bars.py"]
