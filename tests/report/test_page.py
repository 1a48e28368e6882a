import json
from html.parser import HTMLParser

import pytest
from fakes.fake_run import ANSWERS, random_rows, rows_of, write
from fakes.tiny_model import certified, saved, tiny_model
from scipy.stats import binomtest

from fgvc.confidence.vouching import GRID, Vouching
from fgvc.files.answer_table import read_answers
from fgvc.model_file.model import save
from fgvc.report import glossary
from fgvc.report.class_tables import write_tables
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
        ["kittiwake", "1", "0.0\u00a0%", "0.0\u00a0%", "0.0\u00a0%", "house crow (1)"],
        ["herring gull", "4", "50.0\u00a0%", "100.0\u00a0%", tenths(2 / 3), "common gull (2)"],
        ["common gull", "2", "50.0\u00a0%", tenths(1 / 3), "40.0\u00a0%", "kittiwake (1)"],
        ["house crow", "1", "100.0\u00a0%", "50.0\u00a0%", tenths(2 / 3), ""],
    ]


def test_classes_of_many_and_few_training_images_have_a_table(tmp_path):
    answers = read_answers(write(tmp_path, rows_of()) / "predictions_test.csv")
    species = ["house crow", "raven", "common gull", "herring gull", "kittiwake"]
    classes = {"family": ["crows", "gulls"], "genus": ["Corvus", "Larus", "Rissa"], "species": species}
    training = {"species": [30, 3, 12, 28, 2]}
    write_tables(tmp_path, answers, classes, training)
    found = Reader(page(read(tmp_path), {}))
    assert found.tables["training images"][1:] == [
        # thirds of the logarithm of 2 .. 30: up to 4.93, from 12.16 on
        ["many", "28 to 30", "2", "75.0\u00a0%", "5"],
        ["medium", "12", "1", "50.0\u00a0%", "2"],
        ["few", "2 to 3", "1 of 2", "0.0\u00a0%", "1"],  # no raven is tested
    ]
    assert [row[-1] for row in found.tables["class"]] == ["training images", "2", "28", "12", "30"]
    write_tables(tmp_path, answers, classes, {"species": [20, 3, 12, 20, 4]})
    found = Reader(page(read(tmp_path), {}))
    assert "training images" not in found.tables and found.tables["class"][0][-1] == "most frequent mistake"


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
    assert found.tables["class"][1] == ["gull", "1", "0.0\u00a0%", "–", "0.0\u00a0%", "crow (1)"]


def test_all_numbers_of_the_test_are_shown_whatever_they_are(tmp_path):
    final = '{"test/genus/top1": 0.5, "test/genus/top5": 0.75, "test/crop/genus/top1": 0.25, "test/hd@1": 1.25, '
    final += '"test/ece": NaN, "note": "<b>"}'
    found = shown(tmp_path, rows_of(), test_json=final)
    assert found.tables["other numbers"] == [["other numbers", "value"], ["ece", "–"], ["note", "<b>"]]
    assert found.tables["whole tree"] == [["whole tree", "answer"], ["hd@1", "1.2500"]]
    assert found.tables["level"][0] == ["level", "top1", "top5"]  # the last of the two tables of levels
    assert found.tables["level"][1:] == [["genus", "0.5000", "0.7500"], ["genus, crop", "0.2500", "–"]]


def test_more_ways_to_answer_make_the_tables_longer_and_not_wider(tmp_path):
    measures = ("top1", "top5", "mean_per_class", "macro_precision", "macro_f1")
    told = sorted(measures)
    ways = ("", "own/", "marginal/", "ancestor/", "crm/")
    scores = {f"test/{way}{level}/{one}": 0.5 for way in ways for level in ("genus", "species") for one in told}
    scores |= {f"test/{way}{one}": 0.5 for way in ways for one in ("full_path", "severity", "hd@1", "hd@5", "h_f1")}
    found = shown(tmp_path, rows_of(), test_json=json.dumps(scores))
    assert [len(row) for row in found.tables["level"]] == [6] * 11
    assert found.tables["whole tree"][0] == ["whole tree", "answer", "own", "marginal", "ancestor", "crm"]
    assert found.tables["level"][0] == ["level", *measures]  # in the order of the glossary
    assert [row[0] for row in found.tables["level"]][1:5] == ["genus", "species", "genus, own", "species, own"]


