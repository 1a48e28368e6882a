from fakes.tiny_run import make_photos

from fgvc.report import label_page
from fgvc.report.label_page import Row, write_page


def test_a_page_shows_each_photograph_once_and_escapes_names(tmp_path):
    photos = make_photos(tmp_path / "photos", train=2, val=0, test=0)
    label, likely = "train/Larus/Larus canus", "train/Sterna/Sterna hirundo"
    row = Row(f"{label}/train0.png", "<i>a</i>, or b?", "far & away", "<i>a</i>", "b",
              [f"{label}/train1.png"], [f"{likely}/train0.png", f"{likely}/gone.png"])  # fmt: skip
    failed = write_page(tmp_path / "page.html", "audit <1>", ["fact"], [row], photos)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "gone.png" in failed
    assert page.count('src="data:image/jpeg;base64,') == 3 and page.count('class="blank"') == 1
    assert "<i>a</i>" not in page and "&lt;i&gt;a&lt;/i&gt;, or b?" in page and "far &amp; away" in page
    assert "default-src 'none'" in page


def test_a_page_has_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(label_page, "ROWS", 3)
    rows = [Row(f"{i}.png", f"title {i}", "", "a", "b", [], []) for i in range(5)]
    write_page(tmp_path / "page.html", "t", [], rows, tmp_path)
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("<section>") == 3
