from html.parser import HTMLParser

import pytest
from fakes.fake_run import ANSWERS, random_rows, rows_of, write
from scipy.stats import binomtest

from fgvc.report.page import CLASSES, page
from fgvc.report.run import read

NASTY = """<img src=x onerror=alert(1)> & "gull" 'Ä' 鳥"""
VOID = ("meta", "img")


class Reader(HTMLParser):
    """The page as sections (heading -> text), tables (first head -> rows of cells), and elements."""

    def __init__(self, text):
        super().__init__()
        self.sections, self.tables, self.found, self.open = {}, {}, [], []
        self.cell = self.heading = self.rows = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")
        elif tag == "h2":
            self.heading = ""

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self.rows[0][0]] = self.rows
        elif tag == "section":
            self.heading = None

    def handle_data(self, data):
        if "h2" in self.open:
            self.heading += data
            self.sections[self.heading] = ""
        elif self.heading is not None:
            self.sections[self.heading] += data
        if {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data

    def of(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


def shown(folder, rows=None, pictures=(), notes=(), **files):
    return Reader(page(read(write(folder, rows, **files)), dict(pictures), notes))


def tenths(value):
    return f"{value * 100:.1f}\u00a0%"


def test_accuracy_and_its_interval(tmp_path):
    rows = random_rows(101, 16, error=0.5)
    found = shown(tmp_path, rows)
    for level, accuracy, interval, images in found.tables["level"][1:]:
        right = sum(row[f"{level}_true"] == row[f"{level}_pred"] for row in rows)
        ends = binomtest(right, 101).proportion_ci(0.95, method="wilson")
        assert accuracy == tenths(right / 101)
        assert interval == f"{ends.low * 100:.1f} to {tenths(ends.high)}"
        assert images == "101"
    assert [row[0] for row in found.tables["level"][1:]] == ["family", "genus", "species"]


def test_views_have_a_table_of_their_own(tmp_path):
    rows = [row | {"species_of_crop": "kittiwake"} for row in rows_of()]
    found = shown(tmp_path, rows)
    assert found.tables["species by view"][1][:2] == ["crop", "12.5\u00a0%"]


def test_every_class_and_its_most_frequent_mistake(tmp_path):
    assert shown(tmp_path, rows_of()).tables["class"][1:] == [
        ["kittiwake", "1", "0.0\u00a0%", "house crow (1)"],
        ["herring gull", "4", "50.0\u00a0%", "common gull (2)"],
        ["common gull", "2", "50.0\u00a0%", "kittiwake (1)"],
        ["house crow", "1", "100.0\u00a0%", ""],
    ]


def test_confused_classes_with_their_kinship_and_pictures(tmp_path):
    pictures = {row: f"data:image/jpeg;base64,{row}" for row in (3, 0, 4)}
    found = shown(tmp_path, rows_of(), pictures)
    words = found.sections["Mistakes"]
    assert "herring gull taken for common gull" in words
    assert "2 of 4 images, same genus (common ancestor 1 level up)" in words
    assert "same family (common ancestor 2 levels up)" in words
    assert "another family (common ancestor 3 levels up)" in words
    assert "none of kittiwake was recognised" in words
    assert "taken for common gull, 90\u00a0% sure" in words
    shots = found.of("img")
    assert [shot["src"][-1] for shot in shots] == ["3", "0", "4", "4"]
    assert shots[0]["alt"] == "herring gull: herring gull/3.png"
    blank = [attrs["aria-label"] for attrs in found.of("div") if attrs.get("class") == "blank"]
    assert len(blank) == 9 - 4 and "common gull: common gull/5.png (not shown)" in blank


def test_calibration_and_selective_answers(tmp_path):
    found = shown(tmp_path, rows_of())

    def ece(column):  # every image has a bin of its own but those that share a fifteenth
        bins = {}
        for truth, answer, *confidence in ANSWERS:
            bins.setdefault(int(confidence[column] * 15), []).append((confidence[column], truth == answer))
        gaps = [abs(sum(c for c, _ in one) - sum(hit for _, hit in one)) for one in bins.values()]
        return sum(gaps) / len(ANSWERS)

    words = found.sections["Calibration"]
    assert f"Before calibration: ECE {ece(0):.4f}" in words
    assert f"After calibration: ECE {ece(1):.4f}" in words
    hits = [truth == answer for truth, answer, _, _ in sorted(ANSWERS, key=lambda row: -row[3])]
    risk = [1 - sum(hits[:n]) / n for n in range(1, 9)]
    assert f"is {sum(risk) / 8:.4f}" in found.sections["Answering only when sure"]
    assert found.tables["answered"][3] == ["surest 50\u00a0%", "4", tenths(risk[3])]
    assert found.tables["answered"][6] == ["surest 100\u00a0%", "8", "50.0\u00a0%"]


def test_training_curves_are_of_the_levels_and_not_of_views(tmp_path):
    metrics = (
        "epoch,step,val/a_b/top1,val/loss,val/crop/species/top1,val/species/top1,val/species/top5\n0,1,.2,2,.3,.4,.9\n"
    )
    words = shown(tmp_path, metrics_csv=metrics).sections["Training"]
    titles = [attrs["aria-label"] for attrs in shown(tmp_path, metrics_csv=metrics).of("svg") if "aria-label" in attrs]
    assert titles == [
        "loss; at the end val/loss 2",
        "accuracy of the validation images at each level; at the end a_b 20\u00a0%, species 40\u00a0%",
    ]
    assert "crop" not in words and "top5" not in words


def test_a_run_without_validation_or_curves_has_no_such_part(tmp_path):
    assert "Training" not in shown(tmp_path, rows_of()).sections
    metrics = "epoch,step,train/loss\n0,1,2.5\n1,2,1.5\n"
    found = shown(tmp_path, rows_of(), metrics_csv=metrics)
    assert "train/loss" in found.sections["Training"] and "top1" not in found.sections["Training"]


def test_a_run_without_answers_says_what_to_do(tmp_path):
    found = shown(tmp_path, metrics_csv="epoch,step,train/loss\n0,1,2.5\n")
    assert list(found.sections) == ["Accuracy", "Training"]
    assert "run `fgvc test` first" in found.sections["Accuracy"]


def test_one_image_of_one_level_speaks_of_no_kinship(tmp_path):
    row = {"path": "a.png", "class_true": "gull", "class_pred": "crow", "score": "0.5"}
    found = shown(tmp_path, [row])
    assert "ancestor" not in found.sections["Mistakes"] and "another" not in found.sections["Mistakes"]
    assert found.tables["class"][1] == ["gull", "1", "0.0\u00a0%", "crow (1)"]


def test_all_numbers_of_the_test_are_shown_whatever_they_are(tmp_path):
    final = '{"test/genus/top1": 0.5, "test/genus/top5": 0.75, "test/crop/genus/top1": 0.25, "test/hd@1": 1.25, '
    final += '"test/ece": NaN, "note": "<b>"}'
    found = shown(tmp_path, rows_of(), test_json=final)
    rows = {row[0]: row[1:] for row in found.tables["name"]}
    assert rows["hd@1"] == ["1.2500"] and rows["ece"] == ["–"] and rows["note"] == ["<b>"]
    text = page(read(tmp_path), {})
    assert "0.7500" in text and "crop/genus" in text


def test_where_it_looked(tmp_path):
    rows = [row | {"boxes": "[[0.1, 0.1, 0.5, 0.5]]"} for row in rows_of()]
    words = shown(tmp_path, rows, notes=["one note"]).sections["Where it looked"]
    assert words.count("✓") == 4 and words.count("✗") == 4
    assert "✗ house crow, is kittiwake, 35\u00a0% sure" in words
    assert "Where it looked" not in shown(tmp_path / "plain", rows_of()).sections


def test_names_cannot_break_the_page_and_nothing_is_fetched(tmp_path):
    rows = [{key: (cell if key.endswith("score") else NASTY + cell) for key, cell in row.items()} for row in rows_of()]
    renamed = [{key.replace("species", "spe<i>cies"): cell for key, cell in row.items()} for row in rows]
    found = shown(tmp_path / "<b>run", renamed, {0: "data:image/jpeg;base64,AA"}, ["<u>note</u> http://x.org"])
    tags = {tag for tag, _ in found.found}
    assert not tags & {"b", "i", "u", "link", "iframe", "object", "base", "form"}
    assert [attrs["src"] for attrs in found.of("img")] == ["data:image/jpeg;base64,AA"]
    for tag, attrs in found.found:
        for name, value in attrs.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("href", "xlink:href", "action") or value == "#main"
            assert name != "src" or value.startswith("data:image/jpeg;base64,")
    assert found.tables["class"][1][0] == NASTY + "kittiwake"


def test_headings_landmarks_and_alternatives_for_those_who_do_not_see(tmp_path):
    found = shown(tmp_path, rows_of(), {3: "data:image/jpeg;base64,AA"})
    tags = [tag for tag, _ in found.found]
    assert tags.count("h1") == tags.count("main") == tags.count("header") == 1
    assert found.of("html") == [{"lang": "en"}]
    assert all(attrs.get("aria-label") or attrs.get("aria-hidden") for attrs in found.of("svg"))
    assert all(attrs["alt"] for attrs in found.of("img"))
    assert all(attrs.get("scope") for attrs in found.of("th"))
    assert {"href": "#main", "class": "skip"} in found.of("a") and {"id": "main"} in found.of("main")


@pytest.mark.parametrize("classes", [CLASSES, 3000])
def test_of_many_classes_the_worst_are_listed_and_the_page_says_so(tmp_path, classes):
    rows = random_rows(2 * classes, classes)
    text = page(read(write(tmp_path, rows)), {})
    found = Reader(text)
    assert len(found.tables["class"]) - 1 == CLASSES
    assert (f"The {CLASSES} worst of 3,000 classes" in text) == (classes > CLASSES)
    assert len(text) < 300_000