def test_every_name_of_a_number_says_what_it_means(tmp_path):
    final = '{"test/own/genus/top1": 0.5, "test/hd@5": 1.5, "test/ece": 0.1, "test/moved": 0.2}'
    found = shown(tmp_path, rows_of(), test_json=final)
    tips = {attrs["title"] for attrs in found.of("abbr")}
    named = [glossary.measure(name) for name in ("top1", "hd@5", "ece", "moved")]
    named += [glossary.way("own"), *(glossary.WORDS[name] for name in ("recall", "precision", "F1"))]
    assert set(named) <= tips
    words = " ".join(found.sections["What the numbers mean"].split())
    for sentence in (*named, *glossary.WORDS.values()):
        assert " ".join(sentence.split()) in words


def test_what_was_right_is_said_in_plain_words(tmp_path):
    text = page(read(write(tmp_path, rows_of())), {})
    assert "Of 8 test images, <strong>50.0\u00a0%</strong> were given the right species." in text


def test_the_confusion_matrix_is_of_the_finest_level_that_a_page_has_room_for(tmp_path):
    found = shown(tmp_path, rows_of())
    assert "Level species" in found.sections["Confusion matrix"]
    titles = found.sections["Confusion matrix"]
    assert "herring gull, named common gull: 2 of 4 images" in titles
    assert "house crow, named house crow: 1 of 1 images" in titles
    assert "herring gull, named kittiwake" not in titles  # never happened
    many = shown(tmp_path / "many", random_rows(400, 100))
    assert "Level genus" in many.sections["Confusion matrix"]  # 100 species, 25 genera
    row = {"path": "a.png", "class_true": "gull", "class_pred": "gull", "score": "0.5"}
    assert "Confusion matrix" not in shown(tmp_path / "one", [row]).sections


def test_vouched_answers_are_those_of_a_slow_loop_over_the_table(tmp_path):
    rows = rows_of(ANSWERS * 40)
    run = saved(tmp_path / "run", vouching=certified(0.55))
    found = shown(run, rows)
    words = found.sections["Answers that can be vouched for"]
    least = min(t for t in GRID if t >= 0.55)
    answered = [(truth, answer) for truth, answer, _, calibrated in ANSWERS * 40 if calibrated >= least]
    right = sum(truth == answer for truth, answer in answered)
    ends = binomtest(right, len(answered)).proportion_ci(0.95, method="wilson")
    for row in found.tables["asked"][1:]:
        assert float(row[1]) == pytest.approx(least, abs=5e-4)
        assert row[2:5] == [tenths(len(answered) / 320), "3.00 of 3", tenths(right / len(answered))]
        assert row[5] == f"{ends.low * 100:.1f} to {tenths(ends.high)}"
    assert [row[0] for row in found.tables["asked"][1:]] == ["80\u00a0%", "90\u00a0%", "95\u00a0%"]
    assert "cannot be vouched for" not in words and "the species, else the genus" in words


def test_a_precision_that_cannot_be_vouched_for_says_what_it_takes(tmp_path):
    few = Vouching((20,) * len(GRID), (0,) * len(GRID))
    found = shown(saved(tmp_path / "run", vouching=few), rows_of())
    assert found.tables["asked"][3] == ["95\u00a0%", *["–"] * 5]
    assert "A precision of 0.95 cannot be vouched for" in found.sections["Answers that can be vouched for"]
    assert "Answers that can be vouched for" not in shown(saved(tmp_path / "none"), rows_of()).sections


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_gain_of_calibration_is_told_of_images_that_fitted_nothing(tmp_path, split):
    model = tiny_model()
    told = {"split": split, "images": 97, "ece_before": {"species": 0.2}, "ece_after": {"species": 0.05}}
    model.provenance["calibration"] = told
    save(model, tmp_path / "run" / "model")
    found = shown(tmp_path / "run", rows_of())
    words = " ".join(found.sections["Calibration"].split())
    assert f"one half of the 97 {'validation' if split == 'val' else 'test'} images fitted" in words
    assert "the other 48 were held out" in words and ("They fitted the temperatures" in words) == (split == "test")
    assert [row[1:] for row in found.tables["level"][1:] if row[0] == "species"][-1] == ["0.2000", "0.0500"]


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
