import base64
import hashlib
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fakes.fake_run import rows_of, write
from jinja2 import UndefinedError

import fgvc.report
from fgvc.report.page import page
from fgvc.report.rendering import environment, render, tenths
from fgvc.report.run import read

NASTY = """<script>alert(1)</script> & "quotes" 'too' Ä 鳥"""
TEMPLATES = Path(fgvc.report.__path__[0], "templates")


class Reader(HTMLParser):
    """Elements, the text of each cell, and nothing left open."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.texts = [], [], {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        for tag in set(self.open):
            self.texts[tag][-1] += data


def part(macro, *values, **more):
    return str(getattr(environment().get_template("parts.html.j2").module, macro)(*values, **more))


def test_a_page_may_run_our_script_alone_and_load_nothing(tmp_path):
    found = Reader(page(read(write(tmp_path, rows_of())), {}))
    policy = next(
        attrs["content"] for tag, attrs in found.found if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    (script,) = found.texts["script"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert script == (TEMPLATES / "report.js").read_text(encoding="utf-8").rstrip("\n")
    assert found.texts["style"] == [(TEMPLATES / "report.css").read_text(encoding="utf-8").rstrip("\n")]
    assert ("html", {"lang": "en"}) in found.found


def test_style_and_script_ask_for_no_other_file():
    for name in ("report.css", "report.js"):
        text = (TEMPLATES / name).read_text(encoding="utf-8")
        assert "url(" not in text and "import" not in text.replace("!important", "") and "//" not in text
    assert "prefers-color-scheme:dark" in (TEMPLATES / "report.css").read_text(encoding="utf-8")


def test_no_template_lets_words_pass_unescaped():
    for template in TEMPLATES.glob("*.j2"):
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", text), template.name


def test_words_from_outside_are_text_wherever_they_stand():
    pieces = [
        part("table", (NASTY, "b"), [(NASTY, NASTY), ("x", "y")], NASTY, sort=True),
        part("table", (NASTY, "b"), [("x", (NASTY, 1.0))]),
        part("photograph", "data:image/jpeg;base64,AA", NASTY, NASTY, "good"),
        part("photograph", None, NASTY, NASTY),
        part("figure", NASTY, caller=lambda: ""),
    ]
    for piece in pieces:
        found = Reader(piece)
        assert "script" not in found.texts
        assert NASTY in [text for texts in found.texts.values() for text in texts] + [
            value for _, attrs in found.found for value in attrs.values()
        ]


def test_a_table_has_heads_for_rows_and_columns_and_numbers_that_sort_by_value():
    rows = [("a", ("1,200", 1200), "b"), ("c", ("7", 7.0), "")]
    found = Reader(part("table", ("class", "images", "worst"), rows, sort=True))
    assert found.texts["th"] == ["class", "images", "worst", "a", "c"]
    scopes = [attrs.get("scope") for tag, attrs in found.found if tag == "th"]
    assert scopes == ["col"] * 3 + ["row"] * 2
    cells = [attrs for tag, attrs in found.found if tag == "td"]
    assert [attrs.get("data-v") for attrs in cells] == ["1200", None, "7", None]
    assert found.texts["td"] == ["1,200", "b", "7", ""]
    assert [attrs.get("class") for tag, attrs in found.found if tag == "th"][:3] == [None, "n", None]
    assert {"class": "sort"} in [attrs for tag, attrs in found.found if tag == "table"]


def test_a_missing_photograph_is_a_grey_square_with_its_name():
    found = Reader(part("photograph", None, "gull: a.jpg", "a gull"))
    assert "img" not in [tag for tag, _ in found.found]
    assert ("div", {"class": "blank", "role": "img", "aria-label": "gull: a.jpg"}) in found.found


def test_a_value_that_a_template_misses_is_an_error():
    with pytest.raises(UndefinedError):
        render("page.html.j2", notes=[])


def test_shares_are_written_to_a_tenth():
    assert (tenths(0.6533), tenths(1), tenths(math.nan)) == ("65.3\u00a0%", "100.0\u00a0%", "–")
