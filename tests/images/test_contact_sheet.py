import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from fgvc.errors import FgvcError, UsageError
from fgvc.files.whole_files import save_picture
from fgvc.images.contact_sheet import Tile, contact_sheet
from fgvc.images.lettering import as_words, shorten, write

GREEN, RED, BLUE = (46, 139, 87), (200, 69, 47), (59, 110, 165)


def plain(colour, height=40, width=60):
    return np.full((height, width, 3), colour, dtype=np.uint8)


def share(sheet, colour):
    return (sheet == np.array(colour, dtype=np.uint8)).all(axis=2)


def test_tiles_stand_in_rows_in_their_order():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    sheet = contact_sheet([Tile(plain(colour), "x", 0.5) for colour in colours], columns=2, tile_size=50)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    centres = []
    for colour in colours:
        rows, columns = np.nonzero(share(sheet, colour))
        assert len(rows) == 50 * 50
        centres.append((rows.mean(), columns.mean()))
    (first, second, third) = centres
    assert first[0] == second[0] < third[0] and first[1] == third[1] < second[1]


def test_the_centred_square_of_a_picture_is_shown():
    image = plain((255, 255, 0), 50, 150)
    image[:, 50:100] = (255, 0, 255)
    sheet = contact_sheet([Tile(image, "x", 0.5)], tile_size=50)
    assert share(sheet, (255, 0, 255)).sum() == 2500 and not share(sheet, (255, 255, 0)).any()


@pytest.mark.parametrize(("truth", "colour"), [("owl", GREEN), ("wren", RED), (None, BLUE)])
def test_the_colour_says_right_wrong_or_unknown(truth, colour):
    sheet = contact_sheet([Tile(plain((0, 0, 0)), "owl", 0.5, truth)], tile_size=96)
    assert share(sheet, colour).any()
    assert not any(share(sheet, other).any() for other in {GREEN, RED, BLUE} - {colour})
    black = share(sheet, (0, 0, 0)).sum()
    assert (black == 96 * 96) == (truth is None)  # a frame only where the truth is known


def test_the_bar_is_as_long_as_the_guess_is_sure():
    lengths = []
    for score in (0.25, 0.5, 1.0):
        sheet = contact_sheet([Tile(plain((0, 0, 0)), "", score)], tile_size=100)
        lengths.append(int(share(sheet, BLUE).sum(axis=1).max()))
    assert lengths == [25, 50, 100]


def test_guess_probability_and_truth_are_written():
    def drawn(*tile):
        return contact_sheet([Tile(plain((0, 0, 0)), *tile)], tile_size=96)

    base = drawn("owl", 0.5, "wren")
    assert np.array_equal(base, drawn("owl", 0.5, "wren"))
    for other in (("elk", 0.5, "wren"), ("owl", 0.51, "wren"), ("owl", 0.5, "robin")):
        assert not np.array_equal(base, drawn(*other))
    assert np.array_equal(drawn("barn_owl", 0.5), drawn("barn owl", 0.5))


def test_an_answer_without_a_probability_has_no_number():
    black = plain((0, 0, 0))
    without, nothing = (contact_sheet([Tile(black, "unknown", score)], tile_size=96) for score in (None, 0.0))
    right = slice(80, 104)  # where the number stands; below the bar
    assert (without[115:, right] == without[-1, -1]).all()
    assert not (nothing[115:, right] == without[-1, -1]).all()


def test_a_long_name_ends_with_an_ellipsis_inside_its_room():
    font = ImageFont.load_default(size=14)
    name = "Black-throated Green Warbler of the northern woods"
    cut = shorten(name, font, 120)
    assert cut.endswith("…") and name.startswith(cut[:-1].rstrip())
    assert 90 < font.getlength(cut) <= 120
    assert shorten("Wren", font, 120) == "Wren"
    assert shorten(name, font, 1) == "…"


def test_a_text_is_as_wide_as_it_says():
    for text in ("Wren", "Black-throated Green Warbler", "Grünspecht"):
        picture = Image.new("RGB", (200, 40), "white")
        width = write(ImageDraw.Draw(picture), text, 10, 5, 14, "black", 120)
        ink = np.nonzero((np.asarray(picture) < 128).any(axis=(0, 2)))[0]
        assert ink.min() >= 9 and abs(ink.max() - (10 + width)) <= 3 and width <= 120
    assert as_words("Barn_Owl") == "Barn Owl"


def test_nothing_is_written_over_the_next_tile():
    sheet = contact_sheet([Tile(plain((0, 0, 0)), "W" * 80, 1.0, "M" * 80)] * 2, columns=2, tile_size=100)
    paper = (250, 250, 247)
    columns = np.nonzero(share(sheet, paper).all(axis=0))[0]
    gap = 7
    assert set(range(gap)) | set(range(gap + 100, gap + 107)) | set(range(gap + 207, gap + 214)) <= set(
        columns.tolist()
    )


def test_names_in_other_letters_are_drawn_without_empty_boxes(monkeypatch):
    def drawn(name):
        return contact_sheet([Tile(plain((0, 0, 0)), name, 0.5)], tile_size=96)

    assert not np.array_equal(drawn("Grünspecht"), drawn("Grönspecht"))
    monkeypatch.setattr("fgvc.images.lettering._wide_font", lambda size: None)  # a machine without fonts
    assert np.array_equal(drawn("Grünspecht"), drawn("Grunspecht"))


@pytest.mark.parametrize("name", ["sheet.jpg", "new/sheet.PNG"])
def test_a_sheet_is_saved_as_a_picture(tmp_path, name):
    sheet = contact_sheet([Tile(plain((10, 200, 30)), "owl", 0.5)], tile_size=64)
    save_picture(sheet, tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        assert picture.format == ("PNG" if name.endswith("PNG") else "JPEG")
        assert np.abs(np.asarray(picture).astype(int) - sheet).mean() < 4
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [(tmp_path / name).name]


def test_what_cannot_be_drawn_or_saved_is_said(tmp_path):
    with pytest.raises(UsageError, match="0 pictures"):
        contact_sheet([])
    with pytest.raises(UsageError, match=r"not '\.gif'"):
        save_picture(plain((0, 0, 0)), tmp_path / "sheet.gif")
    (tmp_path / "file").write_text("")
    with pytest.raises(FgvcError, match="cannot be written"):
        save_picture(plain((0, 0, 0)), tmp_path / "file" / "sheet.jpg")
