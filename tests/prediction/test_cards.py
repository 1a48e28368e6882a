import base64
import io

import numpy as np
import pytest
from fakes.html_seen import Seen
from PIL import Image

from fgvc.prediction.cards import SHOWN, SIDE
from fgvc.prediction.results import Guess, Result, Results

HOSTILE = [
    "<script>alert(1)</script>",
    "' onerror='alert(1)",
    '" onload="x',
    "&lt;b&gt;",
    "</td></table><h1>",
    "a\nb\x1b[31m",
]


def result(path, label="Barn Owl", **more):
    lineage = {"family": "Owls", "species": label}
    top = [
        Guess(label, 0.75, lineage),
        Guess("Siskin", 0.125, lineage),
        Guess("c", 0.1, lineage),
        Guess("d", 0, lineage),
    ]
    return Result(path, label, 0.75, lineage, {"family": 0.8, "species": 0.75}, top, **more)


def picture_of(address):
    assert address.startswith("data:image/jpeg;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))), dtype=int)


def test_a_result_is_its_picture_and_its_names(tmp_path):
    Image.new("RGB", (300, 150), (200, 40, 40)).save(tmp_path / "a.png")
    seen = Seen(result(str(tmp_path / "a.png"))._repr_html_())
    guesses = ["Barn Owl  75.0 %", "Siskin  12.5 %", "c  10.0 %"]
    assert seen.text == [str(tmp_path / "a.png"), *guesses, "Owls > Barn Owl"]
    (address,) = seen.sources
    shown = picture_of(address)
    assert shown.shape == (SIDE // 2, SIDE, 3)
    assert abs(shown - [200, 40, 40]).max() < 8


def test_boxes_are_framed_on_the_picture(tmp_path):
    Image.new("RGB", (96, 96), (128, 128, 128)).save(tmp_path / "a.png")
    (address,) = Seen(result(str(tmp_path / "a.png"), boxes=[(0.25, 0.25, 0.75, 0.75)])._repr_html_()).sources
    far = abs(picture_of(address) - 128).max(axis=2)
    assert far[48, 20:30].max() > 60 and far[40:56, 40:56].max() < 16 and far[:12].max() < 16


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(name, tmp_path):
    file = tmp_path / name.replace("/", "_")
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    shown = result(str(file), name, answer=name, answer_level=name, answer_score=0.5, warning=name)
    shown.lineage = {"family": name, "species": name}
    seen = Seen(Results([shown, Result(name, error=name), Result(None)])._repr_html_())
    assert seen.tags == {"p", "table", "tr", "td", "img", "b", "span", "br"}
    assert seen.attributes == {"alt", "style"} and len(seen.sources) == 1
    plain = name.encode("unicode_escape").decode() if "\n" in name else name
    said = [f"{plain}  75.0 %", f"{plain} > {plain}", f"vouched for: {plain}  50.0 % ({plain})", f"warning: {plain}"]
    assert set(said) <= set(seen.text) and seen.text[-2:] == [plain, f"error: {plain}"]


def test_names_that_are_no_text_can_be_sent_to_a_browser():
    page = result("a\udc80.jpg", "b\udcff")._repr_html_()
    page.encode("utf-8")
    assert Seen(page).text[0] == "a\\udc80.jpg"


def test_many_are_cut_and_counted(tmp_path):
    results = Results([result("gone.jpg")] * 30 + [Result("x", error="x: broken")])
    seen = Seen(results._repr_html_())
    assert seen.text[0] == f"31 pictures, 1 failed; the first {SHOWN}"
    assert seen.text.count("gone.jpg") == SHOWN and seen.sources == []
    assert Seen(Results([])._repr_html_()).text == ["0 pictures, 0 failed"]
