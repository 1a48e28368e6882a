import re
from html.parser import HTMLParser

import pytest

from fgvc.report import charts
from fgvc.report.charts import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Axes, Bar, Line, percent, plain, ticks
from fgvc.report.rendering import environment


def drawn(macro, *values):
    return str(getattr(environment().get_template("charts.html.j2").module, macro)(*values))


def line_chart(*words, **more):
    return drawn("lines", charts.line_chart(*words, **more))


def reliability_diagram(*words):
    return drawn("reliability", charts.reliability_diagram(*words))


def risk_coverage_curve(*words):
    return drawn("lines", charts.risk_coverage_curve(*words))


def bars(title, rows):
    return drawn("bars", title, rows)


class Elements(HTMLParser):
    """Every element as (name, attributes), and all text."""

    def __init__(self, text):
        super().__init__()
        self.found, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def of(self, tag, kind=None):
        found = [attrs for name, attrs in self.found if name == tag]
        return [attrs for attrs in found if kind is None or kind in (attrs.get("class") or "").split()]


def numbers(text):
    return [float(word) for word in re.findall(r"-?\d+\.?\d*", text)]


def pairs(path):
    found = numbers(path)
    return list(zip(found[::2], found[1::2], strict=True))


def test_a_chart_is_whole_markup_and_says_what_it_shows():
    line = Line('loss <b>&"', [(0, 1.0), (1, 0.5)])
    for svg in (
        line_chart('a & "b"', [line], "<b>y & z"),
        bars('a & "b"', [Bar("<i>", 0.5, '"half"', (0.4, 0.6))]),
        reliability_diagram('a & "b"', [0.5, float("nan")], [0.25, float("nan")], [4, 0]),
        risk_coverage_curve('a & "b"', [0.0, 0.5], [0.0, 0.5]),
    ):
        parsed = Elements(svg)
        assert parsed.open == []
        (root,) = parsed.of("svg")
        assert root["aria-label"] == 'a & "b"' and root["role"] == "img"
        assert not parsed.of("b") and not parsed.of("i")
        assert "nan" not in svg and "http" not in svg


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (2.2, 4.5, [2.5, 3, 3.5, 4, 4.5]),
        (0, 0.01, [0, 0.002, 0.004, 0.006, 0.008, 0.01]),
        (-3, 40, [0, 10, 20, 30, 40]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_epochs_are_whole():
    assert ticks(1, 3, least=1) == [1, 2, 3]


def test_points_lie_where_the_axes_say():
    axes = Axes((0, 10), (0, 4), height=200)
    assert axes.at(0, 0) == (LEFT, 200 - BOTTOM)
    assert axes.at(10, 4) == (WIDTH - RIGHT, TOP)
    assert axes.at(5, 1) == ((LEFT + WIDTH - RIGHT) / 2, 200 - BOTTOM - (200 - TOP - BOTTOM) / 4)


def test_a_line_goes_through_its_points_and_every_point_says_its_number():
    points = [(1, 2.0), (2, 1.0), (4, 1.5)]
    parsed = Elements(line_chart("loss", [Line("train", points)], "loss"))
    axes = Axes((1, 4), (1, 2))
    (line,) = parsed.of("path", "line")
    flat = [number for point in pairs(line["d"]) for number in point]
    assert flat == pytest.approx([number for x, y in points for number in axes.at(x, y)], abs=0.06)
    assert [float(dot["cx"]) for dot in parsed.of("circle")] == pytest.approx(
        [axes.at(x, 1)[0] for x, _ in points], 0.01
    )
    assert "train: 1.5 at 4" in parsed.words


def test_lines_differ_in_class_and_the_legend_follows():
    lines = [Line(str(i), [(0, i), (1, i)]) for i in range(7)]
    kinds = [line["class"] for line in Elements(line_chart("", lines, "")).of("path", "line")]
    assert kinds == [f"line s{i % 6}" for i in range(7)]
    key = Elements(drawn("legend", lines))
    assert [line["class"] for line in key.of("path", "line")] == kinds
    assert "".join(key.words).split() == [str(i) for i in range(7)]


@pytest.mark.parametrize("value", [0.0, 0.93, 1.0])
def test_one_point_is_drawn_and_shares_stay_below_one(value):
    svg = line_chart("", [Line("top1", [(1, value)])], "", percent, most=1.0)
    parsed = Elements(svg)
    (dot,) = parsed.of("circle")
    assert TOP <= float(dot["cy"]) <= 300 - BOTTOM
    shown = [float(word.rstrip("\u00a0%")) for word in parsed.words if re.fullmatch(r"-?\d+\u00a0%", word)]
    assert max(shown) <= 100


def test_bars_are_as_long_as_their_numbers():
    parsed = Elements(bars("", [Bar("a", 0.25, "25"), Bar("b", 1.0, "100", (0.5, 1.0)), Bar("c", float("nan"), "-")]))
    full = {float(rail["width"]) for rail in parsed.of("rect", "rail")}
    assert len(full) == 1
    shares = [float(bar["width"]) / max(full) for bar in parsed.of("rect", "fill")]
    assert shares == pytest.approx([0.25, 1, 0], abs=0.001)
    (reach,) = parsed.of("path", "reach")
    start, end = numbers(reach["d"])[0], float(re.search(r"H([\d.]+)", reach["d"])[1])
    assert end - start == pytest.approx(max(full) / 2, abs=0.2)


def test_a_long_name_is_cut_but_told_whole():
    name = "a very long name of a level that has no end"
    parsed = Elements(bars("", [Bar(name, 0.5, "half")]))
    assert f"{name}: half" in parsed.words
    assert any(word.endswith("…") and name.startswith(word[:-1]) for word in parsed.words)


def test_a_bin_shows_accuracy_gap_and_number():
    svg = reliability_diagram("", [0.3, 0.8, 0.0], [0.5, 0.6, 0.0], [10, 5, 0])
    parsed, axes = Elements(svg), Axes((0, 1), (0, 1), height=330)
    edges = [numbers(edge["d"])[1] for edge in parsed.of("path", "edge")]
    assert edges == pytest.approx([axes.at(0, 0.5)[1], axes.at(0, 0.6)[1]], abs=0.06)
    unit = axes.at(0, 0)[1] - axes.at(0, 1)[1]
    gaps = [float(gap["height"]) / unit for gap in parsed.of("rect", "gap")]
    assert gaps == pytest.approx([0.2, 0.2], abs=0.001)
    many = [float(one["height"]) for one in parsed.of("rect", "many")]
    assert many[0] == pytest.approx(2 * many[1])
    assert "10 images: confidence 30\u00a0%, accuracy 50\u00a0%" in parsed.words


@pytest.mark.parametrize("images", [1, 2, 150, 5000])
def test_a_curve_of_any_length_has_few_points_and_ends_with_all_images(images):
    risk = [i / images / 2 for i in range(images)]
    line = Elements(risk_coverage_curve("", risk, risk)).of("path", "line")[0]
    points = pairs(line["d"])
    assert len(points) == min(images, 200)
    assert points[-1][0] == pytest.approx(WIDTH - RIGHT)


def test_numbers_are_written_short():
    assert (percent(0.6533), plain(2.0), plain(0.25)) == ("65\u00a0%", "2", "0.25")


def test_the_squares_of_a_confusion_matrix():
    chart = charts.confusion_chart("what", ["a", "b"], [[3, 1], [0, 4]])
    assert [(cell.words, cell.images, cell.right) for cell in chart.cells] == [
        ("a, named a: 3 of 4 images", 3, True),
        ("a, named b: 1 of 4 images", 1, False),
        ("b, named b: 4 of 4 images", 4, True),
    ]
    first, second, last = chart.cells
    assert second.left - first.left == last.top - second.top == chart.side and first.top == second.top
    assert first.opacity == pytest.approx(0.15 + 0.65 * 0.75)
    assert [middle - charts.MATRIX_LABELS for _, middle in chart.names] == [chart.side / 2, chart.side * 1.5]
    many = charts.confusion_chart("what", [str(i) for i in range(40)], [[1] * 40] * 40)
    assert many.size <= charts.MATRIX_WIDTH and len(many.cells) == 1600
