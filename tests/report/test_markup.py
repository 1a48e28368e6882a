import base64
import hashlib
from html.parser import HTMLParser

from fgvc.report.markup import SCRIPT, STYLE, chart, columns, document, picture, prose, section, table

NASTY = """<script>alert(1)</script> & "quotes" 'too' Ä 鳥"""


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

    def handle_data(self, data):
        for tag in set(self.open):
            self.texts[tag][-1] += data


def test_a_page_may_run_our_script_alone_and_load_nothing():
    page = Reader(document(NASTY, "<p>body</p>"))
    policy = next(attrs["content"] for tag, attrs in page.found if attrs.get("http-equiv") == "Content-Security-Policy")
    (script,) = page.texts["script"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert script == SCRIPT
    assert page.texts["title"] == [NASTY]
    assert dict(page.found)["html"] == {"lang": "en"}


def test_style_and_script_ask_for_no_other_file():
    for text in (STYLE, SCRIPT):
        assert "url(" not in text and "import" not in text.replace("!important", "") and "//" not in text
    assert "prefers-color-scheme:dark" in STYLE


def test_words_from_outside_are_text_wherever_they_stand():
    pieces = [
        section(NASTY, ""),
        prose(NASTY),
        chart("<svg></svg>", NASTY),
        table((NASTY, "b"), [(NASTY, NASTY), ("x", "y")], NASTY, sort=True),
        picture("data:image/jpeg;base64,AA", NASTY, NASTY, "good"),
        picture(None, NASTY, NASTY),
        columns(prose(NASTY), prose(NASTY)),
    ]
    for piece in pieces:
        page = Reader(piece)
        assert "script" not in page.texts
        assert NASTY in [text for texts in page.texts.values() for text in texts] + [
            value for _, attrs in page.found for value in attrs.values()
        ]


def test_a_table_has_heads_for_rows_and_columns_and_numbers_that_sort_by_value():
    page = Reader(table(("class", "images", "worst"), [("a", ("1,200", 1200), "b"), ("c", ("7", 7.0), "")], sort=True))
    assert page.texts["th"] == ["class", "images", "worst", "a", "c"]
    scopes = [attrs.get("scope") for tag, attrs in page.found if tag == "th"]
    assert scopes == ["col"] * 3 + ["row"] * 2
    cells = [attrs for tag, attrs in page.found if tag == "td"]
    assert [attrs.get("data-v") for attrs in cells] == ["1200", None, "7", None]
    assert [attrs.get("class") for tag, attrs in page.found if tag == "th"][:3] == [None, "n", None]
    assert {"class": "sort"} in [attrs for tag, attrs in page.found if tag == "table"]


def test_a_missing_photograph_is_a_grey_square_with_its_name():
    page = Reader(picture(None, "gull: a.jpg", "a gull"))
    assert "img" not in [tag for tag, _ in page.found]
    assert ("div", {"class": "blank", "role": "img", "aria-label": "gull: a.jpg"}) in page.found
