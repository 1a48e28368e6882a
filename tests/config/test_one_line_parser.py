import pytest

from fgvc.config.one_line_parser import OneLineParser
from fgvc.errors import UsageError


def test_an_error_is_one_line_that_names_the_help():
    parser = OneLineParser(prog="fgvc x")
    parser.add_argument("--number", type=int)
    with pytest.raises(UsageError) as caught:
        parser.parse_args(["--number", "a"])
    assert str(caught.value) == "argument --number: invalid int value: 'a'; fgvc x --help says what it takes"
