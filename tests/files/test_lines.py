import os
import re
import sys
from pathlib import Path

import fgvc
from fgvc.files.lines import counted, print_lines, printable, tell

ODD = os.fsdecode(b"caf\xe9\n\r.jpg")


def test_any_text_fits_on_a_line():
    assert printable("Möwe 海鸥 " + ODD + "\x1b[31m") == "Möwe 海鸥 caf\\udce9\\n\\r.jpg\\x1b[31m"
    assert printable(7) == "7"


def test_every_character_is_told_as_python_tells_it():
    for character in map(chr, range(sys.maxunicode + 1)):
        expected = character if character.isprintable() else ascii(character)[1:-1]
        assert printable(character) == expected


def test_a_name_cannot_begin_a_line(capsys):
    print_lines(["one", f"two {ODD}"])
    assert capsys.readouterr().out == "one\ntwo caf\\udce9\\n\\r.jpg\n"


def test_one_is_not_many():
    assert [counted(number, "epoch") for number in (0, 1, 2)] == ["0 epochs", "1 epoch", "2 epochs"]


def test_a_message_keeps_its_lines_and_nothing_else_that_moves_a_cursor(capsys):
    tell("a\x1b[31m\n  b\r\u202e")
    tell()
    assert capsys.readouterr() == ("", "a\\x1b[31m\n  b\\r\\u202e\n\n")


def test_every_message_of_fgvc_goes_through_tell():
    package = Path(fgvc.__file__).parent
    raw = re.compile(r"print\(.*file=sys\.stderr|sys\.stderr\.write")
    found = [path.name for path in package.rglob("*.py") if raw.search(path.read_text(encoding="utf-8"))]
    assert found == ["lines.py"]
